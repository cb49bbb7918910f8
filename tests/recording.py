"""A command on a real terminal: a pseudo-terminal of its own, whose every byte is kept and can be played again."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pyte
from waiting import wait_for

from longwick.terminal import END

ROWS, COLUMNS = 24, 80
PLAIN = {"NO_COLOR": "", "FORCE_COLOR": "", "TTY_COMPATIBLE": ""}
"""Whatever the shell of the tests wishes for."""


class Terminal:
    """A command that runs on a terminal of `ROWS` and `COLUMNS`; leave it, and it is gone."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str], rows: int = ROWS) -> None:
        self.rows = rows
        self.chunks: list[bytes] = []
        """What was read at a time, which is what was written at a time, or several of these."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, COLUMNS, 0, 0))
        self._ours = ours
        self._popen = subprocess.Popen(
            # It makes its input the controlling terminal, from which Ctrl-C comes.
            ["setsid", "--ctty", *map(str, command)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "", **PLAIN, **env},
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        self._reader.join(30)
        os.close(self._ours)
        if exc[0] is not None:
            print("\n".join(self.transcript))

    def _read(self) -> None:
        # EIO: nobody has the other end any more.
        with contextlib.suppress(OSError):
            while chunk := os.read(self._ours, 65536):
                self.chunks.append(chunk)

    def press(self, keys: str) -> None:
        """Type; the terminal makes a signal of `\\x03`."""
        os.write(self._ours, keys.encode())

    def wait(self, seconds: float = 30) -> int:
        """The exit status, once the command has ended and all it wrote is read."""
        try:
            status = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {seconds} s") from None
        self._reader.join(30)
        return status

    def wait_for(self, words: str, seconds: float = 15) -> None:
        """Return once the words were written, as a piece."""
        wait_for(lambda: words in self.text, seconds, f"{words!r} on the terminal")

    @property
    def text(self) -> str:
        """All that was written, in the order in which it was, without what steers the terminal."""
        return re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", b"".join(self.chunks).decode(errors="replace"))

    @property
    def frames(self) -> list[bytes]:
        """What was written, cut where it was to be shown."""
        *frames, rest = b"".join(self.chunks).split(END.encode())
        return [*(frame + END.encode() for frame in frames), rest]

    @property
    def transcript(self) -> list[str]:
        """What a person reads from the top of the scrollback to the end of the screen."""
        return Playback(self.rows).feed(list(self.chunks))


class Playback:
    """What a person reads from the top of the scrollback to the end of the screen, as it is being written."""

    def __init__(self, rows: int = ROWS) -> None:
        self._screen = pyte.HistoryScreen(COLUMNS, rows, history=100_000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)

    def feed(self, chunks: Iterable[bytes]) -> list[str]:
        """The lines, now that these were written, too."""
        for chunk in chunks:
            self._stream.feed(chunk)
        gone = ["".join(line[x].data for x in range(COLUMNS)).rstrip() for line in self._screen.history.top]
        lines = [*gone, *(line.rstrip() for line in self._screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines
