"""A Gemini API: `generateContent`, streamed and whole, as Gemini CLI speaks it."""

import base64
from collections.abc import Iterator
from typing import Any

from providers.script import Call, Conversation, Cut, Failure, Json, Message, Pause, Stop, Text, Thought, Usage, answer
from providers.serving import Provider, Reply, Request

ERRORS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
STOPS = {"end": "STOP", "calls": "STOP", "limit": "MAX_TOKENS", "refusal": "SAFETY"}
INPUT_TOKENS = 100
"""What each request costs, unless its script says otherwise; an answer costs a token a piece."""


class Gemini(Provider):
    """A model API for `GOOGLE_GEMINI_BASE_URL`."""

    host = "127.0.0.2"
    """In a sandbox, 127.0.0.1 is the agent's own; this is reached by the way out."""

    def answer(self, request: Request, reply: Reply) -> None:
        path = request.path.partition("?")[0]
        model, _, method = path.rpartition("/")[2].partition(":")
        match method:
            case "streamGenerateContent":
                _Answer(self, model, reply).stream(answer(self._conversation(model, request.body)))
            case "generateContent":
                _Answer(self, model, reply).whole(answer(self._conversation(model, request.body)))
            case "countTokens":
                reply.json({"totalTokens": INPUT_TOKENS})
            case _:
                reply.json(_error(404, f"there is no {request.method} {path}"), 404)

    def _conversation(self, model: str, body: Json) -> Conversation:
        images: list[tuple[str, int]] = []
        messages = [_message(content, images) for content in body["contents"]]
        told = body.get("systemInstruction") or {"parts": []}
        system = "\n".join(part["text"] for part in told["parts"] if "text" in part)
        tools = [each["name"] for tool in body.get("tools") or [] for each in tool.get("functionDeclarations") or []]
        return Conversation(model, system, messages, tools, images, self.failures)


class _Answer:
    """One answer; each chunk of it is a whole response with a part of the content."""

    def __init__(self, provider: Gemini, model: str, reply: Reply) -> None:
        self._provider = provider
        self._model = model
        self._reply = reply
        self._id = f"answer-{next(provider.ids):06}"
        self._pieces = 0
        self._usage: Usage | None = None

    def stream(self, pieces: Iterator[Any]) -> None:
        for piece in pieces:
            match piece:
                case Failure() if not self._reply.begun:
                    self._reply.json(_error(piece.status), piece.status)
                    return
                case Failure():
                    self._reply.event(_error(piece.status))
                case Stop():
                    self._reply.event(self._chunk([{"text": ""}], piece.reason))
                case Cut():
                    if not self._reply.begun:
                        self._reply.event(self._chunk([{"text": ""}]))
                    self._reply.cut()
                case _:
                    parts = self._parts(piece)
                    if parts:
                        self._reply.event(self._chunk(parts))
        self._reply.end()

    def whole(self, pieces: Iterator[Any]) -> None:
        parts: list[Json] = []
        for piece in pieces:
            match piece:
                case Failure():
                    self._reply.json(_error(piece.status), piece.status)
                case Cut():
                    self._reply.cut()
                case Stop():
                    self._reply.json(self._chunk(parts, piece.reason))
                case _:
                    parts += self._parts(piece)

    def _parts(self, piece: Any) -> list[Json]:
        self._pieces += 1
        match piece:
            case Text():
                return [{"text": piece.text}]
            case Thought():
                return [{"text": f"**Thought** {piece.text}", "thought": True}]
            case Call():
                call = {"id": f"call_{next(self._provider.ids):06}", "name": piece.tool, "args": piece.arguments}
                return [{"functionCall": call}]
            case Usage():
                self._usage = piece
            case Pause():
                self._reply.pause(piece.seconds)
        return []

    def _chunk(self, parts: list[Json], stop: str | None = None) -> Json:
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
        chunk: Json = {"candidates": [candidate], "modelVersion": self._model, "responseId": self._id}
        if stop:
            used = self._usage or Usage(INPUT_TOKENS, max(1, self._pieces))
            candidate["finishReason"] = STOPS[stop]
            chunk["usageMetadata"] = {
                "promptTokenCount": used.input_tokens,
                "candidatesTokenCount": used.output_tokens,
                "totalTokenCount": used.input_tokens + used.output_tokens,
            }
        return chunk


def _message(content: Json, images: list[tuple[str, int]]) -> Message:
    parts = content["parts"]
    for part in parts:
        if "inlineData" in part:
            data = part["inlineData"]
            images.append((data["mimeType"], len(base64.b64decode(data["data"]))))
    return Message(
        "assistant" if content.get("role") == "model" else "user",
        [part["text"] for part in parts if "text" in part and not part.get("thought")],
        [part["functionCall"]["name"] for part in parts if "functionCall" in part],
        sum("functionResponse" in part for part in parts),
    )


def _error(status: int, message: str | None = None) -> Json:
    return {
        "error": {
            "code": status,
            "message": message or f"the script wants status {status}",
            "status": ERRORS.get(status, "INTERNAL"),
        }
    }
