"""One request of a CLI on its way to somebody else, and the answer on its way back, chunk by chunk."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

import httpx2

from worker.usage import UsageReader

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

MOST_BODY_BYTES = 32 * 2**20
"""What a provider takes."""
MOST_HELD_BYTES = 128 * 2**20
MOST_PARTS = 2**19
"""Commas and brackets: no text that fits a model has more, and what is made of more of them stalls us all."""
OF_ONE_HOP = {
    *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("transfer-encoding", "upgrade", "host", "content-length", "expect"),
}
OURS = {"authorization", "x-api-key", "cookie", "accept-encoding"}
"""Of a request: these are the gateway's to say."""
THEIRS = {"set-cookie", "set-cookie2", "alt-svc", "strict-transport-security"}
"""Of an answer: these are between the provider and the gateway."""


class Gone(Exception):
    """The CLI has hung up."""


class Unreadable(Exception):
    """It cannot be told what a request asks for."""


class TooLarge(Exception):
    """So many bytes are not taken."""


class Room:
    """What has come in through one door, and is in hand at the same time."""

    def __init__(self) -> None:
        self.held = 0
        """Bytes of requests."""
        self.reading = asyncio.Lock()
        """One large request at a time: who sends many waits for themselves."""


class Request:
    """A request that came in, as ASGI has it."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query = "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
        self.headers: list[Header] = scope["headers"]
        self.room: Room = scope["state"]["room"]
        self._held = 0
        self._receive = receive
        self._send = send
        self._begun = False

    def header(self, name: str) -> str:
        """The value of a header; empty where there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name.encode()), "")

    @property
    def token(self) -> str:
        """The pass that it comes with, in either place that the APIs have for a key."""
        return self.header("x-api-key") or self.header("authorization").removeprefix("Bearer ").strip()

    async def body(self) -> bytes:
        """All of it.

        Raises:
            Gone: the CLI has hung up before.
            TooLarge: it is, or it is one of too many at a time.
        """
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            body += (more := message.get("body", b""))
            self._held += len(more)
            self.room.held += len(more)
            if len(body) > MOST_BODY_BYTES:
                raise TooLarge(f"a request may have {MOST_BODY_BYTES} bytes")
            if self.room.held > MOST_HELD_BYTES:
                raise TooLarge(f"all requests at a time may have {MOST_HELD_BYTES} bytes")
            if not message.get("more_body"):
                return bytes(body)

    def let_go(self) -> None:
        """It is answered; its body is no longer held."""
        self.room.held -= self._held

    async def relay(
        self,
        client: httpx2.AsyncClient,
        out: httpx2.Request,
        begun: Callable[[httpx2.Response], UsageReader | None] | None = None,
    ) -> None:
        """Send `out`, and hand its answer back as it comes. If the CLI hangs up, so do we; if the other side, too.

        Raises:
            httpx2.TransportError: the other side could not be reached, or said nothing; it is not answered yet.
            Gone: the CLI has hung up.
        """
        passing = asyncio.ensure_future(self._pass_back(client, out, begun))
        leaving = asyncio.ensure_future(self._until_gone())
        try:
            await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not passing.done():
                raise Gone
            passing.result()
        finally:
            leaving.cancel()
            if passing.cancel():
                await asyncio.gather(passing, return_exceptions=True)

    async def _pass_back(
        self,
        client: httpx2.AsyncClient,
        out: httpx2.Request,
        begun: Callable[[httpx2.Response], UsageReader | None] | None,
    ) -> None:
        response = await client.send(out, stream=True)
        reader: UsageReader | None = None
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                # What it has used could not be read.
                await self.refuse(502, "api_error", "the answer is encoded, though it was asked not to be")
                return
            reader = begun(response) if begun else None
            headers = response_headers(response.headers.raw)
            self._begun = True
            await self._send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            left = int(response.headers.get("content-length", -1))
            async for chunk in response.aiter_raw():
                left -= len(chunk)
                if reader:
                    # Before it is handed on: what a CLI has been told is counted.
                    reader.feed(chunk)
                    if left == 0:
                        reader.end()
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            if reader:
                reader.end()
            await self._send({"type": "http.response.body", "body": b""})
        except httpx2.TransportError:
            if not self._begun:
                raise
            # It broke off: so does what we hand on, as it is left unfinished.
        finally:
            if reader:
                reader.break_off()
            await response.aclose()

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def refuse(self, status: int, kind: str, words: str) -> None:
        """Answer with an error, as the API that was asked has it, unless something was answered already."""
        if self._begun:
            return
        self._begun = True
        error: dict[str, Any] = {"type": kind, "message": f"Longwick: {words}"}
        if self.path.startswith("/anthropic"):
            answer: dict[str, Any] = {"type": "error", "error": error}
        else:
            answer = {"error": {**error, "param": None, "code": kind}}
        body = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def asked(body: bytes, *, encoding: str = "", tell_usage: bool = False) -> tuple[str, bytes]:
    """The model that a request names, and the request as it is to be sent on.

    Chat Completions tell what a stream has used only where that is asked for: `tell_usage`.

    Raises:
        Unreadable: it names none, or might name several; or what it uses would not be told in its answer.
    """
    if encoding not in ("", "identity"):
        raise Unreadable("a request must not be encoded")
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise Unreadable(f"a request may have {MOST_PARTS} parts")
    try:
        said = json.loads(body, object_pairs_hook=_once)
        # Some take a name in any letters.
        named = _once([(name.casefold(), value) for name, value in said.items()]) if isinstance(said, dict) else {}
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the request is no JSON that can be understood: {error}") from error
    model = named.get("model")
    if not isinstance(model, str):
        raise Unreadable("the request names no model")
    if named.get("background"):
        raise Unreadable("an answer in the background cannot be asked for: nobody would see what it uses")
    options = named.get("stream_options") or {}
    if tell_usage and named.get("stream") and isinstance(options, dict) and not options.get("include_usage"):
        body = json.dumps({**named, "stream_options": {**options, "include_usage": True}}).encode()
    return model, body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; two values of one name could be read in two ways."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return made


