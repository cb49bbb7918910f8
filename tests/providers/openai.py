"""A Responses API, as Codex speaks it, and Chat Completions, as others do; they stream only."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from providers.script import Call, Conversation, Cut, Failure, Json, Message, Pause, Stop, Text, Thought, Usage, answer
from providers.serving import Provider, Reply, Request

ERRORS = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded", 503: "server_is_overloaded"}
INPUT_TOKENS = 100
"""What each request costs, unless its script says otherwise; an answer costs a token a piece."""


class OpenAI(Provider):
    """A model API for a `base_url` that ends in `/v1`."""

    def answer(self, request: Request, reply: Reply) -> None:
        path = request.path.partition("?")[0]
        if request.method == "POST" and path == "/v1/responses":
            body = request.body
            offered = dict(_offered(body.get("tools") or []))
            _Stream(self, body["model"], offered, reply).play(answer(self._conversation(body, list(offered))))
        elif request.method == "POST" and path == "/v1/chat/completions":
            self._complete(request.body, reply)
        elif request.method == "GET" and path == "/v1/models":
            reply.json({"object": "list", "data": [], "models": []})
        else:
            reply.json(_error(404, f"there is no {request.method} {path}"), 404)

    def _complete(self, body: Json, reply: Reply) -> None:
        """Words only, and what they have used where that is asked for."""
        messages = [Message(message["role"], [message["content"]]) for message in body["messages"]]
        about: Json = {"id": f"chatcmpl_{next(self.ids):06}", "object": "chat.completion.chunk", "model": body["model"]}
        said = 0
        for piece in answer(Conversation(body["model"], "", messages, [], [], self.failures)):
            if isinstance(piece, Text):
                said += 1
                reply.event({**about, "choices": [{"index": 0, "delta": {"content": piece.text}}]})
        reply.event({**about, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            details = {"prompt_tokens_details": {"cached_tokens": 20}}
            used = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": said, "total_tokens": INPUT_TOKENS + said}
            reply.event({**about, "choices": [], "usage": {**used, **details}})
        reply.event("[DONE]")
        reply.end()

    def _conversation(self, body: Json, tools: list[str]) -> Conversation:
        images: list[tuple[str, int]] = []
        messages = [_message(item, images) for item in body["input"]]
        told = [text for message in messages if message.role in ("developer", "system") for text in message.texts]
        system = "\n".join([body.get("instructions") or "", *told])
        said = [message for message in messages if message.role not in ("developer", "system")]
        return Conversation(body["model"], system, said, tools, images, self.failures)


class _Stream:
    """One streamed response."""

    def __init__(self, provider: OpenAI, model: str, offered: dict[str, Json], reply: Reply) -> None:
        self._provider = provider
        self._offered = offered
        self._reply = reply
        self._serial = 0
        self._pieces = 0
        self._usage: Usage | None = None
        self._output: list[Json] = []
        self._open: tuple[type, int] | None = None
        self._item: Json = {}
        self._response: Json = {
            "id": self._id("resp"),
            "object": "response",
            "model": model,
            "status": "in_progress",
            "output": [],
        }

    def play(self, pieces: Iterator[Any]) -> None:
        for piece in pieces:
            match piece:
                case Pause():
                    self._reply.pause(piece.seconds)
                case Failure() if not self._reply.begun:
                    self._reply.json(_error(piece.status), piece.status)
                case Failure():
                    self._end("failed", error=_error(piece.status)["error"])
                case Usage():
                    self._usage = piece
                case Cut():
                    self._begin()
                    self._reply.cut()
                case Stop("limit"):
                    self._end("incomplete", incomplete_details={"reason": "max_output_tokens"})
                case Stop("refusal"):
                    self._end("incomplete", incomplete_details={"reason": "content_filter"})
                case Stop():
                    self._end("completed")
                case Text() | Thought():
                    self._say(piece)
                case Call():
                    self._call(piece)

    def _say(self, piece: Text | Thought) -> None:
        thought = isinstance(piece, Thought)
        if self._open != (type(piece), piece.block):
            self._start_item(thought)
            self._open = (type(piece), piece.block)
        part = self._item["summary" if thought else "content"][0]
        part["text"] += piece.text
        self._pieces += 1
        kind = "reasoning_summary_text" if thought else "output_text"
        self._event(f"{kind}.delta", **self._place(thought), delta=piece.text)

    def _start_item(self, thought: bool) -> None:
        self._close_item()
        if thought:
            item: Json = {"type": "reasoning", "id": self._id("rs"), "summary": []}
        else:
            item = {
                "type": "message",
                "id": self._id("msg"),
                "role": "assistant",
                "status": "in_progress",
                "content": [],
            }
        self._begin()
        self._event("output_item.added", output_index=len(self._output), item=item)
        part = (
            {"type": "summary_text", "text": ""} if thought else {"type": "output_text", "text": "", "annotations": []}
        )
        self._item = {**item, "summary" if thought else "content": [part]}
        added = "reasoning_summary_part.added" if thought else "content_part.added"
        self._event(added, **self._place(thought), part=part)

    def _place(self, thought: bool) -> Json:
        place = {"item_id": self._item["id"], "output_index": len(self._output)}
        return place | ({"summary_index": 0} if thought else {"content_index": 0})

    def _close_item(self) -> None:
        if self._open is None:
            return
        thought = self._open[0] is Thought
        part = self._item["summary" if thought else "content"][0]
        kind = "reasoning_summary_text" if thought else "output_text"
        self._event(f"{kind}.done", **self._place(thought), text=part["text"])
        done = "reasoning_summary_part.done" if thought else "content_part.done"
        self._event(done, **self._place(thought), part=part)
        if thought:
            self._item["encrypted_content"] = base64.b64encode(part["text"].encode()).decode()
        else:
            self._item["status"] = "completed"
        self._done(self._item)
        self._open = None

    def _call(self, piece: Call) -> None:
        self._close_item()
        self._begin()
        offered = self._offered.get(piece.tool, {"type": "function_call", "name": piece.tool})
        item = {**offered, "id": self._id("fc"), "call_id": self._id("call"), "status": "in_progress"}
        custom = item["type"] == "custom_tool_call"
        field = "input" if custom else "arguments"
        given = str(piece.arguments.get("input", "")) if custom else json.dumps(piece.arguments)
        self._event("output_item.added", output_index=len(self._output), item={**item, field: ""})
        kind = "custom_tool_call_input" if custom else "function_call_arguments"
        half = len(given) // 2
        for part in (given[:half], given[half:]):
            self._pieces += 1
            self._event(f"{kind}.delta", item_id=item["id"], output_index=len(self._output), delta=part)
        self._event(f"{kind}.done", item_id=item["id"], output_index=len(self._output), **{field: given})
        self._done({**item, field: given, "status": "completed"})

    def _done(self, item: Json) -> None:
        self._event("output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)

    def _begin(self) -> None:
        if not self._reply.begun:
            self._event("created", response=self._response)
            self._event("in_progress", response=self._response)

    def _end(self, status: str, **more: Any) -> None:
        self._begin()
        self._close_item()
        used = self._usage or Usage(INPUT_TOKENS, max(1, self._pieces))
        usage = {
            "input_tokens": used.input_tokens,
            "input_tokens_details": {"cached_tokens": 20},
            "output_tokens": used.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used.input_tokens + used.output_tokens,
        }
        self._event(
            status, response={**self._response, "status": status, "output": self._output, "usage": usage, **more}
        )
        self._reply.end()

    def _event(self, kind: str, **body: Any) -> None:
        self._serial += 1
        name = f"response.{kind}"
        self._reply.event({"type": name, "sequence_number": self._serial, **body}, name)

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._provider.ids):06}"


def _offered(tools: list[Json]) -> Iterator[tuple[str, Json]]:
    """The name of each tool, and how a call of it begins."""
    for tool in tools:
        match tool["type"]:
            case "namespace":
                for name, item in _offered(tool["tools"]):
                    yield f"{tool['name']}.{name}", {**item, "namespace": tool["name"]}
            case "custom":
                yield tool["name"], {"type": "custom_tool_call", "name": tool["name"]}
            case "function":
                yield tool["name"], {"type": "function_call", "name": tool["name"]}
            case other:
                name = tool.get("name") or str(other)
                yield name, {"type": "function_call", "name": name}


def _message(item: Json, images: list[tuple[str, int]]) -> Message:
    match item.get("type", "message"):
        case "message":
            content = item["content"]
            parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
            _note_images(parts, images)
            return Message(item["role"], [part["text"] for part in parts if "text" in part])
        case "function_call" | "custom_tool_call":
            return Message("assistant", calls=[item["name"]])
        case "function_call_output" | "custom_tool_call_output":
            if isinstance(item["output"], list):
                _note_images(item["output"], images)
            return Message("tool", results=1)
        case other:
            return Message(other)


def _note_images(parts: list[Json], images: list[tuple[str, int]]) -> None:
    for part in parts:
        if part["type"] == "input_image":
            head, _, data = part["image_url"].partition(",")
            images.append((head.removeprefix("data:").partition(";")[0], len(base64.b64decode(data))))


def _error(status: int, message: str | None = None) -> Json:
    code = ERRORS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": message or f"the script wants status {status}",
            "type": kind,
            "param": None,
            "code": code,
        }
    }
