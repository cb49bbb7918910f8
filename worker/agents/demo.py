"""The demo agent: a real program with canned talents and no model behind it, to try Longwick without any key.

Speaks the jsonl protocol on stdin and stdout, as any agent may: `python -P -m worker.agents.demo`. It imports nothing
but the standard library, and the slow parts of that on demand, so that it starts in a blink.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

PIECE_SECONDS = 0.015
SLOW_SECONDS = 10.0
SLOWEST_SECONDS = 600.0
SAVE_SECONDS = 30.0


class Stopped(Exception):
    """The run was cancelled: end the turn with what was said so far."""


class BadInput(Exception):
    """A line on stdin that is no part of the protocol."""


class Request(NamedTuple):
    """What the user wants, and what was said before."""

    text: str
    earlier_messages: int
    earlier_requests: list[str]


class Reply(NamedTuple):
    """What the MCP server answered."""

    text: str
    failed: bool


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


Inbox: TypeAlias = SimpleQueue[dict[str, Any] | BadInput | Reply]


def main() -> int:
    """Serve one turn; the exit status."""
    # One queue for stdin, SIGINT and the MCP server: its put() may be called in a signal handler, an Event's set() not.
    inbox: Inbox = SimpleQueue()
    signal.signal(signal.SIGINT, lambda *_: inbox.put({"type": "cancel"}))
    Thread(target=_read_stdin, args=(inbox,), daemon=True).start()
    turn = Turn(inbox)
    try:
        answer(turn, turn.wait_for_request())
    except Stopped:
        pass
    except BadInput as error:
        turn.send("error", code="bad_input", message=str(error))
        return 1
    turn.finish()
    return 0


def answer(turn: "Turn", request: Request) -> None:
    """The whole turn: think aloud, make the file that was asked for, talk about it."""
    plan = understand(request)
    url, token = os.environ.get("LONGWICK_MCP_URL"), os.environ.get("LONGWICK_MCP_TOKEN")
    turn.think(thoughts(plan, request))
    turn.say("I am Longwick's **demo agent**: my talents are canned, and there is no model behind me.")
    if request.earlier_requests:
        last = _short(request.earlier_requests[-1])
        turn.say(f"Earlier messages in this thread: {request.earlier_messages}. You last asked: “{last}”.")
    if plan.talent:
        content = plan.talent.make(plan.topic)
        if url and token:
            reply = turn.save(url, token, plan.file_name, content, plan.talent.media_type)
            # The words behind the marker ARTIFACT_CREATED:{json}| are for people.
            turn.say(f"It was **not** saved: {reply.text}" if reply.failed else reply.text.rpartition("|")[2])
        else:
            turn.say("This run has no session with the MCP server, so nothing was saved.")
        shown = "\n".join(content.splitlines())
        turn.say(f"Here is **{plan.file_name}**:\n\n```{plan.talent.ending}\n{shown}\n```")
    elif not RECALL.search(request.text):
        turn.say(f"You wrote: “{_short(request.text)}”. I have no thoughts on that, but I make small files. {MENU}")
    elif not request.earlier_requests:
        turn.say("You have asked me nothing before: this thread begins here.")
    if plan.seconds:
        _count(turn, plan.seconds)
    turn.say("That is all I can do.")
    turn.mention_added()


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
    return Plan(topic, talent, file_name, seconds)


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


class Turn:
    """One turn as seen from the agent: all that it sends, and all that may arrive meanwhile."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.blocks: list[str] = [""]
        self.added: list[str] = []
        self.words_read = 0

    def send(self, kind: str, **fields: object) -> None:
        """Write one line of the protocol, in ASCII: the locale decides nothing."""
        sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")
        sys.stdout.flush()

    def wait_for_request(self) -> Request:
        """The first line, however long it takes: who started us decides when to give it."""
        message = self.inbox.get()
        self._take(message)
        if not self.added or not isinstance(message, dict):
            raise BadInput("the first line must be of type user")
        try:
            history = [(str(entry["role"]), str(entry["text"])) for entry in message.get("history") or []]
        except (KeyError, TypeError) as error:
            raise BadInput("history must be a list of {role, text}") from error
        text = self.added.pop()
        self.words_read = sum(len(said.split()) for said in (text, *(said for _, said in history)))
        return Request(text, len(history), [said for role, said in history if role == "user"])

    def think(self, text: str) -> None:
        """Stream a thought."""
        for piece in PIECE.findall(text):
            self.send("thinking", text=piece)
            self._wait(monotonic() + PIECE_SECONDS)

    def say(self, text: str, *, glue: str = "\n\n", seconds: float | None = None) -> None:
        """Stream a part of the answer, by default a paragraph, evenly over `seconds` where they are given."""
        pieces = PIECE.findall(glue + text if self.blocks[-1] else text)
        pause = PIECE_SECONDS if seconds is None else seconds / len(pieces)
        start = monotonic()
        for number, piece in enumerate(pieces, 1):
            self.blocks[-1] += piece
            self.send("text", text=piece)
            self._wait(start + number * pause)

    def save(self, url: str, token: str, name: str, content: str, media_type: str) -> Reply:
        """Call save_artifact on the MCP server; a failure is a reply too."""
        call_id = f"toolu_{os.urandom(12).hex()}"
        arguments = {"name": name, "content": content, "media_type": media_type}
        self.blocks.append("")
        self.send("tool_use", id=call_id, name="mcp__longwick__save_artifact", input=arguments)
        reply = Reply("stopped before the MCP server answered", failed=True)
        # In a thread of its own, so that a cancel is heard while the server is silent.
        Thread(target=lambda: self.inbox.put(_save_artifact(url, token, call_id, arguments)), daemon=True).start()
        try:
            reply = self._wait(monotonic() + SAVE_SECONDS) or Reply(
                "the MCP server did not answer in time", failed=True
            )
        finally:
            self.send("tool_result", id=call_id, output=reply.text, is_error=reply.failed)
        return reply

    def mention_added(self) -> None:
        """Say what the user added while the answer was on its way."""
        while self.added:
            self.say(f"> Meanwhile you added: “{_short(self.added.pop(0))}”. I heard it.")

    def finish(self) -> None:
        """End the turn with all that was said."""
        text = "\n\n".join(filter(None, self.blocks))
        # Words: without a model there are no tokens to count.
        self.send("usage", input_tokens=self.words_read, output_tokens=len(text.split()), cost_usd=0)
        self.send("result", text=text)

    def _wait(self, until: float) -> Reply | None:
        """Let time pass and take what comes; only a reply of the MCP server ends it early."""
        while True:
            try:
                message = self.inbox.get(timeout=max(0.0, until - monotonic()))
            except Empty:
                return None
            if isinstance(message, Reply):
                return message
            self._take(message)

    def _take(self, message: dict[str, Any] | BadInput | Reply) -> None:
        if isinstance(message, BadInput):
            raise message
        if isinstance(message, dict) and message["type"] == "cancel":
            raise Stopped
        if isinstance(message, dict) and message["type"] == "user":
            self.added.append(message["text"])


