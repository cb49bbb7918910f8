"""A line of a CLI as JSON, and what to say of one that is none."""

import json
import math
from collections.abc import Callable, Iterator
from typing import TypeVar

from longwick.events import Event, EventType, notice
from longwick.models import JsonObject
from longwick.text import clean, clean_json, shorten
from longwick.transcript import Transcript


def parse(line: bytes) -> JsonObject | None:
    """The JSON object with a type that a line is, or None."""
    said = parse_object(line)
    return said if said is not None and isinstance(said.get("type"), str) else None


def parse_object(line: bytes) -> JsonObject | None:
    """The JSON object that a line is, or None."""
    try:
        said = clean_json(_decoder.decode(line.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


Item = TypeVar("Item")
TEXTS = {"text", "message_id", "reasoning_id", "tool_call_id", "name"}


def understand(
    line: bytes, said: JsonObject | None, shown: Transcript, mean: Callable[[JsonObject], Iterator[Item]]
) -> Iterator[Item | Event]:
    """What a line means; a notice where it is no message, or none as the CLI was known to write them."""
    if said is None:
        yield from unreadable(line)
        return
    try:
        for meant in mean(said):
            if isinstance(meant, Event):
                _check(meant, shown)
            yield meant
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        words = f"A message is not as it was known to be ({error!r}): {shorten(json.dumps(said))}"
        yield notice("info", "unknown_message", words)


def _check(event: Event, shown: Transcript) -> None:
    """What is text or a name in every event is so, and a piece is one of the text that is open, whatever a CLI says."""
    for name in TEXTS & event.data.keys():
        if not isinstance(event.data[name], str):
            raise TypeError(f"{name!r} is no text")
    if event.type is EventType.MESSAGE_DELTA and event.data["message_id"] != shown.open_message:
        raise ValueError("a piece of a text that is over")


def line_of(message: JsonObject) -> bytes:
    """The message as a CLI reads it."""
    return json.dumps(message).encode() + b"\n"


def unreadable(line: bytes) -> Iterator[Event]:
    """The notice of a line that is no message; nothing for one that is blank."""
    text = clean(line.decode("utf-8", "replace"))
    if text.strip():
        yield notice("warning", "unreadable_line", f"The agent printed what is no message: {shorten(text)}")


def _finite(digits: str) -> float | None:
    """The number, or null: Python reads NaN and the infinities, which are no JSON, and nobody else does."""
    number = float(digits)
    return number if math.isfinite(number) else None


_decoder = json.JSONDecoder(parse_constant=lambda name: None, parse_float=_finite)
