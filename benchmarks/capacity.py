"""What one process of a tier carries: how much of a kind of work it does in a second of its own processor time.

A process is Python and so uses little more than one processor; what others on the machine do does not count.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from benchmarks.agents import CALLS
from benchmarks.measures import Figures, Scale, cancel, submit_all
from benchmarks.recovery import RECOVERY_SECONDS
from benchmarks.stack import CONCURRENCY, Stack

TALKING = 20
READERS = 10
"""Of each of them."""
CALLING = 4


class Spent:
    """Processor time of a process, in seconds."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._before = self._so_far()
        self.seconds = 0.0

    def stop(self) -> None:
        self.seconds = self._so_far() - self._before

    def _so_far(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def spending(stack: Stack, tier: str) -> Iterator[Spent]:
    """What the process of the tier spends meanwhile."""
    spent = Spent(stack.process(tier))
    yield spent
    spent.stop()


async def capacity(stack: Stack, scale: Scale) -> Figures:
    """Accepts and events of a web process, runs and pieces of a worker, calls of an MCP server; a worker's memory."""
    with spending(stack, "web") as accepting, spending(stack, "worker") as running:
        await submit_all(stack, "echo", scale.runs)
        await stack.client.idle()

    with spending(stack, "web") as sending, spending(stack, "worker") as hearing:
        _, ids = await submit_all(stack, "ticks", TALKING)
        events = await asyncio.gather(*(_read(stack, run_id) for run_id in ids for _ in range(READERS)))

    with spending(stack, "mcp_server") as serving:
        await submit_all(stack, "caller", CALLING)
        await stack.client.idle()

    before = stack.process("worker").memory_info().rss
    _, ids = await submit_all(stack, "silent", CONCURRENCY)
    async with asyncio.timeout(RECOVERY_SECONDS):
        await asyncio.gather(*(_spoken(stack, run_id) for run_id in ids))
    grown = stack.process("worker").memory_info().rss - before
    await cancel(stack, ids)
    return {
        "capacity accepts": scale.runs / accepting.seconds,
        "capacity events": sum(events) / sending.seconds,
        "capacity runs": scale.runs / running.seconds,
        "capacity heard": sum(events) / READERS / hearing.seconds,
        "capacity calls": CALLING * CALLS / serving.seconds,
        "capacity memory": grown / 1024 / CONCURRENCY,
    }


async def _read(stack: Stack, run_id: str) -> int:
    """How many events a reader of a run has had."""
    async with stack.client.connect() as connection:
        return len([heard async for heard in connection.events(run_id)])


async def _spoken(stack: Stack, run_id: str) -> None:
    async with stack.client.connect() as connection:
        await connection.first_heard(run_id, "message.delta")