def _read_stdin(inbox: Inbox) -> None:
    # Not sys.stdin: Python aborts at exit when a thread still holds the lock of that one.
    with open(0, "rb", closefd=False) as stdin:
        for line in filter(bytes.strip, stdin):
            inbox.put(_parse(line))
    # Matters only to a turn without a request; one that was piped in by hand is served to its end.
    inbox.put({"type": "end"})


def _parse(line: bytes) -> dict[str, Any] | BadInput:
    try:
        message = json.loads(line)
    except ValueError as error:
        return BadInput(f"not JSON: {error}")
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return BadInput("each line must be a JSON object with a type")
    if message["type"] == "user" and not isinstance(message.get("text"), str):
        return BadInput("a user line must have a text")
    return message


def _save_artifact(url: str, token: str, call_id: str, arguments: dict[str, str]) -> Reply:
    # Here, because it takes longer to import than all the rest, and many answers save nothing.
    import urllib.request
    from http.client import HTTPException
    from urllib.error import HTTPError

    params = {"name": "save_artifact", "arguments": arguments, "_meta": {"longwick/callId": call_id}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-06-18",
    }
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, json.dumps(call).encode(), headers)  # noqa: S310 - the worker's own URL
        with direct.open(request, timeout=SAVE_SECONDS) as response:
            answer = json.load(response)
        if "error" in answer:
            return Reply(f"the MCP server refused: {answer['error']['message']}", failed=True)
        text = "\n".join(part["text"] for part in answer["result"]["content"] if part["type"] == "text")
        return Reply(text, failed=bool(answer["result"].get("isError")))
    except HTTPError as error:
        return Reply(f"the MCP server answered {error.code} {error.reason}", failed=True)
    except (OSError, HTTPException) as error:
        return Reply(f"the MCP server cannot be reached: {getattr(error, 'reason', error)}", failed=True)
    except (ValueError, KeyError, TypeError) as error:
        return Reply(f"the MCP server's answer makes no sense: {error!r}", failed=True)


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
    words = _short(words, 60)
    return words[:1].upper() + words[1:]


def _count(turn: Turn, seconds: float) -> None:
    """Fill the time with a line a second, so that the answer never stands still."""
    lines = max(1, round(seconds))
    turn.say("You want me slow, so I count:")
    for line in range(1, lines + 1):
        said = f"- second {line * seconds / lines:g} of {seconds:g}"
        turn.say(said, glue="\n\n" if line == 1 else "\n", seconds=seconds / lines)
        turn.mention_added()


def _short(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


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


PIECE = _pattern(r"\s*(?:\S{1,24}\s*){1,2}")
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


if __name__ == "__main__":
    sys.exit(main())
