"""Whose turn it is to write to SQLite, among all threads of all processes of a host.

SQLite has one lock, which waiting processes poll for with growing pauses: a process with many busy threads takes it
again and again, and the others starve for seconds. Here a waiter stands in the gate, through which everybody has to
pass, until the writer before it has left; so nobody can write twice while somebody waits.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longwick.errors import Unavailable

POLL_SECONDS = 0.0005


class Turnstile:
    """The locks are of the kernel's: whatever a process held is free when it is gone, by whatever death."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._threads = threading.Lock()
        self._gate, self._room = -1, -1

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Be the only writer.

        Raises:
            Unavailable: it was somebody else's turn for all of these seconds.
        """
        give_up = time.monotonic() + seconds
        if not self._threads.acquire(timeout=seconds):
            raise Unavailable("the record is busy")
        try:
            if self._gate < 0:
                self._gate, self._room = (self._open(ending) for ending in (".gate", ".writer"))
            _lock(self._gate, give_up)
            try:
                _lock(self._room, give_up)
            finally:
                fcntl.flock(self._gate, fcntl.LOCK_UN)
            try:
                yield
            finally:
                fcntl.flock(self._room, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        """Let go of the files."""
        for file in (self._gate, self._room):
            if file >= 0:
                os.close(file)
        self._gate, self._room = -1, -1

    def _open(self, ending: str) -> int:
        try:
            return os.open(f"{self._place}{ending}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"the record does not answer: {error.strerror}") from error


def _lock(file: int, give_up: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise Unavailable("the record is busy") from None
            time.sleep(POLL_SECONDS)
        else:
            return
