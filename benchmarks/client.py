"""A light client of the HTTP API: plain asyncio streams, for it shares the processors with what it measures."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TERMINAL = {"run.succeeded", "run.failed", "run.cancelled"}
ANSWER_SECONDS = 60.0
BUFFER_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Heard:
    """An event, and when its bytes were read: nanoseconds of the wall clock, as agents write them."""

    at_ns: int
    type: str
    event: dict[str, Any]

    @property
    def text(self) -> str:
        """What it adds to the answer."""
        text: str = self.event["data"]["text"] if self.type == "message.delta" else ""
        return text


class Connection:
    """One connection that is kept alive; first for questions, then perhaps for a stream."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """The JSON that the server answers with.

        Raises:
            RuntimeError: it answered with an error.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            status, headers = await self._send(method, path, body)
            answer = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer[:500].decode(errors='replace')}")
        return json.loads(answer) if answer else None

    async def submit(self, agent: str, kind: str = "chat") -> str:
        """Have an agent run, on a thread of its own; the id of the run."""
        run = await self.ask("POST", "/api/v1/runs", {"input": "go", "agent": agent, "kind": kind})
        run_id: str = run["id"]
        return run_id

    async def events(self, run_id: str, after: int = 0) -> AsyncIterator[Heard]:
        """All events of a run past `after` until its terminal one, which ends the connection's life."""
        status, _ = await self._send("GET", f"/api/v1/runs/{run_id}/events?after={after}", None, "text/event-stream")
        if status != 200:
            raise RuntimeError(f"events of {run_id}: {status}")
        rest = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            chunk = await self._reader.readexactly(size + 2)
            at_ns = time.time_ns()
            *frames, rest = (rest + chunk[:-2]).split(b"\n\n")
            for frame in frames:
                event = json.loads(frame[frame.index(b"data: ") + 6 :])
                yield Heard(at_ns, event["type"], event)
                if event["type"] in TERMINAL:
                    return
        raise RuntimeError(f"the stream of {run_id} ended without a terminal event")

    async def first_heard(self, run_id: str, *types: str) -> Heard:
        """The first event of one of these types."""
        async for heard in self.events(run_id):
            if heard.type in types:
                return heard
        raise RuntimeError(f"{run_id} ended without any of {types}")

    async def _send(
        self, method: str, path: str, body: object, accept: str = "application/json"
    ) -> tuple[int, dict[str, str]]:
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\naccept: {accept}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        self._writer.write(head.encode() + content)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        return int(lines[0].split(" ")[1]), headers


class Client:
    """Opens connections to one server."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """A new connection, closed afterwards."""
        host, _, port = self._host.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=BUFFER_BYTES)
        try:
            yield Connection(self._host, reader, writer)
        finally:
            writer.close()

    async def idle(self, seconds: float = 300.0) -> None:
        """Return when no run is queued or running."""
        async with asyncio.timeout(seconds), self.connect() as connection:
            for status in ("queued", "running"):
                path = f"/api/v1/runs?status={status}&limit=1"
                while (await connection.ask("GET", path))["data"]:  # noqa: ASYNC110 - HTTP has no event to wait for
                    await asyncio.sleep(0.1)
