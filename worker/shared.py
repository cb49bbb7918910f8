"""CLIs of which one process serves many turns at once: each turn has a `Cli` of its own that is a part of it.

What a server says is handed to the turn that it is about: an answer by the id of its request, which begins with the
turn's key, anything else by the thread that it names.
"""

import contextlib
import errno
import logging
import selectors
import shutil
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Self

from longwick.settings import environ_values
from worker.agents import Launch
from worker.agents.lines import line_of, parse_object
from worker.cli import Overlong
from worker.process import CliProcess

log = logging.getLogger(__name__)

IDLE_SECONDS = 600.0
"""How long a server without turns is kept."""
WAITING_BYTES = 32 * 2**20
"""How much may wait for one turn before its server is read no further."""
POLL_SECONDS = 1.0
Command = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]
"""How a server is started: its arguments, and its environment."""


class SharedServers:
    """The servers of a worker. Enter it, and leave it to end them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[_Server] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self._servers:
            server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def join(self, launch: Launch, environ: Mapping[str, str], stop: Callable[[], bytes], wake: int) -> "SharedTurn":
        """Begin a turn: on the server that was started in this way before, or else on a new one.

        `stop` tells what ends the turn, and `wake` is a descriptor that ends a `poll` early when it is readable.

        Raises:
            OSError: the server could not be started.
        """
        with self._lock:
            self._servers = [server for server in self._servers if not server.over]
            command = (tuple(launch.argv), tuple(sorted(environ.items())))
            for server in self._servers:
                if server.command == command and (turn := server.find_place(launch, stop, wake)):
                    return turn
            server = _Server(command, launch.greeting, self._folder / uuid.uuid4().hex[:8])
            self._servers.append(server)
            turn = server.find_place(launch, stop, wake)
            if turn is None:
                raise OSError(errno.EIO, "it ended at once")
            return turn


class SharedTurn:
    """One turn's part of a server, with all that a process of its own would have."""

    def __init__(self, server: "_Server", key: str, stop: Callable[[], bytes], wake: int) -> None:
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


class _Server:
    """One process and its turns, driven by a thread of its own, which lives as long as the process."""

    def __init__(self, command: Command, greeting: bytes, folder: Path) -> None:
        """Start it.

        Raises:
            OSError: it could not be started.
        """
        self.command = command
        self.over = False
        self.last_words = ""
        self.excess: str | None = None
        self._folder = folder
        self._turns: list[SharedTurn] = []
        self._retired = False
        self._idle_since = time.monotonic()
        self._to_write = bytearray(greeting)
        self._lock = threading.Lock()
        self._ears, self._mouth = socket.socketpair()
        self._ears.setblocking(False)
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._live, name="shared-cli", daemon=True)
        self._thread.start()
        self._started.result()

    def find_place(self, launch: Launch, stop: Callable[[], bytes], wake: int) -> SharedTurn | None:
        """A turn that has begun here; None where the server takes no more."""
        with self._lock:
            if self.over or self._retired:
                return None
            turn = SharedTurn(self, launch.key, stop, wake)
            self._turns.append(turn)
        self.write(launch.opening)
        return turn

    def leave(self, turn: SharedTurn) -> None:
        with self._lock:
            self._turns.remove(turn)
            self._retired |= turn.killed
            self._idle_since = time.monotonic()
        if turn.thread:
            self.write(_request("thread/unsubscribe", {"threadId": turn.thread}))

    def write(self, data: bytes) -> None:
        with self._lock:
            self._to_write += data
        self._nudge()

    def close(self) -> None:
        self._retired = True
        with self._lock:
            self._turns.clear()
        self._nudge()
        self._thread.join(10)

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            self._mouth.send(b"!")

    def _live(self) -> None:
        with self._ears, self._mouth:
            self._run()

    def _run(self) -> None:
        try:
            argv, environ = self.command
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            home = {"HOME": str(self._folder), "CODEX_HOME": str(self._folder), "TMPDIR": str(self._folder)}
            env = {**environ_values(["PATH"]), "LANG": "C.UTF-8", **home, **dict(environ)}
            process = CliProcess(argv, env=env, folder=self._folder, wake=self._ears.fileno())
        except OSError as error:
            self.over = True
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        with process:
            try:
                self._serve(process)
            except Exception:
                log.exception("a shared CLI could not be followed")
            self.last_words = process.stderr_tail
            self.excess = process.excess
        with self._lock:
            self.over = True
            for turn in self._turns:
                turn.end(process.returncode if process.returncode is not None else -9)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self, process: CliProcess) -> None:
        while not process.ended and not self._done():
            with self._lock:
                process.write(bytes(self._to_write))
                self._to_write.clear()
            for line in process.poll(POLL_SECONDS):
                self._route(line)
            with contextlib.suppress(BlockingIOError):
                self._ears.recv(4096)
            self._wait_for_the_slow()
        if process.ended:
            log.warning("a shared CLI has ended by itself, with status %s", process.returncode)

    def _done(self) -> bool:
        with self._lock:
            self._retired |= not self._turns and time.monotonic() - self._idle_since > IDLE_SECONDS
            return self._retired and not self._turns

    def _route(self, line: bytes | Overlong) -> None:
        turns = list(self._turns)
        said = parse_object(line) if isinstance(line, bytes) else None
        if said is None:
            for turn in turns:
                turn.hear(line)
            return
        params = said.get("params")
        named = params.get("threadId") if isinstance(params, dict) else None
        key = str(said.get("id")).rpartition(":")[0] if "method" not in said else None
        for turn in turns:
            if (key and turn.key == key) or (named and turn.thread == named):
                # The answer to its first request tells how its thread is called.
                turn.thread = turn.thread or _thread_of(said)
                turn.hear(line)

    def _wait_for_the_slow(self) -> None:
        """Let a turn whose record is slow catch up, for a while; the server waits in its pipe."""
        give_up = time.monotonic() + POLL_SECONDS
        while any(turn.waiting_bytes > WAITING_BYTES for turn in list(self._turns)) and time.monotonic() < give_up:
            time.sleep(0.01)


def _thread_of(said: dict[str, object]) -> str:
    result = said.get("result")
    thread = result.get("thread") if isinstance(result, dict) else None
    return str(thread.get("id", "")) if isinstance(thread, dict) else ""


def _request(method: str, params: dict[str, str]) -> bytes:
    return line_of({"id": f"longwick:{method}", "method": method, "params": params})
