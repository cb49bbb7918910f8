"""`python -m benchmarks.lanes`: how long a chat waits for its first word while 1,000 background runs are queued."""

import argparse
import time
from collections.abc import Sequence
from statistics import median

import uvloop
from postgres import Postgres

from benchmarks.measures import first_words, submit_all
from benchmarks.stack import Stack, stack


def main() -> None:
    """Measure on both engines, and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lanes", description=__doc__)
    parser.add_argument("--background", type=int, default=1000, help="runs that are queued (default 1000)")
    parser.add_argument("--slots", type=int, default=16, help="of the worker, for both lanes together (default 16)")
    parser.add_argument("--chats", type=int, default=20, help="chats that are timed (default 20)")
    given = parser.parse_args()
    with Postgres() as postgres:
        for engine, url in (("SQLite", None), ("PostgreSQL", postgres.create())):
            with stack(url, seconds=1, lines=1, slots=given.slots) as longwick:
                uvloop.run(measure(longwick, engine, given.background, given.chats))


async def measure(longwick: Stack, engine: str, background: int, chats: int) -> None:
    """The first words of chats: with nothing else to do, and with background runs that hold or want half the slots."""
    tell(engine, "nothing else", await words_of_chats(longwick, chats))
    for agent, how in (("echo", "that end at once"), ("silent", "that do not end")):
        start = time.perf_counter()
        await submit_all(longwick, agent, background, "background")
        took = time.perf_counter() - start
        figures = await words_of_chats(longwick, chats)
        left = await waiting(longwick)
        tell(engine, f"{background} background runs {how} (accepted in {took:.0f} s, {left} still queued)", figures)
        if agent == "echo":
            await longwick.client.idle()


async def words_of_chats(longwick: Stack, number: int) -> Sequence[float]:
    """Milliseconds from POST to the first word, one chat after the other."""
    took = []
    for _ in range(number):
        async with longwick.client.connect() as connection:
            took.append(await first_words(connection, time.time_ns()))
    return took


async def waiting(longwick: Stack) -> int:
    """How many runs are queued, up to a thousand."""
    async with longwick.client.connect() as connection:
        return len((await connection.ask("GET", "/api/v1/runs?status=queued&limit=1000"))["data"])


def tell(engine: str, beside: str, took: Sequence[float]) -> None:
    print(f"{engine}: first word p50 {median(took):.0f} ms, slowest {max(took):.0f} ms, beside {beside}", flush=True)


if __name__ == "__main__":
    main()
