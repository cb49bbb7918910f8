"""`python -m benchmarks.lanes`: how long a chat waits for its first word while 1,000 background runs are queued."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from statistics import median

import uvloop
from postgres import Postgres

from benchmarks.measures import FIRST_WORDS
from benchmarks.stack import Stack, stack

NS = 1e9
AT_ONCE = 20


def main() -> None:
    """Measure on both engines, and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lanes", description=__doc__)
    parser.add_argument("--background", type=int, default=1000, help="runs that are queued (default 1000)")
    parser.add_argument("--slots", type=int, default=16, help="of the worker, for both lanes together (default 16)")
    parser.add_argument("--chats", type=int, default=20, help="chats that are timed (default 20)")
    given = parser.parse_args()
    with Postgres() as postgres:
        postgres.create("lanes")
        for engine, url in (("SQLite", None), ("PostgreSQL", postgres.url("lanes"))):
            with stack(url, seconds=1, lines=1, slots=given.slots) as longwick:
                uvloop.run(measure(longwick, engine, given.background, given.chats))


async def measure(longwick: Stack, engine: str, background: int, chats: int) -> None:
    """The first words of chats: with nothing else to do, and with background runs that hold or want half the slots."""
    tell(engine, "nothing else", await first_words(longwick, chats))
    for agent, how in (("echo", "that end at once"), ("silent", "that do not end")):
        start = time.perf_counter()
        await queue(longwick, agent, background)
        took = time.perf_counter() - start
        figures = await first_words(longwick, chats)
        left = await waiting(longwick)
        tell(engine, f"{background} background runs {how} (accepted in {took:.0f} s, {left} still queued)", figures)
        if agent == "echo":
            await longwick.client.idle()


async def queue(longwick: Stack, agent: str, number: int) -> None:
    """Have so many background runs accepted."""
    left = iter(range(number))

    async def some() -> None:
        async with longwick.client.connect() as connection:
            for _ in left:
                body = {"input": "go", "agent": agent, "kind": "background"}
                await connection.ask("POST", "/api/v1/runs", body)

    await asyncio.gather(*[some() for _ in range(AT_ONCE)])


async def first_words(longwick: Stack, number: int) -> Sequence[float]:
    """Milliseconds from POST to the first word, one chat after the other."""
    took = []
    for _ in range(number):
        async with longwick.client.connect() as connection:
            start = time.time_ns()
            run_id = await connection.submit("echo")
            heard = await connection.first_heard(run_id, *FIRST_WORDS)
            took.append((heard.at_ns - start) / NS * 1000)
    return took


async def waiting(longwick: Stack) -> int:
    """How many runs are queued, up to a thousand."""
    async with longwick.client.connect() as connection:
        return len((await connection.ask("GET", "/api/v1/runs?status=queued&limit=1000"))["data"])


def tell(engine: str, beside: str, took: Sequence[float]) -> None:
    print(f"{engine}: first word p50 {median(took):.0f} ms, slowest {max(took):.0f} ms, beside {beside}", flush=True)


if __name__ == "__main__":
    main()
