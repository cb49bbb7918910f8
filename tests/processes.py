"""Real commands under test: their output goes to a file, and none of them outlives its test."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

STOP_SECONDS = 10.0
PORTS = range(10_000, 20_000)
"""Below those that the kernel gives away by itself, and those that an embedded Valkey draws from."""


def free_port() -> int:
    """A port of loopback that nobody listens on, and that nobody is given who asks the kernel for any."""
    while True:
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def unheard_port() -> Iterator[int]:
    """A port of loopback that nobody listens on, and nobody can meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class Process:
    """A command that runs in a process group of its own until `end`, or until the thread that started it ends."""

    def __init__(
        self,
        command: Sequence[str | Path],
        output: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`env` is added to the tests' own environment; standard output and error go to the file `output`."""
        self.command = [str(word) for word in command]
        self.output_file = output
        setpriv = shutil.which("setpriv")
        assert setpriv, "setpriv (util-linux) is needed to run the tests"
        with output.open("wb") as sink:
            self._popen = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> str:
        """All that the command has printed so far."""
        return self.output_file.read_text(errors="replace")

    @property
    def returncode(self) -> int | None:
        """The exit status (negative: the signal that killed it), or None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit status, once it ends by itself.

        Raises:
            AssertionError: it still runs after `seconds`; the message holds its output.
        """
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} still runs after {seconds} s\n{self.output}") from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command alone, not to its group."""
        self._popen.send_signal(number)

    def end(self) -> None:
        """End the command and what is left of its group: politely first, by force after a while."""
        if self.returncode is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def __str__(self) -> str:
        return f"{' '.join(self.command)} (pid {self.pid}, exit status {self.returncode})"


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Launch(Protocol):
    """Starts a command that ends with the test, at the latest."""

    def __call__(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process: ...
