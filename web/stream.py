"""Streams of events: what the record holds after a cursor, then live, each event once and in order.

The live part comes from the hub (web/hub.py); whatever it leaves in doubt is settled by reading the record.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from longwick import events, metrics, runs
from longwick.database import Database, Db
from longwick.errors import NotFound
from longwick.events import Batch
from longwick.passes import Hold
from web.hub import Hub, encode
from web.presence import Presence

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
# No blank line behind it: some clients take a comment that ends with one for an empty event.
HEARTBEAT = b": ping\n"
SEND_SECONDS = 30.0
PAGE_BYTES = 256 * 1024
"""So much of the record, and what is over it of one batch, is on its way to a client that does not read."""


async def frames(hub: Hub, database: Database, owner: str, run_id: str, after: int) -> AsyncGenerator[bytes]:
    """The run's events past `after` as SSE frames, to the terminal one; heartbeats in between.

    The owner is checked with every read of the record. Ends early, without the terminal event, when this process stops
    or the run is deleted.
    """

    def read(db: Db) -> tuple[list[Batch], bool, bool]:
        run = runs.get(db, owner, run_id)
        batches = events.read(db, run_id, viewer.cursor, enough_bytes=PAGE_BYTES)
        more = bool(batches) and batches[-1].last_seq < run.last_seq
        return batches, more, run.status.terminal and not more

    # Only of those is it known that what comes is new.
    up_to_date = False
    async with hub.watch(run_id, after) as viewer:
        heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
        while not hub.closing:
            if viewer.behind:
                viewer.behind = False
                batches, more, done = await run_in_threadpool(database.read, read)
                for batch in batches:
                    yield encode(batch, viewer.cursor)
                    viewer.cursor = batch.last_seq
                    if up_to_date:
                        metrics.VIEWER_LAG_SECONDS.observe(max(0.0, time.time() - batch.at.timestamp()))
                if done:
                    return
                viewer.behind = viewer.behind or more
                up_to_date = up_to_date or not more
                continue
            live = viewer.take()
            if live is None:
                if not await viewer.news(heartbeat_at - time.monotonic()):
                    yield HEARTBEAT
                    heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
            elif live.batch.first_seq > viewer.cursor + 1 or (
                not live.batch.body and live.batch.last_seq > viewer.cursor
            ):
                viewer.look("gap")
            elif live.batch.last_seq > viewer.cursor:
                yield live.frames(viewer.cursor)
                viewer.cursor = live.batch.last_seq
                metrics.VIEWER_LAG_SECONDS.observe(max(0.0, time.time() - live.at))
                if live.batch.terminal:
                    return


class EventStream(Response):
    """An SSE answer that ends when its client goes or may be here no more, or takes nothing for `SEND_SECONDS`."""

    def __init__(
        self, chunks: AsyncGenerator[bytes], presence: Presence, hold: Hold, close: Callable[[], None] = lambda: None
    ) -> None:
        """`close` is called at the end, whatever it is."""
        super().__init__(
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
        del self.headers["content-length"]
        self._chunks = chunks
        self._presence = presence
        self._hold = hold
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(receive, send)
        finally:
            self._close()

    async def _answer(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with self._presence.of(self._hold) as over:
            streaming = asyncio.create_task(self._stream(send))
            ends = (streaming, asyncio.create_task(_left(receive)), asyncio.create_task(over.wait()))
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in ends:
                    task.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
        if over.is_set() and streaming.cancelled():
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        if not streaming.cancelled() and (error := streaming.exception()) is not None:
            # The headers are sent; all that can be said is said by ending the stream, and the client comes again.
            level = logging.INFO if isinstance(error, NotFound) else logging.WARNING
            log.log(level, "a stream ended early: %s", error)

    async def _stream(self, send: Send) -> None:
        async with contextlib.aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
