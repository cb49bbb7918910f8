"""What the lines of a Codex app server mean for one of its turns (JSON-RPC, as version 0.169 speaks it)."""

import json
from collections.abc import Iterator
from typing import Any, Protocol

from longwick.events import Event, EventType, notice
from longwick.models import JsonObject
from longwick.profiles import MCP_NAME
from longwick.text import shorten
from longwick.transcript import Transcript
from worker.agents import Ask, End, Meant, Reply
from worker.agents.failing import provider_failure
from worker.agents.lines import line_of, parse_object, understand

QUIET = (
    # Of no use to a reader: its own bookkeeping, and what is told by the completed item once more.
    *("thread/", "turn/started", "turn/diff", "turn/plan", "mcpServer/", "account/", "remoteControl/", "hook/"),
    *("item/reasoning/summaryPartAdded", "item/commandExecution/", "item/fileChange/", "item/mcpToolCall/"),
    *("warning", "configWarning", "deprecationNotice", "model/", "skills/", "serverRequest/", "rawResponseItem/"),
    *("item/plan/", "app/", "fs/", "windows/", "guardianWarning", "item/autoApprovalReview"),
)
TOOLS = {"commandExecution", "fileChange", "mcpToolCall", "dynamicToolCall", "webSearch", "imageView"}
USAGE = {
    "inputTokens": "input_tokens",
    "cachedInputTokens": "cache_read_input_tokens",
    "outputTokens": "output_tokens",
    "reasoningOutputTokens": "reasoning_output_tokens",
}


class Asker(Protocol):
    """The side that asks the server, and knows what for."""

    def asked_for(self, request_id: object) -> str | None: ...
    def begin(self, thread: str) -> Iterator[bytes]: ...


class CodexStream:
    """One turn's output."""

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self.thread = ""
        self.turn = ""
        """The turn that runs now, once it does."""
        self.at_rest = False
        """It has come to its end, and the thread could take another."""
        self._commands: dict[str, JsonObject] = {}

    def translate(self, line: bytes, shown: Transcript, asker: Asker) -> Iterator[Meant]:
        return understand(line, parse_object(line), shown, lambda said: self._mean(said, shown, asker))

    def _mean(self, said: JsonObject, shown: Transcript, asker: Asker) -> Iterator[Meant]:
        if "method" not in said:
            return self._answered(said, asker)
        if "id" in said:
            return self._asked(said)
        return self._told(said["method"], said.get("params") or {}, shown)

    def _answered(self, said: JsonObject, asker: Asker) -> Iterator[Meant]:
        method = asker.asked_for(said.get("id"))
        if "error" in said:
            words = str(said["error"].get("message"))
            if method in ("thread/start", "thread/inject_items", "turn/start"):
                code = "mcp_unavailable" if "MCP server" in words else "agent_error"
                yield End(error_code=code, error_message=f"Codex could not begin: {words}")
            elif method:
                yield notice("warning", "refused", f"Codex refused {method}: {shorten(words)}")
        elif method == "thread/start":
            self.thread = said["result"]["thread"]["id"]
            yield from (Reply(data) for data in asker.begin(self.thread))
        elif method == "turn/start":
            self.turn, self.at_rest = said["result"]["turn"]["id"], False

    def _asked(self, said: JsonObject) -> Iterator[Meant]:
        """It wants something of us: leave for a tool, or what nobody here can give."""
        params, request_id = said["params"], json.dumps(said["id"])
        match said["method"]:
            case "item/commandExecution/requestApproval":
                given = {name: params.get(name) for name in ("command", "cwd", "reason") if params.get(name)}
                yield Ask(request_id, "shell", self._commands.get(params["itemId"], {}) | given, params["itemId"])
            case "item/fileChange/requestApproval":
                yield Ask(request_id, "apply_patch", self._commands.get(params["itemId"], {}), params["itemId"])
            case method:
                refused = {"code": -32601, "message": "nobody is here to answer that"}
                yield Reply(line_of({"id": said["id"], "error": refused}))
                yield notice("info", "unknown_message", f"Codex asked for {method!r}, and was refused.")

    def _told(self, method: str, params: JsonObject, shown: Transcript) -> Iterator[Meant]:
        match method:
            case "item/started":
                yield from self._begun(params["item"], shown)
            case "item/agentMessage/delta":
                yield from self._text(self._named(params["itemId"]), params["delta"], shown)
            case "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta":
                data = {"reasoning_id": self._named(params["itemId"]), "text": params["delta"]}
                yield Event(EventType.REASONING_DELTA, data)
            case "item/completed":
                yield from self._done(params["item"], shown)
            case "thread/tokenUsage/updated":
                total = params["tokenUsage"]["total"]
                yield Event(EventType.USAGE_UPDATED, {ours: total[name] for name, ours in USAGE.items()})
            case "error" if params.get("willRetry"):
                # What was not finished comes again from its beginning.
                yield from _withdraw(shown)
                why = params["error"].get("additionalDetails") or params["error"]["message"]
                yield notice("info", "retrying", f"The provider failed ({shorten(why)}); trying again.")
            case "error":
                return
            case "turn/completed":
                yield from self._over(params["turn"], shown)
            case _ if not method.startswith(QUIET):
                yield notice("info", "unknown_message", f"Codex sent a message of unknown type {shorten(method)!r}.")

    def _named(self, item: str) -> str:
        return f"{item}.{self._attempt}"

    def _text(self, block: str, text: str, shown: Transcript) -> Iterator[Event]:
        if shown.open_message != block:
            yield from shown.close_reasoning()
            yield from shown.close_messages(partial=False)
            yield Event(EventType.MESSAGE_STARTED, {"message_id": block})
        if text:
            yield Event(EventType.MESSAGE_DELTA, {"message_id": block, "text": text})

    def _begun(self, item: JsonObject, shown: Transcript) -> Iterator[Event]:
        if item["type"] in TOOLS:
            yield from shown.close_reasoning()
            yield from shown.close_messages(partial=False)
            name, given = _tool(item)
            self._commands[item["id"]] = given
            yield Event(EventType.TOOL_STARTED, {"tool_call_id": item["id"], "name": name, "input": given})

    def _done(self, item: JsonObject, shown: Transcript) -> Iterator[Event]:
        block = self._named(item["id"])
        match item["type"]:
            case "agentMessage":
                yield from self._text(block, "", shown)
                yield Event(EventType.MESSAGE_COMPLETED, {"message_id": block, "text": item["text"], "partial": False})
            case "reasoning":
                yield from shown.close_reasoning()
            case kind if kind in TOOLS:
                output, failed = _came_of(item)
                data = {"tool_call_id": item["id"], "output": output, "is_error": failed}
                yield Event(EventType.TOOL_COMPLETED, data)

    def _over(self, turn: JsonObject, shown: Transcript) -> Iterator[Meant]:
        self.turn = ""
        if turn["status"] == "completed":
            self.at_rest = True
            yield End(takes_more=True)
        elif turn["status"] == "interrupted":
            yield End(error_code="agent_error", error_message="The turn was interrupted.")
        else:
            yield _failure(turn.get("error") or {})


