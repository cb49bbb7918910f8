"""The feed: how all of an owner's runs and files are, told to everybody who watches.

Whole states, no deltas: whoever has missed something is told everything anew. The record is looked at twice a second
for each owner, however many watch, and what is found is encoded once; nothing here needs Redis.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from longwick import backlog, metrics, overview
from longwick.database import Database, Db
from longwick.errors import LongwickError
from longwick.overview import Glance
from web.hub import VIEWER_BYTES, Hub
from web.schemas import Artifact, Run
from web.stream import HEARTBEAT, HEARTBEAT_SECONDS

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


class Onlooker:
    """One open feed: a bounded buffer of frames, and whether it must be told everything first."""

    def __init__(self) -> None:
        self.needs_all = True
        self._whole: deque[bytes] = deque()
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()

    def start_over(self, whole: Iterable[bytes]) -> None:
        """Take all that there is, in place of what was not yet sent."""
        self._frames.clear()
        self._size = 0
        self._whole = deque(whole)
        self.needs_all = False
        self._news.set()

    def offer(self, frame: bytes) -> None:
        """Take what has changed; an onlooker that is too slow drops what it has, to be told everything anew."""
        if self.needs_all:
            return
        if self._size + len(frame) > VIEWER_BYTES:
            metrics.VIEWER_RESYNCS.labels("slow").inc()
            self._frames.clear()
            self.needs_all = True
            return
        self._frames.append(frame)
        self._size += len(frame)
        self._news.set()

    def take(self) -> bytes | None:
        """The next frame, if one is there."""
        if self._whole:
            return self._whole.popleft()
        if not self._frames:
            self._news.clear()
            return None
        frame = self._frames.popleft()
        self._size -= len(frame)
        return frame

    def wake(self) -> None:
        """Have it see whether the feed goes on."""
        self._news.set()

    async def news(self, seconds: float) -> bool:
        """Wait for something to happen; False when nothing did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
                return True
        return False


@dataclass
class Audience:
    """All who watch one owner's feed, and what they have been told."""

    onlookers: set[Onlooker] = field(default_factory=set)
    runs: Mapping[str, Glance] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    looking: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the record found."""

    runs: Mapping[str, Glance]
    artifacts: set[str]
    news: Sequence[bytes]
    whole: Sequence[bytes]
    """For those who need to be told everything: a snapshot, and what was saved in the last minute."""
    gone: bool
    """Whether something was deleted: then everybody is told everything, as what a snapshot lacks is not there."""


class Feed:
    """The feeds of all owners of whom somebody in this process watches one."""

    def __init__(self, hub: Hub, database: Database) -> None:
        self._hub = hub
        self._database = database
        self._audiences: dict[str, Audience] = {}

    async def frames(self, owner: str) -> AsyncGenerator[bytes]:
        """An owner's feed as SSE frames: a snapshot at once, then what changes, heartbeats in between.

        Ends when this process stops.
        """
        async with self._watch(owner) as onlooker:
            heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
            while not self._hub.closing:
                frame = onlooker.take()
                if frame is not None:
                    yield frame
                elif not await onlooker.news(heartbeat_at - time.monotonic()):
                    yield HEARTBEAT
                    heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS

    @contextlib.asynccontextmanager
    async def _watch(self, owner: str) -> AsyncIterator[Onlooker]:
        onlooker = Onlooker()
        audience = self._audiences.setdefault(owner, Audience())
        audience.onlookers.add(onlooker)
        audience.came.set()
        if audience.looking is None:
            audience.looking = asyncio.create_task(self._look_for_ever(owner, audience), name="feed looks")
        metrics.VIEWERS.inc()
        try:
            yield onlooker
        finally:
            metrics.VIEWERS.dec()
            audience.onlookers.discard(onlooker)
            if not audience.onlookers:
                del self._audiences[owner]
                audience.looking.cancel()

    async def _look_for_ever(self, owner: str, audience: Audience) -> None:
        failing = False
        while not self._hub.closing:
            audience.came.clear()
            try:
                await self._look(owner, audience)
                failing = False
            except LongwickError as error:
                if not failing:
                    log.warning("the feed cannot look at the record for now: %s", error)
                failing = True
            except Exception:
                log.exception("the feed failed")
                failing = True
            if failing:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await audience.came.wait()
        for onlooker in audience.onlookers:
            onlooker.wake()

    async def _look(self, owner: str, audience: Audience) -> None:
        """Look at the record once, and tell everybody what they do not know yet."""
        behind = [onlooker for onlooker in audience.onlookers if onlooker.needs_all]
        told, told_artifacts = audience.runs, audience.artifacts
        found = await run_in_threadpool(
            self._database.read, lambda db: _find(db, owner, told, told_artifacts, everything=bool(behind))
        )
        audience.runs, audience.artifacts = found.runs, found.artifacts
        for onlooker in audience.onlookers if found.gone else behind:
            onlooker.start_over(found.whole)
        for onlooker in () if found.gone else audience.onlookers.difference(behind):
            for frame in found.news:
                onlooker.offer(frame)


def _find(db: Db, owner: str, told: Mapping[str, Glance], told_artifacts: set[str], *, everything: bool) -> Found:
    """Look at the owner's runs and artifacts, given how those were that everybody has been `told` of."""
    now = overview.glances(db, owner)
    changed = {run_id for run_id, glance in now.items() if told.get(run_id) != glance}
    left = told.keys() - now.keys()
    shown = overview.shortened(db, owner, now.keys() | left if everything else changed | left)
    gone = not left.issubset(run.id for run in shown)
    if gone and not everything:
        return _find(db, owner, told, told_artifacts, everything=True)
    # Of those that left, some were only pushed out by newer ones.
    changed |= {run.id for run in shown if run.id in left and told[run.id] != Glance.of(run)}
    positions = backlog.positions(db, shown)
    states = {run.id: Run.of(run, positions.get(run.id)).model_dump_json() for run in shown}
    files = {
        artifact.id: _frame("artifact", "artifact", Artifact.model_validate(artifact).model_dump_json())
        for artifact in overview.new_artifacts(db, owner)
    }
    news = [_frame("run", "run", state) for run_id, state in reversed(states.items()) if run_id in changed]
    news += [frame for artifact_id, frame in files.items() if artifact_id not in told_artifacts]
    whole = []
    if everything:
        snapshot = ",".join(state for run_id, state in states.items() if run_id in now)
        whole = [_frame("snapshot", "runs", f"[{snapshot}]"), *files.values()]
    return Found(now, set(files), news, whole, gone)


def _frame(kind: str, name: str, value: str) -> bytes:
    return f'data: {{"type":"{kind}","{name}":{value}}}\n\n'.encode()
