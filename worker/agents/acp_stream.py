"""What an agent says over the Agent Client Protocol while its turn lasts.

As Gemini CLI 0.61, claude-agent-acp 0.49 and codex-acp 0.16 say it, each in its own way.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from longwick.events import Event, EventType, notice
from longwick.models import JsonObject
from longwick.text import shorten
from longwick.transcript import Transcript
from worker.agents.acp_end import usage_of, words_of

QUIET = {
    # Of no use to a reader: what one could do with the agent beside talking to it, and its own lists.
    *("available_commands_update", "current_mode_update", "config_option_update", "session_info_update"),
    *("plan", "user_message_chunk"),
}
CODEX_TOOL = re.compile(r"Tool: (\w+)/(\w+)")
GEMINI_TOOL = re.compile(r"(\w+) \((\w+) MCP Server\)")
GEMINI_CALL = re.compile(r"mcp_([a-z]+)_(\w+?)__")
CODEX_WARNING = re.compile(r"Model metadata for `|Heads up: Long threads ")
CODEX_NOISE = {
    # In the input of its shell; no two of them are the same, and none says what is to be done.
    *("call_id", "turn_id", "process_id", "started_at_ms", "source", "parsed_cmd"),
    *("available_decisions", "proposed_execpolicy_amendment"),
}


@dataclass(slots=True)
class _Call:
    """A tool call, as far as it is known."""

    name: str = ""
    input: JsonObject = field(default_factory=dict)
    started: bool = False
    ended: bool = False


class AcpStream:
    """One turn's updates."""

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self.work = "."
        """The workspace, which is another folder in each attempt, and nothing that a reader needs to know."""
        self._blocks = 0
        self._message: str | None = None
        """Which of the model's messages the open block is of, where the agent says so."""
        self._calls: dict[str, _Call] = {}
        self._cost: float | None = None

    def update(self, said: JsonObject, shown: Transcript) -> Iterator[Event]:
        match said["sessionUpdate"]:
            case "agent_message_chunk" if CODEX_WARNING.match(_text_of(said["content"])):
                yield notice("warning", "agent_warning", _text_of(said["content"]))
            case "agent_message_chunk":
                yield from self._text(_text_of(said["content"]), said.get("messageId"), shown)
            case "agent_thought_chunk":
                yield from self._thought(_text_of(said["content"]), shown)
            case "tool_call" | "tool_call_update":
                yield from self.tool(said, shown)
            case "usage_update":
                cost = said.get("cost") or {}
                if cost.get("currency") == "USD":
                    self._cost = cost["amount"]
            case other if other not in QUIET:
                yield notice("info", "unknown_message", f"The agent sent an update of unknown type {shorten(other)!r}.")

    def tool(self, said: JsonObject, shown: Transcript, *, asked: bool = False) -> Iterator[Event]:
        """A call, or more of it. It is told once its input is known; some agents tell of it only when it is over."""
        key, status, title = said["toolCallId"], said.get("status"), said.get("title") or ""
        call = self._calls.setdefault(key, _Call())
        call.name = call.name or _name_of(said)
        given = self._given(said)
        if not given and not call.input and asked:
            # What somebody is to allow must be seen.
            given = {"title": title, "about": _output_of(said).replace(self.work, ".")}
        call.input = given or call.input
        if not call.started and (call.input or asked or status not in (None, "pending")):
            call.started = True
            yield from shown.close_reasoning()
            yield from shown.close_messages(partial=False)
            started = {"tool_call_id": key, "name": call.name or "tool", "input": call.input}
            yield Event(EventType.TOOL_STARTED, started)
        if status in ("completed", "failed") and not call.ended:
            call.ended = True
            over = {"tool_call_id": key, "output": _output_of(said), "is_error": status == "failed"}
            yield Event(EventType.TOOL_COMPLETED, over)

    def known(self, key: str) -> tuple[str, JsonObject]:
        """The name and the input of a call."""
        call = self._calls[key]
        return call.name or "tool", call.input

    def used(self, result: JsonObject) -> Iterator[Event]:
        """What the turn has used, where its end says so."""
        usage: JsonObject = usage_of(result)
        if self._cost is not None:
            usage["cost_usd"] = self._cost
        if usage:
            yield Event(EventType.USAGE_UPDATED, usage)

    def withdraw(self, error: JsonObject, shown: Transcript) -> Iterator[Event]:
        """Take from the answer the error that the turn has ended with: Claude says it there, too."""
        words = words_of(error)
        if shown.open_message and shown.last_block.endswith(words):
            text = shown.last_block.removesuffix(words)
            withdrawn = {"message_id": shown.open_message, "text": text, "partial": True}
            yield Event(EventType.MESSAGE_COMPLETED, withdrawn)

    def _given(self, said: JsonObject) -> JsonObject:
        raw = said.get("rawInput")
        if not isinstance(raw, dict):
            return {}
        if CODEX_TOOL.fullmatch(said.get("title") or ""):
            raw = raw.get("arguments") or {}
        told = {name: value for name, value in raw.items() if name not in CODEX_NOISE or "call_id" not in raw}
        here: JsonObject = json.loads(json.dumps(told).replace(json.dumps(self.work)[1:-1], "."))
        return here

    def _text(self, text: str, message: str | None, shown: Transcript) -> Iterator[Event]:
        if text or shown.open_message:
            yield from shown.close_reasoning()
        if not text or message != self._message:
            # So it says that another block begins.
            yield from shown.close_messages(partial=False)
            block = None
        else:
            block = shown.open_message
        self._message = message
        if text:
            if block is None:
                block = self._new_block("blk")
                yield Event(EventType.MESSAGE_STARTED, {"message_id": block})
            yield Event(EventType.MESSAGE_DELTA, {"message_id": block, "text": text})

    def _thought(self, text: str, shown: Transcript) -> Iterator[Event]:
        block = shown.open_reasoning
        if block is None and not text.strip():
            return
        yield from shown.close_messages(partial=False)
        yield Event(EventType.REASONING_DELTA, {"reasoning_id": block or self._new_block("rsn"), "text": text})

    def _new_block(self, prefix: str) -> str:
        self._blocks += 1
        return f"{prefix}_{self._attempt}_{self._blocks}"


def _name_of(said: JsonObject) -> str:
    """The tool's name, `mcp__SERVER__TOOL` for one of a server's; where an agent gives none, of what kind it is.

    Only what the agent itself writes counts: the model could write anything into the input of a tool.
    """
    title, kind = said.get("title") or "", said.get("kind")
    if name := ((said.get("_meta") or {}).get("claudeCode") or {}).get("toolName"):
        return str(name)
    if kind not in (None, "other"):
        # Its title may be what the model says of it.
        return str(kind)
    if found := CODEX_TOOL.fullmatch(title):
        return f"mcp__{found[1]}__{found[2]}"
    if found := GEMINI_TOOL.fullmatch(title):
        return f"mcp__{found[2]}__{found[1]}"
    if found := GEMINI_CALL.match(said["toolCallId"]):
        return f"mcp__{found[1]}__{found[2]}"
    return str(title)


def _output_of(said: JsonObject) -> str:
    raw = said.get("rawOutput")
    if isinstance(raw, dict) and isinstance(raw.get("formatted_output"), str):
        raw = raw["formatted_output"]
    texts = [_text_of(part.get("content") or part) for part in said.get("content") or []]
    return raw if isinstance(raw, str) else "\n".join(texts)


def _text_of(content: JsonObject) -> str:
    match content:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "diff", "path": path}:
            return f"(changes {path})"
        case {"type": kind}:
            return f"({kind})"
    return ""
