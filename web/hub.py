"""Who watches which run in this process, and the one subscription connection that feeds them.

What comes over it is a copy that may be lost, doubled or late; every doubt sends a viewer to the record.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool

from longwick import metrics, overview, seals
from longwick.broadcast import TIMEOUT_SECONDS, decode, run_channel
from longwick.database import Database
from longwick.errors import LongwickError
from longwick.events import Batch

log = logging.getLogger(__name__)

CONFIRM_SECONDS = 0.05
CHECK_SECONDS = 1.0
RECONNECT_SECONDS = 0.25
PING_SECONDS = 5
SILENCE_SECONDS = 15.0
VIEWER_BYTES = 256 * 1024


class Live:
    """A committed batch on its way to all viewers of its run, encoded once."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.size = len(batch.body)
        self._frames: bytes | None = None
        self._at = 0.0

    @property
    def at(self) -> float:
        """When its last event happened, in seconds since the epoch."""
        self._at = self._at or self.batch.at.timestamp()
        return self._at

    def frames(self, after: int) -> bytes:
        """The SSE frames of the events past `after`."""
        if after >= self.batch.first_seq:
            return encode(self.batch, after)
        if self._frames is None:
            self._frames = encode(self.batch, 0)
        return self._frames


def encode(batch: Batch, after: int) -> bytes:
    """The SSE frames of a batch's events past `after`."""
    return "".join(f"id: {seq}\ndata: {line}\n\n" for seq, line in batch.after(after)).encode("ascii")


class Viewer:
    """One open stream: a bounded buffer of live batches, and whether it must look at the record first."""

    def __init__(self, run_id: str, cursor: int) -> None:
        self.run_id = run_id
        self.cursor = cursor
        self.behind = True
        self._live: deque[Live] = deque()
        self._size = 0
        self._news = asyncio.Event()

    def offer(self, live: Live) -> None:
        """Take a live batch; a viewer that is too slow drops what it has and reads the record instead."""
        if self._size + live.size > VIEWER_BYTES and self._live:
            self.look("slow")
            return
        self._live.append(live)
        self._size += live.size
        self._news.set()

    def look(self, why: str) -> None:
        """Have the viewer read the record; `why`, in a word, is counted."""
        metrics.VIEWER_RESYNCS.labels(why).inc()
        self._live.clear()
        self._size = 0
        self.behind = True
        self._news.set()

    def take(self) -> Live | None:
        """The next live batch, if one is there."""
        if not self._live:
            self._news.clear()
            return None
        live = self._live.popleft()
        self._size -= live.size
        return live

    async def news(self, seconds: float) -> bool:
        """Wait for something to happen; False when nothing did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
                return True
        return False


class Hub:
    """All viewers of this process, the one subscription that feeds them, and the check that misses nothing.

    Enter it in the event loop that serves the viewers.
    """

    def __init__(self, redis_url: str, database: Database) -> None:
        self._redis_url = redis_url
        self._database = database
        self._viewers: dict[str, set[Viewer]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: PubSub | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.closing = False

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._for_ever(self._listen), name="hub listens"),
            asyncio.create_task(self._for_ever(self._check), name="hub checks"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close_soon()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close_soon(self) -> None:
        """End all streams, for their clients to go on elsewhere; for when the process was told to stop."""
        self.closing = True
        for viewer in self._all_viewers():
            viewer.look("closing")

    @contextlib.asynccontextmanager
    async def watch(self, run_id: str, cursor: int) -> AsyncIterator[Viewer]:
        """A viewer of a run, subscribed before it reads anything."""
        viewer = Viewer(run_id, cursor)
        first = run_id not in self._viewers
        self._viewers.setdefault(run_id, set()).add(viewer)
        metrics.VIEWERS.inc()
        try:
            if first:
                self._confirmed[run_id] = asyncio.Event()
                await self._tell_redis(lambda pubsub: pubsub.subscribe(run_channel(run_id)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONFIRM_SECONDS):
                    await self._confirmed[run_id].wait()
            yield viewer
        finally:
            metrics.VIEWERS.dec()
            self._viewers[run_id].discard(viewer)
            if not self._viewers[run_id]:
                del self._viewers[run_id], self._confirmed[run_id]
                await self._tell_redis(lambda pubsub: pubsub.unsubscribe(run_channel(run_id)))

    async def _tell_redis(self, say: Callable[[PubSub], Awaitable[object]]) -> None:
        """Subscribe, unsubscribe or ping; where that fails, the connection breaks and is made anew as needed then."""
        if self._pubsub is not None:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(CONFIRM_SECONDS):
                    await say(self._pubsub)

    async def _for_ever(self, work: Callable[[], Any]) -> None:
        failing = False
        while True:
            started = time.monotonic()
            try:
                await work()
            except (RedisError, OSError, TimeoutError, LongwickError) as error:
                if not isinstance(error, LongwickError):
                    metrics.REDIS_FAILURES.labels("listen").inc()
                if not failing or time.monotonic() - started > PING_SECONDS:
                    log.warning("live copies are not to be had, streams follow the record: %s", error)
                failing = True
            except Exception:
                log.exception("the hub failed")
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        """Hold the one subscription connection until it breaks."""
        key = await run_in_threadpool(self._database.read, seals.find_key)
        redis = Redis.from_url(
            self._redis_url,
            socket_timeout=None,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        async with redis, redis.pubsub() as pubsub:
            # Something is always subscribed to, so that a connection is there to wait on.
            await pubsub.subscribe("longwick:hub", *(run_channel(run_id) for run_id in self._viewers))
            self._pubsub = pubsub
            try:
                while True:
                    # Pongs come every few seconds; without them the connection is dead, whatever TCP thinks.
                    async with asyncio.timeout(SILENCE_SECONDS):
                        message = await pubsub.get_message(timeout=None)
                    if message is not None:
                        self._hear(message, key)
            finally:
                self._pubsub = None

    def _hear(self, message: Mapping[str, Any], key: bytes) -> None:
        channel = (message["channel"] or b"").decode()
        run_id = channel.removeprefix("longwick:run:")
        viewers = self._viewers.get(run_id, ())
        if message["type"] == "subscribe":
            # At first, and again after each interruption, in which anything may have been missed.
            if run_id in self._confirmed:
                self._confirmed[run_id].set()
            for viewer in viewers:
                viewer.look("subscribed")
        elif message["type"] == "message" and viewers:
            try:
                live = Live(decode(run_id, seals.opened(key, channel, message["data"])))
            except ValueError as error:
                # From a Longwick of another version, or forged; the next look at the record shows what there is.
                log.warning("what came for %s is no live copy of ours: %s", run_id, error)
                return
            for viewer in viewers:
                viewer.offer(live)

    async def _check(self) -> None:
        """Once a second, ask the record whether any watched run is further than its viewers."""
        for tick in itertools.count():
            await asyncio.sleep(CHECK_SECONDS)
            if tick % PING_SECONDS == 0:
                await self._tell_redis(PubSub.ping)
            watched = list(self._viewers)
            if watched:
                positions = await run_in_threadpool(self._database.read, partial(overview.last_seqs, run_ids=watched))
                for viewer in self._all_viewers():
                    # A run that is gone has no position; its viewers find that out themselves.
                    if viewer.cursor < positions.get(viewer.run_id, viewer.cursor + 1):
                        viewer.look("missed")

    def _all_viewers(self) -> list[Viewer]:
        return [viewer for viewers in self._viewers.values() for viewer in viewers]
