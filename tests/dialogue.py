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

STOP_SECONDS = 5.0


class Dialogue:
    """A CLI that runs in a process group of its own. Enter it to start it, leave it to end it."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str], folder: Path) -> None:
        self.command = [str(word) for word in command]
        self._env = env
        self._folder = folder
        self.lines: list[bytes] = []
        """All that it has printed so far and that was read."""
        self.sent: list[bytes] = []
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
        self._popen.wait()
        self._reader.join()
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
        self.sent.append(json.dumps(message).encode())
        self.write(self.sent[-1] + b"\n")

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
            self.lines.append(line)
            said = _json(line)
            if said is not None and found(said):
                return said

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit status, once it ends by itself; all that it has printed is in `lines`."""
        status = self._popen.wait(seconds)
        while (line := self._lines.get(timeout=5)) is not None:
            self.lines.append(line)
        return status

    @property
    def messages(self) -> list[Json]:
        """The lines that are JSON."""
        return [said for line in self.lines if (said := _json(line)) is not None]

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
