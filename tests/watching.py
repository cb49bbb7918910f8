"""Somebody who watches a feed, in the event loop of the test."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from scene import OWNER

from web.feed import Feed
from web.stream import HEARTBEAT

SECONDS = 30
Json = dict[str, Any]


def in_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an async story, for a bounded time."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await story()

    asyncio.run(bounded())


class Watcher:
    """Somebody who watches a feed."""

    def __init__(self, feed: Feed, owner: str = OWNER) -> None:
        self._frames: AsyncGenerator[bytes] = feed.frames(owner)

    async def next(self) -> Json:
        """The next frame that is no heartbeat."""
        while (frame := await anext(self._frames)) == HEARTBEAT:
            pass
        return parse(frame)

    async def next_run(self) -> tuple[str, str, int]:
        frame = await self.next()
        assert frame["type"] == "run", frame
        return frame["run"]["id"], frame["run"]["status"], frame["run"]["attempt"]

    async def leave(self) -> None:
        await self._frames.aclose()


def parse(frame: bytes) -> Json:
    (line,) = frame.decode().removesuffix("\n\n").split("\n")
    assert line.startswith("data: ")
    found: Json = json.loads(line.removeprefix("data: "))
    return found