def _withdraw(shown: Transcript) -> Iterator[Event]:
    yield from shown.close_reasoning()
    if shown.open_message:
        data = {"message_id": shown.open_message, "text": "", "partial": True}
        yield Event(EventType.MESSAGE_COMPLETED, data)


def _tool(item: JsonObject) -> tuple[str, JsonObject]:
    """How a tool is called here, and what it is given."""
    match item["type"]:
        case "mcpToolCall":
            return f"mcp__{item['server']}__{item['tool']}", item["arguments"] or {}
        case "commandExecution":
            return "shell", {"command": item["command"], "cwd": item["cwd"]}
        case "fileChange":
            return "apply_patch", {"changes": item["changes"]}
        case kind:
            about = {name: value for name, value in item.items() if name not in ("id", "type", "status") and value}
            return str(item.get("tool") or kind), about


def _came_of(item: JsonObject) -> tuple[Any, bool]:
    """The output of a tool, and whether it failed."""
    failed = item.get("status") in ("failed", "declined")
    match item["type"]:
        case "mcpToolCall":
            if item.get("error"):
                return item["error"]["message"], True
            content = (item.get("result") or {}).get("content") or []
            texts = [part["text"] if part.get("type") == "text" else f"({part.get('type')})" for part in content]
            return "\n".join(texts), failed
        case "commandExecution":
            return item.get("aggregatedOutput") or "", failed or item.get("exitCode") not in (0, None)
        case _:
            return item.get("status"), failed


def _failure(error: JsonObject) -> End:
    """What made a turn fail, for people."""
    words, info = str(error.get("message") or "it gives no reason"), error.get("codexErrorInfo")
    status = next((about.get("httpStatusCode") for about in info.values()), None) if isinstance(info, dict) else None
    if "content_filter" in words or info in ("cyberPolicy", "misalignmentPolicyViolation"):
        return End(error_code="agent_error", error_message=f"The model refuses to answer. {words}")
    if info == "contextWindowExceeded":
        return End(error_code="provider_error", error_message="The conversation is longer than the model can read.")
    if info == "sessionBudgetExceeded":
        return End(error_code="budget_exceeded", error_message=words)
    if MCP_NAME in words and "MCP" in words:
        return End(error_code="mcp_unavailable", error_message=words)
    return End(error_code="provider_error", error_message=provider_failure(status or info, words))
