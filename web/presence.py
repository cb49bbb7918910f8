"""Who is here on an open stream and by what right, looked after once a second: whose right ends is shown out."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

from starlette.concurrency import run_in_threadpool

from longwick import keys, passes
from longwick.database import Database
from longwick.errors import LongwickError
from longwick.passes import Hold

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Presence:
    """All open streams of this process by what lets them in, and the keys that were used of late."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._here: dict[asyncio.Event, Hold] = {}
        self._used: set[str] = set()

    def note_use(self, key_id: str) -> None:
        """Have the record told soon that a key was used."""
        self._used.add(key_id)

    @contextlib.contextmanager
    def of(self, hold: Hold) -> Iterator[asyncio.Event]:
        """Be here by this right; the event happens when it has ended."""
        over = asyncio.Event()
        self._here[over] = hold
        try:
            yield over
        finally:
            del self._here[over]

    @contextlib.asynccontextmanager
    async def looked_after(self) -> AsyncIterator[None]:
        """Look after who is here, until left."""
        looking = asyncio.create_task(self._look_for_ever(), name="presence looks")
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except LongwickError:
                # Without the record nobody is shown anything new, either.
                continue
            except Exception:
                log.exception("who is here could not be looked after")

    async def _look(self) -> None:
        if self._here:
            holds = set(self._here.values())
            fallen = await run_in_threadpool(self._database.read, lambda db: passes.fallen(db, holds))
            for over, hold in self._here.items():
                if hold in fallen:
                    over.set()
        # Last: a record that takes no writes keeps nobody in.
        if self._used:
            used, self._used = self._used, set()
            try:
                await run_in_threadpool(self._database.write, lambda db: keys.used(db, used))
            except LongwickError:
                self._used |= used
                raise
