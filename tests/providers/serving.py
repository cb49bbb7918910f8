"""A provider's HTTP side: it records each request, and streams each answer as slowly as the script wants."""

import json
import os
import select
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Self

from providers.script import Json


class Gone(Exception):
    """The client has hung up, or the test is over."""


@dataclass
class Request:
    """A request that a CLI made."""

    method: str
    path: str
    headers: Mapping[str, str]
    """With their names in lower case."""
    body: Any
    """The JSON of it, or None."""
    at: float = field(default_factory=time.monotonic)
    ended: str | None = None
    """How it ended: `answered`, `broken` (by the provider), `abandoned` (by the client); None while it is answered."""


class Provider:
    """A model API on loopback. Enter it to start, leave it to end it; tests read `requests`."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.failures: dict[str, int] = {}
        self.ids = count(1)
        self._over, self._end = os.pipe()
        self._server: ThreadingHTTPServer

    def answer(self, request: Request, reply: "Reply") -> None:
        """Answer a request; the provider's own part."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[Request]:
        """The requests that ask the model for an answer."""
        return [request for request in self.requests if request.method == "POST" and "count" not in request.path]

    def __enter__(self) -> Self:
        provider, over = self, self._over

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, _json(body))
                provider.requests.append(request)
                try:
                    provider.answer(request, Reply(self, over))
                    request.ended = "answered"
                except ConnectionAbortedError:
                    request.ended, self.close_connection = "broken", True
                except (Gone, OSError):
                    request.ended, self.close_connection = "abandoned", True

            def do_POST(self) -> None:
                self.do_GET()

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((self.host, 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="provider", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._end)
        self._server.shutdown()
        self._server.server_close()
        os.close(self._over)


class Reply:
    """The answer to one request: one JSON body, or a stream."""

    def __init__(self, handler: BaseHTTPRequestHandler, over: int) -> None:
        self._handler = handler
        self._over = over
        self.begun = False

    def json(self, body: Json, status: int = 200, **headers: str) -> None:
        data = json.dumps(body).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers})
        if self._handler.command != "HEAD":
            self._handler.wfile.write(data)

    def event(self, body: Json | str, name: str | None = None) -> None:
        """One event of a stream of server-sent events."""
        if not self.begun:
            self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        data = body if isinstance(body, str) else json.dumps(body)
        self._chunk(((f"event: {name}\n" if name else "") + f"data: {data}\n\n").encode())

    def end(self) -> None:
        """The end of the stream."""
        self._chunk(b"")

    def pause(self, seconds: float | None) -> None:
        """Be silent so long, or until the client hangs up.

        Raises:
            Gone: it has.
        """
        give_up = None if seconds is None else time.monotonic() + seconds
        while give_up is None or time.monotonic() < give_up:
            left = None if give_up is None else max(0.0, give_up - time.monotonic())
            if select.select([self._handler.connection, self._over], [], [], left)[0]:
                raise Gone

    def cut(self) -> None:
        """Break the connection in the middle of the answer."""
        raise ConnectionAbortedError

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.begun = True
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()

    def _chunk(self, data: bytes) -> None:
        self._handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None
