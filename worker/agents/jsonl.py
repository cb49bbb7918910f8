"""Any CLI that reads and writes JSON lines, as docs/agents.md describes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longwick.approvals import Decision
from longwick.events import Event, EventType, notice
from longwick.models import JsonObject
from longwick.profiles import Profile
from longwick.text import shorten
from longwick.transcript import Transcript
from worker.agents import Ask, End, Launch, Turn
from worker.agents.lines import line_of, parse, unreadable

NAME_CHARACTERS = 1000
USAGE_CHARACTERS = 10_000


class JsonLines:
    """One turn of such a CLI."""

    def __init__(self, profile: Profile, turn: Turn) -> None:
        self._profile = profile
        self._turn = turn
        self._blocks = 0

    def launch(self, work: Path, home: Path) -> Launch:
        turn = self._turn
        history = [{"role": said.role, "text": said.text} for said in turn.history]
        return Launch(
            self._profile.command,
            {},
            line_of(
                {"type": "user", "text": turn.text, "history": history} | ({"shown": turn.shown} if turn.shown else {})
            ),
        )

    def interrupt(self) -> bytes:
        return line_of({"type": "cancel"})

    def steer(self, text: str) -> bytes | None:
        return line_of({"type": "user", "text": text}) if self._profile.steer else None

    def answer(self, ask: Ask, decision: Decision) -> bytes:
        raise AssertionError("it has no way to ask")

    def translate(self, line: bytes, shown: Transcript) -> Iterator[Event | End]:
        said = parse(line)
        if said is None:
            yield from unreadable(line)
            return
        try:
            yield from self._mean(said, shown)
        except (KeyError, TypeError) as error:
            wrong = (
                f"The agent's {shorten(said['type'])!r} message lacks or misuses {error}: {shorten(json.dumps(said))}"
            )
            yield notice("warning", "unreadable_line", wrong)

    def _mean(self, said: JsonObject, shown: Transcript) -> Iterator[Event | End]:
        match said["type"]:
            case "text":
                yield from self._text(_string(said, "text"), shown)
            case "thinking":
                block = shown.open_reasoning or self._new_block("rsn")
                yield Event(EventType.REASONING_DELTA, {"reasoning_id": block, "text": _string(said, "text")})
            case "tool_use":
                call, name, given = _name(said, "id"), _name(said, "name"), said.get("input", {})
                yield from shown.close_reasoning()
                yield from shown.close_messages(partial=False)
                yield Event(EventType.TOOL_STARTED, {"tool_call_id": call, "name": name, "input": given})
            case "tool_result":
                yield Event(
                    EventType.TOOL_COMPLETED,
                    {
                        "tool_call_id": _name(said, "id"),
                        "output": said.get("output"),
                        "is_error": bool(said.get("is_error", False)),
                    },
                )
            case "usage":
                usage = {name: value for name, value in said.items() if name != "type"}
                if len(json.dumps(usage)) > USAGE_CHARACTERS:
                    raise TypeError("its members (a few numbers)")
                yield Event(EventType.USAGE_UPDATED, usage)
            case "result":
                yield from self._result(_string(said, "text") if said.get("text") is not None else None, shown)
            case "error":
                code = said.get("code")
                message = str(said.get("message") or "The agent reported an error without a message.")
                yield End(error_code="agent_error", error_message=f"{message} ({code})" if code else message)
            case other:
                yield notice("info", "unknown_message", f"The agent sent a message of unknown type {shorten(other)!r}.")

    def _text(self, text: str, shown: Transcript) -> Iterator[Event]:
        yield from shown.close_reasoning()
        block = shown.open_message
        if block is None:
            block = self._new_block("blk")
            yield Event(EventType.MESSAGE_STARTED, {"message_id": block})
        yield Event(EventType.MESSAGE_DELTA, {"message_id": block, "text": text})

    def _result(self, text: str | None, shown: Transcript) -> Iterator[Event | End]:
        """The answer is what was streamed, unless the result says otherwise: then that is shown too."""
        if text is not None and text not in (shown.text, shown.last_block):
            yield from shown.close_reasoning()
            block = shown.open_message
            if block is None and text:
                yield from self._text(text, shown)
            elif block is not None:
                yield Event(EventType.MESSAGE_COMPLETED, {"message_id": block, "text": text, "partial": False})
        yield End(text=text)

    def _new_block(self, prefix: str) -> str:
        self._blocks += 1
        return f"{prefix}_{self._turn.attempt}_{self._blocks}"


def _string(said: JsonObject, name: str) -> str:
    value: Any = said[name]
    if not isinstance(value, str):
        raise TypeError(f"{name!r} (a string)")
    return value


def _name(said: JsonObject, name: str) -> str:
    value = _string(said, name)
    if len(value) > NAME_CHARACTERS:
        raise TypeError(f"{name!r} (at most {NAME_CHARACTERS} characters)")
    return value
