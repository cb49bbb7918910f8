"""Where a reader of a run's stream is, and what it has to do next. Performs no I/O; both clients are driven by it."""

import random
import time
from collections.abc import Callable
from urllib.parse import quote

import httpx2

from longwick.client.answers import Event
from longwick.client.plans import API, Ask, Refused, Unreachable, refusal

Connected = Callable[[bool], None]
"""Told False when the server has gone away, and True when it is back."""

PAUSES_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)
READ_SECONDS = 35.0
"""The longest silence of a stream; the server says something every 15 s."""
EVENT_BYTES = 16 * 2**20
# What a proxy, or a server that starts or stops, answers for a while.
PASSING = {429, 502, 503, 504}


class Following:
    """The way through one run's log, from an event on to the end, over any number of connections.

    A reader opens `ask()`, hands the answer's head to `reads` and its frames to `take`, calls `passed` for each event
    it has handed on, and `lost` when the connection breaks; then it pauses, and does it again until `over`.
    """

    def __init__(self, run_id: str, after: int, patience_seconds: float, connected: Connected | None) -> None:
        self.cursor = after
        self.over = False
        self._path = f"{API}/runs/{quote(run_id, safe='')}/events"
        self._patience_seconds = patience_seconds
        self._tell = connected or (lambda there: None)
        self._failures = 0
        self._lost_at: float | None = None

    def ask(self) -> Ask:
        """The request for what follows the last event."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.cursor)}
        return Ask("GET", self._path, headers=headers)

    def reads(self, answer: httpx2.Response) -> bool:
        """Whether the answer is a stream that is to be read. (The body of one of 400 or more has been read.)

        Raises:
            LongwickError: the server says no, and would say so again.
        """
        if answer.status_code in PASSING:
            self.lost(refusal(answer))
            return False
        if answer.is_error:
            raise refusal(answer)
        if self._lost_at is not None:
            self._lost_at = None
            self._tell(True)
        self.over = answer.status_code == httpx2.codes.NO_CONTENT
        return not self.over

    def take(self, frame: httpx2.ServerSentEvent) -> Event | None:
        """The event of a frame; None where it brings none that is new.

        Raises:
            Refused: whoever sent it is no Longwick.
        """
        try:
            event = Event.parse(frame.data) if frame.data else None
        except ValueError as error:
            raise Refused(f"the server sent what is no event: {frame.data[:100]!r}") from error
        return event if event and event.seq > self.cursor else None

    def passed(self, event: Event) -> None:
        """The event is the reader's: never ask for it again."""
        self.cursor = event.seq
        self.over = event.ends_as is not None
        self._failures = 0

    def lost(self, why: Exception) -> None:
        """The connection broke, or could not be made.

        Raises:
            Unreachable: it has been so for longer than the reader has patience.
        """
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self._tell(False)
        if time.monotonic() - self._lost_at >= self._patience_seconds:
            raise Unreachable(f"the server has gone away: {why}") from why

    def pause_seconds(self) -> float:
        """How long to wait before asking again; the readers of a server that comes back do not all ask at once."""
        pause = PAUSES_SECONDS[min(self._failures, len(PAUSES_SECONDS) - 1)]
        self._failures += 1
        return 0.0 if self.over else pause * random.uniform(0.75, 1.25)  # noqa: S311 - spreads them, hides nothing
