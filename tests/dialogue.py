"""A talk with a CLI over its pipes, a line of JSON at a time; nothing of it outlives its test."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

Json = dict[str, Any]

STOP_SECONDS = 2.0
"""How long it may take to end by itself once its input is closed; some never do."""


class Dialogue:
    """A CLI that runs in a process group of its own. Enter it to start it, leave it to end it."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str], folder: Path) -> None:
        self.command = [str(word) for word in command]
        self._env = env
        self._folder = folder
        self.exchange: list[tuple[bool, bytes]] = []
        """All lines so far, in order: (whether we sent it, the line)."""
        self.status: int | None = None
        """Its exit status, once it has ended."""
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._popen: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        setpriv = shutil.which("setpriv")
        assert setpriv, "setpriv (util-linux) is needed to run the tests"
        with (self._folder / "stderr.log").open("wb") as errors:
            self._popen = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", "--", *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(self._env),
                cwd=self._folder,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self.close_input()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self.status = self._popen.wait()
        self._reader.join()
        self._drain()
        if exc[0] is not None:
            print(self.errors)
            print(b"\n".join(self.lines[-20:]).decode(errors="replace")[-6000:])

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def errors(self) -> str:
        """What it wrote to standard error."""
        return (self._folder / "stderr.log").read_text(errors="replace")[-4000:]

    def send(self, message: Json) -> None:
        """Write one line to it."""
        line = json.dumps(message).encode()
        self.exchange.append((True, line))
        self.write(line + b"\n")

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        assert self._popen.stdin
        self._popen.stdin.write(data)
        self._popen.stdin.flush()

    def close_input(self) -> None:
        assert self._popen.stdin
        self._popen.stdin.close()

    def until(self, found: Callable[[Json], bool], seconds: float = 30.0, what: str = "the line") -> Json:
        """The next line for which `found` is true; those before it are in `lines`.

        Raises:
            AssertionError: none came within `seconds`, or it has ended.
        """
        give_up = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, give_up - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"waited {seconds} s for {what}") from None
            assert line is not None, f"{self.command[0]} ended before {what}\n{self.errors}"
            self.exchange.append((False, line))
            said = _json(line)
            if said is not None and found(said):
                return said

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit status, once it ends by itself; all that it has printed is in `lines`."""
        self.status = self._popen.wait(seconds)
        self._reader.join(STOP_SECONDS)
        self._drain()
        return self.status

    @property
    def lines(self) -> list[bytes]:
        """All that it has printed so far and that was read."""
        return [line for sent, line in self.exchange if not sent]

    @property
    def sent(self) -> list[bytes]:
        """All messages that it was sent."""
        return [line for sent, line in self.exchange if sent]

    @property
    def messages(self) -> list[Json]:
        """The lines that are JSON."""
        return [said for line in self.lines if (said := _json(line)) is not None]

    def _drain(self) -> None:
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.exchange.append((False, line))

    def _read(self) -> None:
        assert self._popen.stdout
        with self._popen.stdout as printed:
            for line in printed:
                self._lines.put(line.rstrip(b"\n"))
        self._lines.put(None)


def _json(line: bytes) -> Json | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
