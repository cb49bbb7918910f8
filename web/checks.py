"""One look at each part that the tier needs, for whoever asks how it is."""

import asyncio
import http.client
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from longwick.broadcast import connect
from longwick.models import Worker

T = TypeVar("T")


class Check(Generic[T]):
    """A look that may take long, made by one thread at a time however many ask, and waited for only so long."""

    def __init__(self, look: Callable[[], T]) -> None:
        self._look = look
        self._looking: asyncio.Task[T] | None = None

    async def answer(self, seconds: float) -> T:
        """What the look that is under way finds, or a new one.

        Raises:
            TimeoutError: it takes longer; it goes on, and the next who ask wait for the same one.
            Exception: what the look raised.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(asyncio.to_thread(self._look), name="check")
            # Marks a failure as seen also when everybody has stopped waiting for it.
            self._looking.add_done_callback(lambda looking: looking.cancelled() or looking.exception())
        looking = self._looking
        done, _ = await asyncio.wait({looking}, timeout=seconds)
        if not done:
            raise TimeoutError(f"no answer within {seconds:g} s")
        return looking.result()


@dataclass(frozen=True, slots=True)
class Checks:
    """The looks that there are; `record` finds the workers that live, `unsettled` brings its metric up to date."""

    record: Check[Sequence[Worker]]
    redis: Check[None]
    mcp: Check[None]
    unsettled: Check[None]


def redis_answers(redis_url: str) -> None:
    """Raise an error unless Redis answers within its timeouts of half a second."""
    with connect(redis_url) as redis:
        redis.ping()


def mcp_answers(mcp_url: str, seconds: float) -> None:
    """Raise an error unless the MCP server says that it lives."""
    url = urlsplit(mcp_url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=seconds)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise OSError(f"GET /healthz got {status}")
