"""One turn's part of a CLI that serves many turns at once: to the worker, like a process of its own."""

import contextlib
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, Self

from worker.cli import Overlong


class Server(Protocol):
    """What serves it."""

    last_words: str
    excess: str | None

    def write(self, data: bytes) -> None: ...
    def leave(self, turn: "SharedTurn") -> None: ...


class SharedTurn:
    """One turn's part of a server, with all that a process of its own would have."""

    def __init__(self, server: Server, key: str, stop: Callable[[], bytes], wake: int) -> None:
        self._server = server
        self._stop = stop
        self._lines: deque[bytes | Overlong] = deque()
        self._ears, self._mouth = socket.socketpair()
        self._ears.setblocking(False)
        self._mouth.setblocking(False)
        self._selector = selectors.DefaultSelector()
        for ear in (self._ears.fileno(), wake):
            self._selector.register(ear, selectors.EVENT_READ)
        self.key = key
        self.thread = ""
        self.waiting_bytes = 0
        self.killed = False
        self.ended = False
        self.returncode: int | None = None
        self.heard_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self.ended:
            # Its server would go on with it, or wait for an answer that never comes.
            self.write(self._stop())
        self._server.leave(self)
        self._selector.close()
        self._ears.close()
        self._mouth.close()

    def poll(self, seconds: float) -> list[bytes | Overlong]:
        """Wait at most `seconds`; what the server has said about this turn."""
        if not self._lines and not self.ended:
            self._selector.select(seconds)
        with contextlib.suppress(BlockingIOError):
            self._ears.recv(4096)
        lines: list[bytes | Overlong] = []
        while self._lines:
            lines.append(self._lines.popleft())
        self.waiting_bytes = 0
        return lines

    def write(self, data: bytes) -> None:
        """Have the server told."""
        self._server.write(data)

    def close_input(self) -> None:
        """Nothing more comes for this turn: its server needs no word of it, and the turn is over for us."""
        self.end(0)

    def interrupt(self) -> None:
        """A signal would reach all turns; this one is asked once more."""
        self.write(self._stop())

    def kill(self) -> None:
        """Wait for this turn no longer; the server gets no further turns, for it may go on with this one."""
        if not self.ended:
            self.killed = True
            self.write(self._stop())
            self.end(-9)

    @property
    def stderr_tail(self) -> str:
        return self._server.last_words

    @property
    def excess(self) -> str | None:
        return self._server.excess

    def hear(self, line: bytes | Overlong) -> None:
        """Take what the server has said about this turn."""
        self.heard_at = time.monotonic()
        self.waiting_bytes += len(line) if isinstance(line, bytes) else 0
        self._lines.append(line)
        self._nudge()

    def end(self, status: int) -> None:
        """The server, or this turn's part of it, is over."""
        if not self.ended:
            self.returncode, self.ended = status, True
            self._nudge()

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            self._mouth.send(b"!")
