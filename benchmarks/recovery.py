"""How long it takes until everything goes on: measures that kill, stop or freeze a part of a running Longwick."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import psutil

from benchmarks.client import Connection
from benchmarks.measures import NS, Figures, Measure, Scale, cancel, submit_all
from benchmarks.stack import Stack

SILENT_RUNS = 16
STOPPED_RUNS = 50
TALKING_RUNS = 10
READERS = 20
"""Of each of them."""
AWAY_SECONDS = 60.0
SUBMITS_WHILE_AWAY = 30
RECOVERY_SECONDS = 90.0
AGAIN_SECONDS = 0.05


async def restart(stack: Stack, scale: Scale) -> Figures:
    """From `kill -9` of the worker, which `up` starts again, to the next event of the slowest of its runs."""
    return {"restart": await _after_kill(stack, stack.process("worker"))}


async def lost_host(stack: Stack, scale: Scale) -> Figures:
    """The same for a worker that is not started again, where one on another host is left."""
    with stack.another_worker() as worker:
        return {"lost host": await _after_kill(stack, worker)}


async def stop(stack: Stack, scale: Scale) -> Figures:
    """From SIGTERM of a worker that may not wait for its runs, to the end of the last of them."""
    async with _all_speaking(stack, STOPPED_RUNS) as (ids, connections):
        start = time.time_ns()
        stack.process("worker").terminate()
        ends = await asyncio.gather(
            *(connection.first_heard(run_id, "run.failed") for run_id, connection in zip(ids, connections, strict=True))
        )
    assert {end.event["data"]["error"]["code"] for end in ends} == {"worker_shutdown"}
    return {"worker stopped": (max(end.at_ns for end in ends) - start) / NS}


async def web_restart(stack: Stack, scale: Scale) -> Figures:
    """From `kill -9` of the web tier, which `up` starts again, until the last of its streams goes on; and its holes."""
    _, ids = await submit_all(stack, "slow", TALKING_RUNS)
    readers = [_Reader(stack, run_id) for run_id in ids for _ in range(READERS)]
    reading = [asyncio.create_task(reader.read_on()) for reader in readers]
    async with asyncio.timeout(RECOVERY_SECONDS):
        await asyncio.gather(*(reader.spoke.wait() for reader in readers))
        for reader in readers:
            reader.spoke.clear()
            reader.back_at_ns = 0
        start = time.time_ns()
        stack.process("web").kill()
        while not all(reader.back_at_ns for reader in readers):  # noqa: ASYNC110 - 200 of them, over many connections
            await asyncio.sleep(AGAIN_SECONDS)
    for task in reading:
        task.cancel()
    await cancel(stack, ids)
    return {
        "web restart": (max(reader.back_at_ns for reader in readers) - start) / NS,
        "web restart holes": sum(reader.numbers != list(range(len(reader.numbers))) for reader in readers),
    }


async def without_redis(stack: Stack, scale: Scale) -> Figures:
    """A minute with a frozen Valkey: how late streams are, how long submissions take, and when those have run then."""
    valkey = stack.processes()["Valkey"][0]
    _, ids = await submit_all(stack, "slow", TALKING_RUNS)
    readers = [_Reader(stack, run_id) for run_id in ids]
    reading = [asyncio.create_task(reader.read_on()) for reader in readers]
    took, waiting = [], []
    async with asyncio.timeout(AWAY_SECONDS + RECOVERY_SECONDS), stack.client.connect() as connection:
        await asyncio.gather(*(reader.spoke.wait() for reader in readers))
        for reader in readers:
            reader.latest = 0.0
        valkey.send_signal(signal.SIGSTOP)
        try:
            for _ in range(SUBMITS_WHILE_AWAY):
                start = time.perf_counter()
                waiting.append(await connection.submit("echo"))
                took.append(time.perf_counter() - start)
                await asyncio.sleep(AWAY_SECONDS / SUBMITS_WHILE_AWAY)
            latest = max(reader.latest for reader in readers)
        finally:
            valkey.send_signal(signal.SIGCONT)
        back = time.perf_counter()
        for run_id in waiting:
            async with stack.client.connect() as follower:
                await follower.first_heard(run_id, "run.succeeded")
        ended = time.perf_counter() - back
    for task in reading:
        task.cancel()
    await cancel(stack, ids)
    return {"away lag": latest, "away submit": max(took) * 1000, "away ended": ended}


RECOVERIES: dict[str, Measure] = {
    "restart": restart,
    "lost-host": lost_host,
    "stop": stop,
    "web-restart": web_restart,
    "without-redis": without_redis,
}


class _Reader:
    """A reader of a run of the agent `slow` that comes back as soon as its stream breaks, from where it was."""

    def __init__(self, stack: Stack, run_id: str) -> None:
        self._stack = stack
        self._run_id = run_id
        self._seq = 0
        self.numbers: list[int] = []
        self.latest = 0.0
        """How late the latest piece was, in seconds."""
        self.back_at_ns = 1
        self.spoke = asyncio.Event()

    async def read_on(self) -> None:
        while True:
            with suppress(OSError, RuntimeError, asyncio.IncompleteReadError):
                async with self._stack.client.connect() as connection:
                    async for heard in connection.events(self._run_id, self._seq):
                        self._seq = heard.event["seq"]
                        self.back_at_ns = self.back_at_ns or heard.at_ns
                        words = heard.text.split()
                        for number, printed_ns in zip(words[::2], words[1::2], strict=True):
                            self.numbers.append(int(number))
                            self.latest = max(self.latest, (heard.at_ns - int(printed_ns)) / NS)
                            self.spoke.set()
            await asyncio.sleep(AGAIN_SECONDS)


@asynccontextmanager
async def _all_speaking(stack: Stack, count: int) -> AsyncIterator[tuple[list[str], list[Connection]]]:
    """Silent runs that have all begun, each with a connection to follow it on."""
    _, ids = await submit_all(stack, "silent", count)
    async with AsyncExitStack() as opened, asyncio.timeout(RECOVERY_SECONDS):
        for run_id in ids:
            async with stack.client.connect() as connection:
                await connection.first_heard(run_id, "message.delta")
        yield ids, [await opened.enter_async_context(stack.client.connect()) for _ in ids]


async def _after_kill(stack: Stack, worker: psutil.Process) -> float:
    """Kill a worker in the midst of its runs; seconds until the slowest of them has its next event."""
    killed = asyncio.Event()
    _, ids = await submit_all(stack, "silent", SILENT_RUNS)
    spoke = {run_id: asyncio.Event() for run_id in ids}

    async def follow(run_id: str) -> int:
        async with stack.client.connect() as connection:
            async for heard in connection.events(run_id):
                if killed.is_set():
                    return heard.at_ns
                if heard.type == "message.delta":
                    spoke[run_id].set()
        raise RuntimeError(f"{run_id} ended before its worker was killed")

    followers = {run_id: asyncio.create_task(follow(run_id)) for run_id in ids}
    async with asyncio.timeout(RECOVERY_SECONDS):
        await asyncio.gather(*(event.wait() for event in spoke.values()))
        its_own = stack.runs_of(worker)
        assert its_own, "no run came to the worker that was to be killed"
        killed.set()
        start = time.time_ns()
        worker.kill()
        next_events = await asyncio.gather(*(followers[run_id] for run_id in its_own))
    for follower in followers.values():
        follower.cancel()
    await cancel(stack, ids)
    return (max(next_events) - start) / NS
