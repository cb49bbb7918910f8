"""CLIs of which one process serves many turns at once: each turn has a `Cli` of its own that is a part of it.

What a server says is handed to the turn that it is about: an answer by the id of its request, which begins with the
turn's key, anything else by the thread that it names.
"""

import contextlib
import errno
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from longwick.profiles import Profile
from longwick.settings import environ_values
from worker.agents import Launch
from worker.agents.lines import line_of, parse_object
from worker.cli import Overlong
from worker.gateway import Gateway
from worker.housing import Housing
from worker.passes import Pass
from worker.process import CliProcess
from worker.shared_turn import SharedTurn
from worker.workspace import remove

log = logging.getLogger(__name__)

IDLE_SECONDS = 600.0
"""How long a server without turns is kept."""
WAITING_BYTES = 32 * 2**20
"""How much may wait for one turn before its server is read no further."""
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Command:
    """How a server is started."""

    profile: Profile
    argv: tuple[str, ...]
    environ: Mapping[str, str]


class SharedServers:
    """The servers of a worker. Enter it, and leave it to end them all."""

    def __init__(self, gateway: Gateway, housing: Housing, folder: Path) -> None:
        self._gateway = gateway
        self._housing = housing
        self._folder = folder
        self._servers: list[_Server] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self._servers:
            server.close()
        remove(self._folder)

    def join(self, profile: Profile, launch: Launch, stop: Callable[[], bytes], wake: int) -> SharedTurn:
        """Begin a turn: on the server that was started in this way before, or else on a new one.

        `stop` tells what ends the turn, and `wake` is a descriptor that ends a `poll` early when it is readable.

        Raises:
            OSError: the server could not be started.
        """
        with self._lock:
            self._servers = [server for server in self._servers if not server.over]
            command = Command(profile, tuple(launch.argv), profile.environ)
            for server in self._servers:
                if server.command == command and (turn := server.find_place(launch, stop, wake)):
                    return turn
            folder = self._folder / uuid.uuid4().hex[:8]
            server = _Server(command, launch.greeting, self._gateway, self._housing, folder)
            self._servers.append(server)
            turn = server.find_place(launch, stop, wake)
            if turn is None:
                raise OSError(errno.EIO, "it ended at once")
            return turn


class _Server:
    """One process and its turns, driven by a thread of its own, which lives as long as the process."""

    def __init__(self, command: Command, greeting: bytes, gateway: Gateway, housing: Housing, folder: Path) -> None:
        """Start it.

        Raises:
            OSError: it could not be started.
        """
        self._gateway = gateway
        self._housing = housing
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
            # A server that was closed has forgotten it.
            if turn in self._turns:
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
        # Each turn has a pass of its own; this one is for the way out.
        with self._gateway.issued(self.command.profile) as given:
            self._serve_with(given)

    def _serve_with(self, given: Pass) -> None:
        try:
            process = self._start(given)
        except Exception as error:
            # Whoever waits for it holds up all that would join.
            self.over = True
            remove(self._folder)
            self._started.set_exception(error if isinstance(error, OSError) else OSError(errno.EIO, str(error)))
            return
        self._started.set_result(None)
        try:
            with process:
                self._serve(process)
        except Exception:
            log.exception("a shared CLI could not be followed to its end")
        self.last_words = process.stderr_tail
        self.excess = process.excess
        with self._lock:
            self.over = True
            for turn in self._turns:
                turn.end(process.returncode if process.returncode is not None else -9)
        remove(self._folder)

    def _start(self, given: Pass) -> CliProcess:
        folder, tmp = self._folder, self._folder / "tmp"
        tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = {"HOME": str(folder), "CODEX_HOME": str(folder), "TMPDIR": str(tmp)}
        env = {**environ_values(["PATH"]), "LANG": "C.UTF-8", **home, **self.command.environ}
        argv, wake = self.command.argv, self._ears.fileno()
        return self._housing.start(self.command.profile, argv, env, folder, folder, given=given, wake=wake)

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
