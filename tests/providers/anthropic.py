"""A Messages API, as Claude Code speaks it."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

from providers.script import Call, Conversation, Cut, Failure, Json, Message, Pause, Stop, Text, Thought, Usage, answer
from providers.serving import Provider, Reply, Request

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
STOPS = {"end": "end_turn", "calls": "tool_use", "limit": "max_tokens", "refusal": "refusal"}
INPUT_TOKENS = 100
"""What each request costs, unless its script says otherwise; an answer costs a token a piece."""


class Anthropic(Provider):
    """A model API for `ANTHROPIC_BASE_URL`."""

    def answer(self, request: Request, reply: Reply) -> None:
        path = request.path.partition("?")[0]
        if request.method == "POST" and path == "/v1/messages":
            self._message(request.body, reply)
        elif request.method == "POST" and path == "/v1/messages/count_tokens":
            reply.json({"input_tokens": INPUT_TOKENS})
        elif request.method in ("GET", "HEAD") and path == "/v1/models":
            reply.json({"data": [], "has_more": False})
        elif request.method in ("GET", "HEAD") and path == "/":
            reply.json({})
        else:
            reply.json(_error(404, f"there is no {request.method} {path}"), 404)

    def _message(self, body: Json, reply: Reply) -> None:
        pieces = answer(self._conversation(body))
        message: Json = {
            "id": f"msg_{next(self.ids):06}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(INPUT_TOKENS, 1),
        }
        if body.get("stream"):
            _Stream(self, message, reply).play(pieces)
        else:
            self._whole(message, pieces, reply)

    def _conversation(self, body: Json) -> Conversation:
        images: list[tuple[str, int]] = []
        messages = [_message(message, images) for message in body["messages"]]
        tools = [tool["name"] for tool in body.get("tools") or []]
        system = "\n".join(_texts(body.get("system") or []))
        return Conversation(body["model"], system, messages, tools, images, self.failures)

    def _whole(self, message: Json, pieces: Iterator[Any], reply: Reply) -> None:
        content: list[Json] = message["content"]
        at = None
        for piece in pieces:
            match piece:
                case Text() | Thought() if piece.block == at:
                    kind = "text" if isinstance(piece, Text) else "thinking"
                    content[-1][kind] += piece.text
                case Text():
                    content.append({"type": "text", "text": piece.text})
                case Thought():
                    content.append({"type": "thinking", "thinking": piece.text, "signature": "c2lnbmVk"})
                case Call():
                    content.append(self.call(piece))
                case Pause():
                    reply.pause(piece.seconds)
                case Failure():
                    reply.json(_error(piece.status), piece.status)
                    return
                case Cut():
                    reply.cut()
                case Usage():
                    message["usage"] = _usage(piece.input_tokens, piece.output_tokens)
                case Stop():
                    message["stop_reason"] = STOPS[piece.reason]
            at = getattr(piece, "block", at)
        reply.json(message)

    def call(self, piece: Call) -> Json:
        """The content block of a tool call."""
        return {
            "type": "tool_use",
            "id": f"toolu_{next(self.ids):06}",
            "name": piece.tool,
            "input": piece.arguments,
        }


class _Stream:
    """One streamed message."""

    def __init__(self, provider: Anthropic, message: Json, reply: Reply) -> None:
        self._provider = provider
        self._message = message
        self._reply = reply
        self._index = -1
        self._open: tuple[type, int] | None = None
        self._pieces = 0

    def play(self, pieces: Iterator[Any]) -> None:
        for piece in pieces:
            match piece:
                case Pause():
                    self._reply.pause(piece.seconds)
                case Failure() if not self._reply.begun:
                    self._reply.json(_error(piece.status), piece.status)
                    return
                case Failure():
                    self._event(_error(piece.status))
                    self._reply.end()
                    return
                case Usage():
                    self._message["usage"] = _usage(piece.input_tokens, 1)
                    self._pieces = piece.output_tokens
                case Cut():
                    self._begin()
                    self._reply.cut()
                case Stop():
                    self._finish(piece.reason)
                case Text() | Thought():
                    self._say(piece)
                case Call():
                    self._call(piece)

    def _begin(self) -> None:
        if not self._reply.begun:
            self._event({"type": "message_start", "message": self._message})
            self._event({"type": "ping"})

    def _say(self, piece: Text | Thought) -> None:
        thought = isinstance(piece, Thought)
        kind = "thinking" if thought else "text"
        if self._open != (type(piece), piece.block):
            self._start({"type": kind, kind: "", **({"signature": ""} if thought else {})})
            self._open = (type(piece), piece.block)
        self._delta({"type": f"{kind}_delta", kind: piece.text})

    def _call(self, piece: Call) -> None:
        block = self._provider.call(piece)
        self._start({**block, "input": {}})
        arguments = json.dumps(block["input"])
        half = len(arguments) // 2
        for part in ("", arguments[:half], arguments[half:]):
            self._delta({"type": "input_json_delta", "partial_json": part})

    def _start(self, block: Json) -> None:
        self._begin()
        self._stop_block()
        self._index += 1
        self._open = (dict, self._index)
        self._event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _delta(self, delta: Json) -> None:
        self._pieces += 1
        self._event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop_block(self) -> None:
        if self._open is None:
            return
        if self._open[0] is Thought:
            self._delta({"type": "signature_delta", "signature": "c2lnbmVk"})
        self._event({"type": "content_block_stop", "index": self._index})
        self._open = None

    def _finish(self, reason: str) -> None:
        self._begin()
        self._stop_block()
        usage = {"output_tokens": max(1, self._pieces)}
        self._event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": STOPS[reason], "stop_sequence": None},
                "usage": usage,
            }
        )
        self._event({"type": "message_stop"})
        self._reply.end()

    def _event(self, body: Json) -> None:
        self._reply.event(body, body["type"])


def _message(message: Json, images: list[tuple[str, int]]) -> Message:
    content = message["content"]
    if isinstance(content, str):
        return Message(message["role"], [content])
    results = 0
    for block in content:
        results += block["type"] == "tool_result"
        for each in [block, *(block["content"] if isinstance(block.get("content"), list) else [])]:
            if each["type"] == "image":
                source = each["source"]
                images.append((source["media_type"], len(base64.b64decode(source["data"]))))
    calls = [block["name"] for block in content if block["type"] == "tool_use"]
    return Message(message["role"], _texts(content), calls, results)


def _texts(content: str | Sequence[Json]) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block["type"] == "text"]


def _usage(input_tokens: int, output_tokens: int) -> Json:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 20,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _error(status: int, message: str | None = None) -> Json:
    kind = ERRORS.get(status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message or f"the script wants status {status}"},
        "request_id": "req_test",
    }
