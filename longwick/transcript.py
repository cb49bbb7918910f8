"""What the events of a run add up to: the text shown so far, and the blocks that are still open."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from longwick import events
from longwick.database import Db
from longwick.events import PAGE_BYTES, Event, EventType


@dataclass(slots=True)
class Block:
    """A piece of what an agent has done: a text of its answer, or (with a `tool`) a call and, in `text`, its result."""

    text: str = ""
    tool: str | None = None
    tool_call_id: str = ""
    input: Any = None
    is_error: bool = False
    by_user: bool = False
    """What the user has added meanwhile."""


class Transcript:
    """A fold over a run's events, the same for the worker that makes them and for the sweeper that finds them."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._open_messages: list[str] = []
        self._cut: set[str] = set()
        self._reasoning: dict[str, list[str]] = {}
        self._open_tools: list[str] = []
        self._used: dict[str, Any] = {}

    def add(self, kind: EventType, data: dict[str, Any]) -> None:
        """Take the next event into account."""
        match kind:
            case EventType.MESSAGE_STARTED:
                self._texts[data["message_id"]] = []
                self._open_messages.append(data["message_id"])
            case EventType.MESSAGE_DELTA:
                self._texts.setdefault(data["message_id"], []).append(data["text"])
            case EventType.MESSAGE_COMPLETED:
                if data["text"] is not None:
                    self._texts[data["message_id"]] = [data["text"]]
                if data["message_id"] in self._open_messages:
                    self._open_messages.remove(data["message_id"])
                if data["partial"]:
                    self._cut.add(data["message_id"])
            case EventType.REASONING_DELTA:
                self._reasoning.setdefault(data["reasoning_id"], []).append(data["text"])
            case EventType.REASONING_COMPLETED:
                self._reasoning.pop(data["reasoning_id"], None)
            case EventType.TOOL_STARTED:
                self._open_tools.append(data["tool_call_id"])
            case EventType.TOOL_COMPLETED:
                if data["tool_call_id"] in self._open_tools:
                    self._open_tools.remove(data["tool_call_id"])
            case EventType.USAGE_UPDATED:
                self._used = data

    def add_all(self, several: Iterable[Event]) -> None:
        """Take several."""
        for event in several:
            self.add(event.type, event.data)

    @property
    def usage(self) -> dict[str, Any] | None:
        """What the agent has used, as it says it, without the money."""
        return {name: count for name, count in self._used.items() if name != "cost_usd"} or None

    @property
    def cost_usd(self) -> float | None:
        """Dollars, if the agent has said a number of a size that money has."""
        cost = self._used.get("cost_usd")
        if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < 1e12:
            return None
        return float(cost)

    @property
    def text(self) -> str:
        """The answer as it was streamed: the message blocks, a blank line between them.

        A block that was cut short goes on in the next one: so an answer stays one that took two attempts.
        """
        whole, between = "", ""
        for block, parts in self._texts.items():
            if text := "".join(parts):
                whole += between + text
                between = "" if block in self._cut else "\n\n"
        return whole

    @property
    def last_block(self) -> str:
        """The text of the newest message block."""
        return "".join(next(reversed(self._texts.values()), []))

    @property
    def open_message(self) -> str | None:
        """The id of the message block that is open, if one is."""
        return self._open_messages[-1] if self._open_messages else None

    @property
    def open_reasoning(self) -> str | None:
        """The id of the reasoning block that is open, if one is."""
        return next(reversed(self._reasoning), None)

    def close_reasoning(self) -> list[Event]:
        """What completes the open reasoning blocks."""
        return [
            Event(EventType.REASONING_COMPLETED, {"reasoning_id": block, "text": "".join(parts)})
            for block, parts in self._reasoning.items()
        ]

    def close_messages(self, *, partial: bool) -> list[Event]:
        """What completes the open message blocks; `partial` says that more was to come."""
        return [
            Event(
                EventType.MESSAGE_COMPLETED,
                {"message_id": block, "text": "".join(self._texts[block]), "partial": partial},
            )
            for block in self._open_messages
        ]

    def close(self, *, partial: bool) -> list[Event]:
        """What completes everything that is open, so that every text that was shown has a completed event."""
        tools = [
            Event(
                EventType.TOOL_COMPLETED,
                {"tool_call_id": call, "output": None, "is_error": True, "partial": True},
            )
            for call in self._open_tools
        ]
        return [*self.close_reasoning(), *self.close_messages(partial=partial), *tools]


def of_run(db: Db, run_id: str) -> Transcript:
    """What a run has shown, as far as the record goes."""
    shown = Transcript()
    for kind, data in _events(db, run_id):
        shown.add(kind, data)
    return shown


def blocks(db: Db, run_id: str) -> list[Block]:
    """What the agent of a run has said and done so far, in order, as it can be told to one that is to go on.

    A call whose result is not known is left out, unless it has saved a file: then that is its result.
    """
    found: dict[str, Block] = {}
    answered: set[str] = set()
    saved: dict[str, str] = {}
    for kind, data in _events(db, run_id):
        match kind:
            case EventType.MESSAGE_DELTA:
                found.setdefault(data["message_id"], Block()).text += data["text"]
            case EventType.MESSAGE_COMPLETED:
                # A value that is too large for the log was streamed before.
                block = found.setdefault(data["message_id"], Block())
                block.text = block.text if data["text"] is None else data["text"]
            case EventType.INPUT_DELIVERED:
                found[data["message_id"]] = Block(data["text"], by_user=True)
            case EventType.TOOL_STARTED if "parent_tool_call_id" not in data:
                call = data["tool_call_id"]
                found[call] = Block("", data["name"], call, data["input"])
            case EventType.TOOL_COMPLETED if data["tool_call_id"] in found and not data.get("partial"):
                block = found[data["tool_call_id"]]
                block.text, block.is_error = _as_text(data["output"]), data["is_error"]
                answered.add(block.tool_call_id)
            case EventType.ARTIFACT_SAVED if data["tool_call_id"]:
                # It may come before its call is told.
                artifact = data["artifact"]
                saved[data["tool_call_id"]] = f"Saved {artifact['name']} (version {artifact['version']})."
    for call in saved.keys() & found.keys() - answered:
        found[call].text = saved[call]
        answered.add(call)
    return [block for block in found.values() if (block.tool_call_id in answered if block.tool else block.text)]


def _as_text(output: Any) -> str:
    if output is None:
        return "(its output is too large to be repeated)"
    return output if isinstance(output, str) else json.dumps(output)


def _events(db: Db, run_id: str) -> Iterator[tuple[EventType, dict[str, Any]]]:
    after = 0
    while batches := events.read(db, run_id, after, enough_bytes=PAGE_BYTES):
        for batch in batches:
            for _, line in batch.after(after):
                event = json.loads(line)
                yield EventType(event["type"]), event["data"]
        after = batches[-1].last_seq
