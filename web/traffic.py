"""How much each owner asks of this process: requests as they come, and streams that stay open.

Counted here and not in the record: what is to be kept from doing too much must not first do a write. So the limits
hold for each web process.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from longwick.errors import TooMany

BURST = 5.0
"""So many seconds' worth of requests may come at once."""
MOST_KNOWN = 10_000
"""Who has not asked for the longest is forgotten first; that one's burst is whole again by then, or nearly."""
STREAM_SECONDS = 5
RATE_SECONDS = 10


@dataclass
class Asking:
    """One who asks: how much of the burst is left, as of the last request, and the requests of the last seconds."""

    left: float
    at: float
    streams: int = 0
    seconds: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=RATE_SECONDS))
    """(second, requests), the newest last."""


class Traffic:
    """Who asks how much; 0 is no limit. May be asked from any thread."""

    def __init__(self, requests_per_second: float, streams: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests_per_second = requests_per_second
        self.streams = streams
        self._clock = clock
        self._asking: OrderedDict[str, Asking] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: str) -> None:
        """Let one more request pass.

        Raises:
            TooMany: there were too many; says when the next one may pass (`too_many_requests`).
        """
        with self._lock:
            now, rate = self._clock(), self.requests_per_second
            asking = self._find(who, now)
            burst = max(1.0, rate * BURST)
            asking.left = min(burst, asking.left + (now - asking.at) * rate)
            asking.at = now
            second, count = asking.seconds[-1] if asking.seconds else (-1, 0)
            if second == int(now):
                asking.seconds[-1] = (second, count + 1)
            else:
                asking.seconds.append((int(now), 1))
            if not rate:
                return
            if asking.left < 1:
                raise TooMany(
                    f"more than {rate:g} requests a second are too many: ask a little later, and more slowly",
                    code="too_many_requests",
                    retry_after=(1 - asking.left) / rate,
                )
            asking.left -= 1

    def open_stream(self, who: str) -> Callable[[], None]:
        """Take a place for a stream; what is returned gives it back, and is to be called once.

        Raises:
            TooMany: as many are open as may be (`too_many_streams`).
        """
        with self._lock:
            asking = self._find(who, self._clock())
            if self.streams and asking.streams >= self.streams:
                raise TooMany(
                    f"{asking.streams} of your streams are open here, and no more may: close some first",
                    code="too_many_streams",
                    retry_after=STREAM_SECONDS,
                )
            asking.streams += 1

        def close() -> None:
            with self._lock:
                asking.streams -= 1

        return close

    def seen(self, who: str) -> tuple[float, int]:
        """How many requests a second somebody makes, over the last ten, and how many streams are open."""
        with self._lock:
            now = self._clock()
            asking = self._asking.get(who)
            if asking is None:
                return 0.0, 0
            recent = sum(count for second, count in asking.seconds if second > now - RATE_SECONDS)
            return recent / RATE_SECONDS, asking.streams

    def _find(self, who: str, now: float) -> Asking:
        asking = self._asking.get(who)
        if asking is None:
            asking = self._asking[who] = Asking(max(1.0, self.requests_per_second * BURST), now)
            if len(self._asking) > MOST_KNOWN:
                self._forget_one()
        self._asking.move_to_end(who)
        return asking

    def _forget_one(self) -> None:
        idle = next((who for who, asking in self._asking.items() if not asking.streams), None)
        if idle is not None:
            del self._asking[idle]
