"""Attending a run: its events come in from a thread of their own, and the main thread paints and hears Ctrl-C."""

import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import Self

from longwick.client import Client, Event
from longwick.errors import LongwickError, Unavailable
from longwick.terminal import View

TICK_SECONDS = 0.1
FRAME_SECONDS = 0.05
CANCEL_AGAIN_SECONDS = 1.0
AWAY = "the server does not answer; waiting for it"


class Interrupts:
    """Counts Ctrl-C instead of being struck by it in the middle of a line; the second one strikes all the same."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._heard)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _heard(self, *_: object) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt


class _Feed:
    """A thread that follows a run, and what it has found since it was last asked."""

    def __init__(self, client: Client, run_id: str, after: int) -> None:
        self._found: queue.SimpleQueue[Event | bool | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(client, run_id, after), name="feed", daemon=True).start()

    def _run(self, client: Client, run_id: str, after: int) -> None:
        try:
            for event in client.follow(run_id, after, connected=self._found.put):
                self._found.put(event)
            self._found.put(None)
        except Exception as error:
            # The thread that paints is the one that can say it.
            self._found.put(error)

    def take(self, seconds: float) -> list[Event | bool | Exception | None]:
        """All that came in a frame's time, once there is something; nothing, if nothing comes."""
        found: list[Event | bool | Exception | None] = []
        try:
            found.append(self._found.get(timeout=seconds))
            frame_ends = time.monotonic() + FRAME_SECONDS
            while found[-1] is not None and (left := frame_ends - time.monotonic()) > 0:
                found.append(self._found.get(timeout=left))
        except queue.Empty:
            pass
        return found


def attend(
    client: Client, run_id: str, view: View, interrupts: Interrupts, *, after: int = 0, interrupt: Callable[[], None]
) -> str | None:
    """Show a run past `after` until it is over, and how it ended; the first Ctrl-C is answered by `interrupt`.

    None where nothing came past `after` any more.

    Raises:
        LongwickError: the server says no.
        KeyboardInterrupt: Ctrl-C again, or `interrupt` wants to leave.
    """
    feed = _Feed(client, run_id, after)
    answered = False
    ended: str | None = None
    with view:
        while True:
            found = feed.take(TICK_SECONDS)
            if interrupts.count and not answered:
                answered = True
                interrupt()
            events = [item for item in found if isinstance(item, Event)]
            view.show(events)
            ended = events[-1].ends_as if events else ended
            for item in found:
                if isinstance(item, bool):
                    view.state(None if item else AWAY)
                    if item:
                        view.tell("the server is back")
                if isinstance(item, Exception):
                    raise item
            if None in found:
                return ended


def start_cancelling(client: Client, run_id: str) -> None:
    """Have a run cancelled, by a thread that asks for as long as no server answers; come back at once."""

    def ask() -> None:
        pause = threading.Event()
        while True:
            try:
                client.cancel_run(run_id)
            except LongwickError as error:
                if error.status == Unavailable.status:
                    pause.wait(CANCEL_AGAIN_SECONDS)
                    continue
                # It is over already, then: the stream tells.
            return

    threading.Thread(target=ask, name="cancelling", daemon=True).start()
