"""The CLI's process: its own group, bounded output, and one way to end it.

All of it is driven by the run's own thread, which lives as long as the CLI: the kernel ends a CLI when the thread that
started it is gone, however that came about.
"""

import contextlib
import fcntl
import os
import selectors
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Self

from worker import bare
from worker.cli import Overlong
from worker.consumption import LOOK_SECONDS, Scales
from worker.sandbox import Room

LINE_BYTES = 32 * 2**20
READ_BYTES = 64 * 1024
STDERR_BYTES = 64 * 1024
LAST_WORDS_SECONDS = 2.0
SIGNALLED = 128
FATAL = set(signal.valid_signals()) - {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Signals of which nobody ends in good order, and then says with its status which it was."""
live_pids: set[int] = set()
"""CLIs whose end this process waits for; every other child of it is an orphan that it adopted."""


class _Source(Enum):
    STDOUT = 1
    STDERR = 2
    STDIN = 3
    EXIT = 4
    WAKE = 5


class CliProcess:
    """A running CLI. `poll` moves bytes in and out for a while and returns the lines that the CLI has printed.

    Leaving it as a context kills what is left of its process group; once left, there is nothing to leave.
    """

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], folder: Path, wake: int, room: Room | None = None
    ) -> None:
        """Start it, in a sandbox where it has a room. `wake` is a descriptor that ends a `poll` early when readable.

        Raises:
            OSError: it could not be started.
        """
        self.until_left = contextlib.ExitStack()
        """What it needs beside it until it is gone."""
        self._lodger = room.start(argv, env, folder) if room else None
        self._popen = self._lodger.popen if self._lodger else bare.start(argv, env, folder)
        self.pid = self._popen.pid
        live_pids.add(self.pid)
        with contextlib.ExitStack() as undone:
            if self._lodger:
                undone.callback(self._lodger.close)
            undone.callback(self._forget)
            undone.callback(self._popen.kill)
            self._pidfd = os.pidfd_open(self.pid)
            undone.callback(os.close, self._pidfd)
            self._selector = selectors.DefaultSelector()
            undone.pop_all()
        self.ended = False
        """It has exited, and all that it printed was returned."""
        self.heard_at = time.monotonic()
        """When it last printed anything."""
        self.listener = self._lodger.listener if self._lodger else None
        """Where a CLI in a sandbox looks for the worker."""
        self._scales = Scales(room.limits, self._lodger.proc) if room and self._lodger else None
        self.excess: str | None = None
        self.returncode: int | None = None
        """Its exit status once it has exited, negative for a signal."""
        self._gone = threading.Lock()
        self._is_gone = False
        self._exited_at: float | None = None
        self._to_write = bytearray()
        self._line = bytearray()
        self._dropped = 0
        self._errors = bytearray()
        self._wake = wake
        for pipe, name in ((self._popen.stdout, _Source.STDOUT), (self._popen.stderr, _Source.STDERR)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, name)
        assert self._popen.stdin is not None
        self._stdin = self._popen.stdin
        os.set_blocking(self._stdin.fileno(), False)
        self._selector.register(self._pidfd, selectors.EVENT_READ, _Source.EXIT)
        self._selector.register(wake, selectors.EVENT_READ, _Source.WAKE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._is_gone:
            return
        self.kill()
        if self._lodger:
            self._lodger.await_end()
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
        try:
            self.until_left.close()
        finally:
            with self._gone:
                self._is_gone = True
                self._forget()
            self._selector.close()
            os.close(self._pidfd)
            if self._lodger:
                self._lodger.close()

    def _forget(self) -> None:
        """Reap it, and let go of its pipes."""
        self._popen.wait()
        live_pids.discard(self.pid)
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def wake_by(self, wake: int) -> None:
        """Have another descriptor end a `poll` early."""
        self._selector.unregister(self._wake)
        self._wake = wake
        self._selector.register(wake, selectors.EVENT_READ, _Source.WAKE)
        self.heard_at = time.monotonic()

    def poll(self, seconds: float) -> list[bytes | Overlong]:
        """Wait at most `seconds` for something to happen; the lines that are complete now, without their ends."""
        if self._scales:
            seconds = min(seconds, LOOK_SECONDS)
        if self._exited_at is not None:
            seconds = min(seconds, max(0.0, self._exited_at + LAST_WORDS_SECONDS - time.monotonic()))
        lines: list[bytes | Overlong] = []
        for key, _ in self._selector.select(seconds):
            match key.data:
                # What came before the exit in this round may have been read with that.
                case _Source.STDOUT if key.fileobj in self._selector.get_map():
                    lines += self._read_stdout()
                case _Source.STDERR:
                    self._read_stderr()
                case _Source.STDIN:
                    self._write_stdin()
                case _Source.EXIT:
                    lines += self._note_exit()
                case _:
                    # A wake-up is drained by its owner, who looks why after this returns.
                    pass
        if self._scales and self.excess is None and (excess := self._scales.excess()):
            self.excess = excess
            self.kill()
        self._settle_end(lines)
        return lines

    def write(self, data: bytes) -> None:
        """Have `data` written to its standard input, as fast as it reads."""
        if not self._stdin.closed and data:
            if not self._to_write:
                self._selector.register(self._stdin, selectors.EVENT_WRITE, _Source.STDIN)
            self._to_write += data

    def close_input(self) -> None:
        """Tell it that no more input comes; what was not read yet is dropped."""
        if not self._stdin.closed:
            if self._to_write:
                self._selector.unregister(self._stdin)
                self._to_write.clear()
            with contextlib.suppress(OSError):
                self._stdin.close()

    def interrupt(self) -> None:
        """SIGINT to its process group."""
        self._signal(signal.SIGINT, self._lodger.pid if self._lodger else self.pid)

    def kill(self) -> None:
        """SIGKILL to its process group, and to all that a sandbox holds; safe to call from any thread, and again."""
        self._signal(signal.SIGKILL, self.pid)

    @property
    def stderr_tail(self) -> str:
        """The end of what it wrote to standard error."""
        return bytes(self._errors).decode("utf-8", "replace")

    def _signal(self, number: signal.Signals, group: int) -> None:
        with self._gone, contextlib.suppress(ProcessLookupError, PermissionError):
            # Its number is not given away before it is reaped, nor is that of a CLI before its sandbox is gone.
            if not self._is_gone and (group == self.pid or self._exited_at is None):
                os.killpg(group, number)
                if self._lodger and number == signal.SIGKILL:
                    self._lodger.kill()

    def _note_exit(self) -> list[bytes | Overlong]:
        """It has exited; read what it has left in its pipe, which may be wider than a read, and leave it a zombie."""
        self._selector.unregister(self._pidfd)
        self._exited_at = time.monotonic()
        exited = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
        assert exited is not None
        self.returncode = exited.si_status if exited.si_code == os.CLD_EXITED else -exited.si_status
        if self._lodger and self.returncode - SIGNALLED in FATAL:
            # bubblewrap tells of it as a shell does.
            self.returncode = SIGNALLED - self.returncode
        lines: list[bytes | Overlong] = []
        assert self._popen.stdout is not None
        if self._popen.stdout in self._selector.get_map():
            left = fcntl.fcntl(self._popen.stdout, fcntl.F_GETPIPE_SZ)
            while left > 0 and self._popen.stdout in self._selector.get_map():
                lines += self._read_stdout()
                left -= READ_BYTES
        return lines

    def _settle_end(self, lines: list[bytes | Overlong]) -> None:
        if self._exited_at is None or self.ended:
            return
        open_pipes = {key.data for key in self._selector.get_map().values()} & {_Source.STDOUT, _Source.STDERR}
        # A grandchild may hold the pipes open for ever.
        if not open_pipes or time.monotonic() >= self._exited_at + LAST_WORDS_SECONDS:
            self.ended = True
            if self._dropped:
                lines.append(Overlong(self._dropped))
            elif self._line:
                lines.append(bytes(self._line))
            self._dropped = 0
            self._line.clear()

    def _read_stdout(self) -> list[bytes | Overlong]:
        assert self._popen.stdout is not None
        chunk = _read(self._popen.stdout.fileno())
        if chunk is None:
            return []
        if not chunk:
            self._selector.unregister(self._popen.stdout)
            return []
        self.heard_at = time.monotonic()
        lines: list[bytes | Overlong] = []
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            self._take(part)
            if self._dropped:
                lines.append(Overlong(self._dropped))
                self._dropped = 0
            else:
                lines.append(bytes(self._line))
            self._line.clear()
        self._take(rest)
        return lines

    def _take(self, part: bytes) -> None:
        """Add to the current line, or count what is dropped of it."""
        if self._dropped:
            self._dropped += len(part)
        elif len(self._line) + len(part) > LINE_BYTES:
            self._dropped = len(self._line) + len(part)
            self._line.clear()
        else:
            self._line += part

    def _read_stderr(self) -> None:
        assert self._popen.stderr is not None
        chunk = _read(self._popen.stderr.fileno())
        if chunk is None:
            return
        if not chunk:
            self._selector.unregister(self._popen.stderr)
            return
        self._errors += chunk
        del self._errors[:-STDERR_BYTES]

    def _write_stdin(self) -> None:
        try:
            written = os.write(self._stdin.fileno(), self._to_write[:READ_BYTES])
            del self._to_write[:written]
        except BlockingIOError:
            return
        except OSError:
            # It does not read, which is its own affair; whether it ends well shows elsewhere.
            self._to_write.clear()
        if not self._to_write:
            self._selector.unregister(self._stdin)


def _read(descriptor: int) -> bytes | None:
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return None