def request_headers(headers: Iterable[Header], *, keep_authorization: bool = False, beta: str = "") -> httpx2.Headers:
    """Those that go on to the other side, beside the key."""
    out = {
        name: value
        for name, value in _without(headers, OF_ONE_HOP | OURS).items()
        if not name.startswith(("x-forwarded-", "forwarded"))
    }
    if keep_authorization:
        out |= {name: value for name, value in _without(headers, OF_ONE_HOP).items() if name == "authorization"}
    if beta:
        out["anthropic-beta"] = ",".join(filter(None, [out.get("anthropic-beta"), beta]))
    return httpx2.Headers(out | {"accept-encoding": "identity"}, encoding="latin-1")


def response_headers(headers: Iterable[Header]) -> list[Header]:
    """Those that go back to the CLI; how long the answer is holds, for it is not changed."""
    dropped = (OF_ONE_HOP | THEIRS) - {"content-length"}
    return [(name.lower(), value) for name, value in headers if name.lower().decode("latin-1") not in dropped]


def is_stream(response: httpx2.Response) -> bool:
    """Whether it comes as events."""
    return str(response.headers.get("content-type", "")).startswith("text/event-stream")


def _without(headers: Iterable[Header], dropped: set[str]) -> dict[str, str]:
    """As a table; several of one name are one, as HTTP has it."""
    kept: dict[str, str] = {}
    listed = list(headers)
    named = {
        each.strip().lower()
        for name, value in listed
        if name == b"connection"
        for each in value.decode("latin-1").split(",")
    }
    for raw_name, raw_value in listed:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name not in dropped and name not in named:
            kept[name] = f"{kept[name]}, {value}" if name in kept else value
    return kept
