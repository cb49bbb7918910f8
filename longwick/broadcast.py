"""Live copies over Redis pub/sub: what is committed is told to whoever watches, and losing it loses nothing."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from longwick import metrics, seals
from longwick.database import Database
from longwick.errors import LongwickError
from longwick.events import Batch
from longwick.news import News

log = logging.getLogger(__name__)

INLINE_BYTES = 64 * 1024
TIMEOUT_SECONDS = 0.5
PAUSE_SECONDS = 1.0
WAITING_BATCHES = 2_000
PIPELINE = 200
NEWS_CHANNEL = "longwick:news"


def run_channel(run_id: str) -> str:
    """Where the batches of a run are told."""
    return f"longwick:run:{run_id}"


def connect(redis_url: str) -> Redis:
    """A client that answers or fails within half a second and never repeats a command by itself."""
    return Redis.from_url(
        redis_url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        max_connections=50,
    )


def encode(batch: Batch) -> bytes:
    """`first last terminal`, and the events on the lines below unless they are too large to pass around."""
    head = f"{batch.first_seq} {batch.last_seq} {int(batch.terminal)}"
    return (f"{head}\n{batch.body}" if len(batch.body) <= INLINE_BYTES else head).encode("ascii")


def decode(run_id: str, message: bytes) -> Batch:
    """The batch of a message; its body is empty where only the positions were told.

    Raises:
        ValueError: it is not such a message.
    """
    head, _, body = message.decode("ascii").partition("\n")
    first, last, terminal = head.split(" ")
    return Batch(run_id, int(first), int(last), body, terminal == "1")


class Publisher:
    """A thread that tells committed batches; a Redis that is slow, frozen or gone never holds up a commit."""

    def __init__(self, redis_url: str, database: Database) -> None:
        self._redis = connect(redis_url)
        self._database = database
        self._waiting: deque[tuple[float, str, bytes]] = deque(maxlen=WAITING_BATCHES)
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.dropped = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join(4 * TIMEOUT_SECONDS)
        self._redis.close()

    def publish(self, announced: Iterable[object]) -> None:
        """Take what a unit of work announced; returns at once. With too much waiting, the oldest is dropped."""
        for item in announced:
            if isinstance(item, Batch):
                self._tell(run_channel(item.run_id), encode(item))
            elif isinstance(item, News):
                # Its worker looks at the record now, and not only at its next beat.
                self._tell(NEWS_CHANNEL, item.run_id.encode())

    def _tell(self, channel: str, message: bytes) -> None:
        if len(self._waiting) == WAITING_BATCHES:
            self.dropped += 1
            metrics.LIVE_COPIES_DROPPED.inc()
        self._waiting.append((time.monotonic(), channel, message))
        self._wake.set()

    def _run(self) -> None:
        failing = False
        while not (self._stopping and not self._waiting):
            self._wake.wait()
            self._wake.clear()
            try:
                if self._drain():
                    failing = False
            except (RedisError, OSError, LongwickError) as error:
                if not isinstance(error, LongwickError):
                    metrics.REDIS_FAILURES.labels("publish").inc()
                if not failing:
                    log.warning("no live copies can be told, readers fall back on the record: %s", error)
                failing = True
                if self._stopping:
                    return
                time.sleep(PAUSE_SECONDS)
                # By now the readers have found these in the record.
                metrics.LIVE_COPIES_DROPPED.inc(len(self._waiting))
                self._waiting.clear()
            except Exception:
                log.exception("telling live copies failed")
                time.sleep(PAUSE_SECONDS)

    def _drain(self) -> bool:
        """Tell all that waits; whether there was anything."""
        told = False
        while self._waiting:
            committed_at = self._waiting[0][0]
            with self._redis.pipeline(transaction=False) as pipeline:
                for _ in range(min(PIPELINE, len(self._waiting))):
                    _, channel, message = self._waiting.popleft()
                    # News is only a reason to look at the record, whoever gives it.
                    news = channel == NEWS_CHANNEL
                    pipeline.publish(channel, message if news else seals.sealed(self._key, channel, message))
                pipeline.execute(raise_on_error=False)
            metrics.PUBLISH_SECONDS.observe(time.monotonic() - committed_at)
            told = True
        return told

    @cached_property
    def _key(self) -> bytes:
        return self._database.read(seals.find_key)
