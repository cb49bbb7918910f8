"""What the demo agent can make, and what it understands of a request: patterns and templates, no model."""

import re
from collections.abc import Callable
from typing import NamedTuple

SLOW_SECONDS = 10.0
SLOWEST_SECONDS = 600.0


class Request(NamedTuple):
    """What the user wants, and what was said before."""

    text: str
    earlier_messages: int
    earlier_requests: list[str]


class Talent(NamedTuple):
    """One kind of file that the demo can make of a topic, and the words that ask for it."""

    name: str
    ending: str
    media_type: str
    words: re.Pattern[str]
    make: Callable[[str], str]


class Plan(NamedTuple):
    """What was understood of a request; 0 seconds is the usual pace."""

    topic: str
    talent: Talent | None
    file_name: str
    seconds: float
    recalls: bool


def understand(request: Request) -> Plan:
    """Find topic, talent, file name and pace in the words of a request."""
    named = FILE_NAME.search(request.text)
    talent = _talent(request.text, named[2].lower() if named else "")
    # “Now draw it” has no topic of its own: it means the last one.
    topics = [_topic(request.text), _clean(named[1]) if named else "", *map(_topic, reversed(request.earlier_requests))]
    topic = next(filter(None, topics), "Candle")
    file_name = ""
    if talent:
        slug = re.sub(r"[\W_]+", "-", topic.lower())[:40].strip("-")
        file_name = named[0] if named else f"{slug}-{talent.name}.{talent.ending}"
    seconds = 0.0
    if duration := DURATION.search(request.text):
        seconds = min(float(duration[1]) * (60 if duration[2].lower().startswith("m") else 1), SLOWEST_SECONDS)
    elif SLOW.search(request.text):
        seconds = SLOW_SECONDS
    return Plan(topic, talent, file_name, seconds, bool(RECALL.search(request.text)))


def thoughts(plan: Plan, request: Request) -> str:
    """The plan in words, as it is thought aloud."""
    said = f"Words in the request: {len(request.text.split())}; messages before it: {request.earlier_messages}. "
    if plan.talent:
        said += f"It asks for a {plan.talent.name}. The topic is “{plan.topic}”, so I will make {plan.file_name}. "
    else:
        said += "It asks for no file that I could make, so I will just answer. "
    if plan.seconds:
        said += f"It wants me slow, so I will take about {plan.seconds:g} s. "
    return said


def short(text: str, limit: int = 120) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _talent(text: str, ending: str) -> Talent | None:
    """By the ending of a file that is named, then by the first word that fits; a note only where nothing else does."""
    fitting = [talent for talent in TALENTS if ending in ("", talent.ending)]
    if RECALL.search(text) and not ending:
        return None
    found = [(talent.name == "note", word.start(), talent) for talent in fitting if (word := talent.words.search(text))]
    return min(found)[2] if found else fitting[-1] if ending else None


def _topic(text: str) -> str:
    for noise in (FILE_NAME, DURATION, SLOW):
        text = noise.sub(" ", text)
    found = (_clean(END_OF_TOPIC.split(match[1])[0]) for about in ABOUT if (match := about.search(text)))
    return next(filter(None, found), "")


def _clean(words: str) -> str:
    """One printable line without an article, which begins with a letter or digit: no formula, no Markdown."""
    words = "".join(character if character.isprintable() else " " for character in words)
    words = re.sub(r"^[\W_]*(?:(?:an?|the|some)\s+)?[\W_]*", "", words, flags=re.I).rstrip(" .,\"'“”")
    words = short(words, 60)
    return words[:1].upper() + words[1:]


def _haiku(topic: str) -> str:
    return f"# {topic}\n\n{topic} —  \na long wick burns through the night,  \nnothing has been lost.\n"


def _table(topic: str) -> str:
    items = [item for part in re.split(r",|\band\b", topic) if (item := _clean(part))]
    quoted = [(item.replace('"', '""'), sum(map(str.isalpha, item))) for item in items]
    rows = [f'{number},"{item}",{letters}' for number, (item, letters) in enumerate(quoted, 1)]
    return "\r\n".join(["number,item,letters", *rows, ""])


def _drawing(topic: str) -> str:
    title = _escape(topic)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 240" role="img">
  <title>{title}</title>
  <rect width="320" height="240" fill="#1d1a2b"/>
  <circle cx="160" cy="70" r="56" fill="#f6b73c" opacity="0.2"/>
  <path d="M160 30 C 190 66 172 88 160 88 C 148 88 130 66 160 30" fill="#f6b73c"/>
  <rect x="140" y="96" width="40" height="92" rx="4" fill="#f4ead7"/>
  <text x="160" y="220" fill="#f4ead7" font-family="serif" font-size="16" text-anchor="middle">{title}</text>
</svg>
"""


def _page(topic: str) -> str:
    title = _escape(topic)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>body {{ font: 1.2rem/1.6 serif; max-width: 36rem; margin: 3rem auto }}</style>
<h1>{title}</h1>
<p>A page about {title}, made by Longwick's demo agent.</p>
</html>
"""


def _note(topic: str) -> str:
    return f"# {topic}\n\nA note about {topic}, made by Longwick's demo agent.\n"


def _escape(text: str) -> str:
    """For words between tags, in HTML and XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.I | re.S)


FILE_NAME = _pattern(r"(?<![\w/.-])(\w[\w.-]{0,60})\.(md|csv|svg|html)\b")
RECALL = _pattern(r"\b(?:did|have|had) i (?:just )?(?:ask|say|said|tell|told|want)|\bdo you remember\b")
DURATION = _pattern(
    r",?\s*\b(?:for|wait|take|over)\s+(?:about\s+)?(\d{1,9}(?:\.\d{1,9})?)\s*(s|sec|second|min|minute)s?\b"
)
SLOW = _pattern(r",?\s*\b(?:very\s+)?slow(?:ly)?\b")
ABOUT = (
    _pattern(r"\babout\s+(.+)"),
    _pattern(r"\b(?:of|on|for|with|showing|called|titled)\s+(.+)"),
    _pattern(r"\b(?:draw|sketch)\s+(?:me\s+)?((?!it\b).+)"),
)
END_OF_TOPIC = _pattern(
    r"[.!?;:\n]|,?\s+(?:please|called|titled|and\s+(?:then\s+)?(?:save|call|name|store|put|take|wait))\b"
    r"|,?\s+(?:as|in|into|to)\s+an?\s+(?:\w+\s+)?(?:file|page|picture|drawing|table|csv|svg|html)\b"
)
TALENTS = (
    Talent("haiku", "md", "text/markdown", _pattern(r"\b(?:haiku|poem)s?\b"), _haiku),
    Talent("table", "csv", "text/csv", _pattern(r"\b(?:csv|tables?|spreadsheets?)\b"), _table),
    Talent(
        "drawing", "svg", "image/svg+xml", _pattern(r"\b(?:svg|draw|drawings?|pictures?|images?|sketch)\b"), _drawing
    ),
    Talent("page", "html", "text/html", _pattern(r"\b(?:html|(?:web ?)?pages?|websites?)\b"), _page),
    Talent("note", "md", "text/markdown", _pattern(r"\b(?:notes?|files?|save|markdown|documents?)\b"), _note),
)
MENU = """Try one of:

- Write a haiku about rain
- Make a CSV table of apples, pears and plums
- Draw a candle, slowly
- Make an HTML page about tea"""
