"""The door of a sandbox: the one place outside that a CLI can reach, at an address of its own network.

What comes through it is for the gateway (models, and our tools at `/mcp`), or asks to be let out to a host: then the
profile decides (worker/egress.py).
"""

import asyncio
import logging
import socket
from typing import Any, Self, cast

from worker import egress
from worker.gateway import Gateway
from worker.passes import Pass
from worker.relay import Room

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""How long the first line of a connection may take."""
OPEN_SECONDS = 5.0
MOST_CONNECTIONS = 512
"""At a time, enough for a hundred turns that share a process; each is one or two of the worker's open files."""


class Door:
    """Listens on a socket that leads out of one sandbox. Enter it to open it; afterwards nothing passes any more."""

    def __init__(self, gateway: Gateway, given: Pass, listening: socket.socket) -> None:
        self._gateway = gateway
        self._pass = given
        self._listening = listening
        own = listening.getsockname()
        # Some use their proxy for everything, the address of the proxy itself not excepted.
        self._near = {own: gateway.place} if isinstance(own, tuple) else {}
        self._passing: set[asyncio.BaseTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = Room()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        asyncio.run_coroutine_threadsafe(self._open(), self._gateway.loop).result(OPEN_SECONDS)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._gateway.loop).result(OPEN_SECONDS)

    async def _open(self) -> None:
        self._listening.setblocking(False)
        self._server = await self._gateway.loop.create_server(lambda: _Caller(self), sock=self._listening)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for transport in self._passing:
            cast(asyncio.WriteTransport, transport).abort()

    def answer(self, transport: asyncio.Transport, begun: bytes) -> None:
        """A connection has `begun` to say what it wants."""
        method, _, target = begun.partition(b" ")
        if method == b"CONNECT" or not target.startswith(b"/"):
            self._let_out(transport, begun)
            return
        protocol = self._gateway.protocol(self._room)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        cast(Any, protocol).data_received(begun)

    def _let_out(self, transport: asyncio.Transport, begun: bytes) -> None:
        loop = self._gateway.loop
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        reader.feed_data(begun)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        task = loop.create_task(egress.serve(reader, writer, self._pass, self._near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def came(self, transport: asyncio.BaseTransport) -> None:
        """Keep a connection as long as the door is open, if there is room for it."""
        self._passing = {each for each in self._passing if not each.is_closing()}
        if len(self._passing) < MOST_CONNECTIONS:
            self._passing.add(transport)
        else:
            cast(asyncio.WriteTransport, transport).abort()


class _Caller(asyncio.Protocol):
    """A connection of which it is not known yet what it wants."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._begun = b""
        self._transport: asyncio.Transport
        self._give_up: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._door.came(transport)
        self._give_up = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up.cancel()

    def data_received(self, data: bytes) -> None:
        self._begun += data
        # One byte of the target tells.
        if b" " in self._begun[:-1] or len(self._begun) > egress.MOST_HEAD_BYTES:
            self._give_up.cancel()
            self._door.answer(self._transport, self._begun)
