"""What the lines of Claude Code mean (`--output-format stream-json`, as versions 2.1.197 and 2.1.330 write them)."""

import json
from collections.abc import Iterator
from typing import Any

from longwick.events import Event, EventType, notice
from longwick.models import JsonObject
from longwick.profiles import MCP_NAME
from longwick.text import shorten
from longwick.transcript import Transcript
from worker.agents import Ask, End, Meant
from worker.agents.failing import provider_failure
from worker.agents.lines import parse, understand

QUIET = {
    # Of no use to a reader: its own bookkeeping.
    *("status", "thinking_tokens", "hook_started", "hook_response", "hook_progress", "informational"),
    *("compact_boundary", "task_started", "task_progress", "task_notification", "files_persisted", "session_state"),
    *("task_updated", "background_tasks_changed"),
}


class ClaudeStream:
    """One turn's output."""

    def __init__(self, attempt: int, *, wants_mcp: bool) -> None:
        self._attempt = attempt
        self._wants_mcp = wants_mcp
        self._message = ""
        self._blocks: dict[int, str] = {}
        """Of the model's message that is being written: position -> block id, until it is complete."""
        self._inputs: dict[int, tuple[str, str]] = {}
        """The same for the input of a tool: its call, and its name."""
        self._running: set[str] = set()
        self._failed: tuple[str, str] | None = None
        self._used: dict[str, int] = {}
        self._at_rest = False

    def takes_more(self) -> bool:
        """Whether a message that is written now becomes part of the turn: a tool runs, or it has just come to rest."""
        at_rest, self._at_rest = self._at_rest, False
        return bool(self._running) or at_rest

    def translate(self, line: bytes, shown: Transcript) -> Iterator[Meant]:
        return understand(line, parse(line), shown, lambda said: self._mean(said, shown))

    def _mean(self, said: JsonObject, shown: Transcript) -> Iterator[Meant]:
        match said["type"]:
            case "system":
                yield from self._system(said)
            case "stream_event":
                yield from self._piece(said["event"], said.get("parent_tool_use_id"), shown)
            case "assistant":
                yield from self._assistant(said, shown)
            case "user":
                yield from self._results(said)
            case "control_request" if said["request"]["subtype"] == "can_use_tool":
                asked = said["request"]
                yield Ask(said["request_id"], asked["tool_name"], asked.get("input") or {}, asked.get("tool_use_id"))
            case "result":
                yield from self._result(said, shown)
            case "control_response" | "control_cancel_request" | "keep_alive" | "command_lifecycle":
                return
            case "rate_limit_event" | "tool_progress" | "tool_use_summary" | "prompt_suggestion" | "auth_status":
                return
            case other:
                yield notice("info", "unknown_message", f"The agent sent a message of unknown type {shorten(other)!r}.")

    def _system(self, said: JsonObject) -> Iterator[Meant]:
        match said.get("subtype"):
            case "init":
                status = {server["name"]: server["status"] for server in said["mcp_servers"]}.get(MCP_NAME, "missing")
                if self._wants_mcp and status != "connected":
                    # It would go on without a word, and without our tools.
                    words = f"The agent could not reach Longwick's tools (its MCP server is {status})."
                    yield End(error_code="mcp_unavailable", error_message=words, kill=True)
            case "api_retry":
                why = said.get("error_status") or said.get("error") or "no answer"
                words = f"The provider failed ({why}); trying again ({said['attempt']} of {said['max_retries']})."
                yield notice("info", "retrying", words)
            case "permission_denied":
                words = f"The agent may not use {said.get('tool_name', 'this tool')}."
                yield notice("info", "tool_denied", words)
            case "model_refusal_no_fallback":
                yield notice("info", "refused", "The model refuses to answer.")
            case subtype if subtype not in QUIET:
                yield notice("info", "unknown_message", f"The agent sent a message of unknown type {subtype!r}.")

    def _piece(self, event: JsonObject, parent: str | None, shown: Transcript) -> Iterator[Event]:
        """A piece of what the model writes; of a sub-agent only the tools are shown, for the rest is its parent's."""
        match event["type"]:
            case "message_start" if parent is None:
                # Of a message that was cut off and is asked for again, nothing stands.
                yield from self._withdraw(shown)
                self._message = event["message"]["id"]
            case "content_block_start" if parent is None:
                yield from self._open(event["index"], event["content_block"], shown)
            case "content_block_delta" if parent is None:
                yield from self._add(event["index"], event["delta"])
            case "content_block_stop" if parent is None:
                block = self._blocks.pop(event["index"], "")
                if block == shown.open_message:
                    yield from shown.close_messages(partial=False)
                elif block == shown.open_reasoning:
                    yield from shown.close_reasoning()
                self._inputs.pop(event["index"], None)

    def _open(self, index: int, block: JsonObject, shown: Transcript) -> Iterator[Event]:
        name = f"{self._message}.{self._attempt}.{index}"
        match block["type"]:
            case "text":
                yield from self._start(name, shown)
                self._blocks[index] = name
            case "thinking":
                self._blocks[index] = name
            case "tool_use":
                yield from shown.close_reasoning()
                yield from shown.close_messages(partial=False)
                self._inputs[index] = (block["id"], block["name"])

    def _add(self, index: int, delta: JsonObject) -> Iterator[Event]:
        match delta["type"]:
            case "text_delta":
                yield Event(EventType.MESSAGE_DELTA, {"message_id": self._blocks[index], "text": delta["text"]})
            case "thinking_delta" if delta["thinking"]:
                data = {"reasoning_id": self._blocks[index], "text": delta["thinking"]}
                yield Event(EventType.REASONING_DELTA, data)
            case "input_json_delta" if delta["partial_json"]:
                call, name = self._inputs[index]
                data = {"tool_call_id": call, "name": name, "text": delta["partial_json"]}
                yield Event(EventType.TOOL_DELTA, data)

    def _start(self, block: str, shown: Transcript) -> Iterator[Event]:
        yield from shown.close_reasoning()
        yield from shown.close_messages(partial=False)
        yield Event(EventType.MESSAGE_STARTED, {"message_id": block})

    def _withdraw(self, shown: Transcript) -> Iterator[Event]:
        yield from shown.close_reasoning()
        if shown.open_message:
            data = {"message_id": shown.open_message, "text": "", "partial": True}
            yield Event(EventType.MESSAGE_COMPLETED, data)
        self._blocks.clear()
        self._inputs.clear()

    def _assistant(self, said: JsonObject, shown: Transcript) -> Iterator[Event]:
        """A block that is complete; it was streamed before, unless the provider does not stream."""
        message, parent = said["message"], said.get("parent_tool_use_id")
        if said.get("error") or message.get("model") == "<synthetic>":
            words = " ".join(block["text"] for block in message["content"] if block["type"] == "text")
            self._failed = (str(said.get("error") or "unknown"), words)
            return
        for place, block in enumerate(message["content"]):
            match block["type"]:
                case "tool_use":
                    yield from self._tool(block, parent)
                case "text" if parent is None and message["id"] != self._message and block["text"]:
                    name = f"{message['id']}.{self._attempt}.whole{place}"
                    yield from self._start(name, shown)
                    data = {"message_id": name, "text": block["text"], "partial": False}
                    yield Event(EventType.MESSAGE_COMPLETED, data)
                case "text" if parent is None and shown.open_message and said.get("aborted"):
                    yield from shown.close_messages(partial=True)

    def _tool(self, block: JsonObject, parent: str | None) -> Iterator[Event]:
        self._running.add(block["id"])
        data: JsonObject = {"tool_call_id": block["id"], "name": block["name"], "input": block["input"]}
        yield Event(EventType.TOOL_STARTED, data | ({"parent_tool_call_id": parent} if parent else {}))

    def _results(self, said: JsonObject) -> Iterator[Event]:
        """Results of tools; texts here are the CLI's own words to the model, never the user's."""
        content = said["message"]["content"]
        for block in content if isinstance(content, list) else []:
            if block["type"] == "tool_result":
                self._running.discard(block["tool_use_id"])
                data = {
                    "tool_call_id": block["tool_use_id"],
                    "output": _output(block.get("content")),
                    "is_error": bool(block.get("is_error")),
                }
                yield Event(EventType.TOOL_COMPLETED, data)

    def _result(self, said: JsonObject, shown: Transcript) -> Iterator[Meant]:
        # Of this turn, while the dollars are those of the whole process.
        for name, number in (said.get("usage") or {}).items():
            if isinstance(number, int) and name.endswith("_tokens"):
                self._used[name] = self._used.get(name, 0) + number
        yield Event(EventType.USAGE_UPDATED, {**self._used, "cost_usd": said.get("total_cost_usd")})
        self._running.clear()
        if not said.get("is_error") and said.get("subtype") == "success" and said.get("stop_reason") != "refusal":
            made = said.get("structured_output")
            yield from self._unstreamed(said.get("result") if made is None else json.dumps(made), shown)
            self._at_rest = True
            yield End(takes_more=True)
            return
        code, words = self._failure(said)
        yield End(error_code=code, error_message=words)

    def _unstreamed(self, text: Any, shown: Transcript) -> Iterator[Event]:
        """An answer of which nothing has come before."""
        if isinstance(text, str) and text and not shown.text:
            name = f"result.{self._attempt}"
            yield from self._start(name, shown)
            yield Event(EventType.MESSAGE_COMPLETED, {"message_id": name, "text": text, "partial": False})

    def _failure(self, said: JsonObject) -> tuple[str, str]:
        errors = "; ".join(map(str, said.get("errors") or []))
        words = str(said.get("result") or errors or "it gives no reason")
        match said.get("subtype"):
            case "error_max_turns":
                return (
                    "budget_exceeded",
                    f"The agent has asked the model {said.get('num_turns')} times, as it may.",
                )
            case "error_max_budget_usd":
                return (
                    "budget_exceeded",
                    f"The agent has used {said.get('total_cost_usd') or 0:.2f} USD, more than it may.",
                )
        if said.get("stop_reason") == "refusal":
            return "agent_error", f"The model refuses to answer. {words}"
        if said.get("terminal_reason") == "prompt_too_long":
            return "provider_error", f"The conversation is longer than the model can read ({words})."
        kind, told = self._failed or ("", "")
        if kind or said.get("api_error_status"):
            return "provider_error", provider_failure(said.get("api_error_status") or kind, told or words)
        return "agent_error", words


def _output(content: Any) -> Any:
    """What a tool has answered: its text where it is nothing else, and no pictures."""
    if not isinstance(content, list):
        return content
    texts = [block["text"] if block["type"] == "text" else f"({block['type']})" for block in content]
    return "\n".join(texts)
