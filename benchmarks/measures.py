"""What is measured. Each measure gets a running Longwick, and leaves it idle; it returns its figures by name."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from statistics import median, quantiles
from typing import Any

from benchmarks import agents
from benchmarks.client import Connection
from benchmarks.stack import Stack

AT_ONCE = 50
FIRST_WORDS = ("message.started", "message.delta")
NS = 1e9
SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done in one go."""

    submits: int = 200
    accepts: int = 500
    runs: int = 300
    firsts: int = 20
    seconds: float = 10.0
    lines: int = 200_000
    connections: int = 1000


QUICK = Scale(submits=50, accepts=100, runs=100, firsts=5, seconds=3.0, lines=50_000, connections=200)

Figures = dict[str, float]
Measure = Callable[[Stack, Scale], Coroutine[Any, Any, Figures]]


async def submit(stack: Stack, scale: Scale) -> Figures:
    """One request after the other, from POST to 202, while the worker runs what was accepted."""
    took = []
    async with stack.client.connect() as connection:
        for _ in range(scale.submits):
            start = time.perf_counter()
            await connection.submit("echo")
            took.append((time.perf_counter() - start) * 1000)
    return {"submit p50": median(took), "submit p95": p95(took)}


async def accept(stack: Stack, scale: Scale) -> Figures:
    """As many as 50 connections can submit, while the worker runs what was accepted."""
    start = time.perf_counter()
    took, _ = await submit_all(stack, "echo", scale.accepts)
    return {"accepted": scale.accepts / (time.perf_counter() - start), "accepted p50": median(took)}


async def runs(stack: Stack, scale: Scale) -> Figures:
    """From the first POST to the end of the last run, by the record's own clock; all must succeed."""
    start = time.time()
    _, ids = await submit_all(stack, "echo", scale.runs)
    await stack.client.idle()
    async with stack.client.connect() as connection:
        ended = [await connection.ask("GET", f"/api/v1/runs/{run_id}") for run_id in ids]
    wrong = [run for run in ended if run["status"] != "succeeded" or run["output_text"] != "hello"]
    assert not wrong, f"{len(wrong)} of {scale.runs} runs did not succeed; one of them: {wrong[0]}"
    last = max(datetime.fromisoformat(run["finished_at"]).timestamp() for run in ended)
    return {"runs": scale.runs / (last - start)}


async def first(stack: Stack, scale: Scale) -> Figures:
    """From POST to the first event that the CLI itself caused, one run at a time."""
    took = []
    for _ in range(scale.firsts):
        async with stack.client.connect() as connection:
            took.append(await first_words(connection, time.time_ns()))
        await stack.client.idle()
    return {"first event p50": median(took), "first event max": max(took)}


async def burst(stack: Stack, scale: Scale) -> Figures:
    """The same for 50 runs that are submitted at the same moment."""
    async with AsyncExitStack() as open_connections:
        connections = [await open_connections.enter_async_context(stack.client.connect()) for _ in range(AT_ONCE)]
        start = time.time_ns()
        took = await asyncio.gather(*(first_words(connection, start) for connection in connections))
    return {"burst p50": median(took), "burst max": max(took)}


def streams(count: int) -> Measure:
    """So many streams at the same time, each of 20 pieces of text a second.

    Latencies are those of the time in which all of them are under way, and once more of all pieces: also of those that
    are printed while other CLIs are being started, or ended.
    """

    async def measure(stack: Stack, scale: Scale) -> Figures:
        pieces: list[tuple[int, float]] = []
        begun: list[int] = []
        ended: list[int] = []

        async def follow() -> int:
            """Read one stream to its end; how many pieces did not arrive exactly once."""
            text: list[str] = []
            written: list[int] = []
            async with stack.client.connect() as connection:
                run_id = await connection.submit("ticks")
                async for heard in connection.events(run_id):
                    # Each piece is a number and the time at which it was written.
                    times = [int(at) for at in heard.text.split()[1::2]]
                    pieces.extend((at, (heard.at_ns - at) / 1e6) for at in times)
                    written += times
                    text.append(heard.text)
            begun.append(written[0])
            ended.append(written[-1])
            return differences((stack.printed / run_id).read_text(), "".join(text))

        wrong = await asyncio.gather(*(follow() for _ in range(count)))
        together = [latency for at, latency in pieces if max(begun) <= at <= min(ended)]
        name = f"{count} streams"
        return {
            f"{name} p50": median(together),
            f"{name} p95": p95(together),
            f"{name} max": max(together),
            f"{name} begun": (max(begun) - min(begun)) / NS,
            f"{name} p95 of all": p95([latency for _, latency in pieces]),
            f"{name} lost": sum(wrong),
        }

    return measure


async def flood(stack: Stack, scale: Scale) -> Figures:
    """One CLI that prints as fast as it can, from POST to the terminal event; the whole text must arrive."""
    start = time.time_ns()
    text = []
    async with stack.client.connect() as connection:
        async for heard in connection.events(await connection.submit("flood")):
            text.append(heard.text)
            end = heard.at_ns
    assert "".join(text) == agents.flood_text(scale.lines), "the text differs from what was printed"
    return {"lines": scale.lines / ((end - start) / NS)}


async def memory(stack: Stack, scale: Scale) -> Figures:
    """Of each process, after whatever was measured before: resident, and with what it shares counted in parts."""
    figures = {}
    for name, processes in stack.processes().items():
        about = [process.memory_full_info() for process in processes]
        figures[f"{name} RSS"] = sum(info.rss for info in about) / 1e6
        figures[f"{name} PSS"] = sum(info.pss for info in about) / 1e6
    return figures


async def connections(stack: Stack, scale: Scale) -> Figures:
    """Streams of runs that are silent or queued: how long it takes to open them, and what they cost the web process.

    A fresh process: in one that has worked before they would fit into memory that it has, but does not use.
    """
    _, ids = await submit_all(stack, "silent", scale.connections)
    stack.process("web").kill()
    # `up` holds the socket, so this waits for the next process.
    async with stack.client.connect() as connection:
        await connection.ask("GET", "/readyz")
    web = stack.process("web")
    await asyncio.sleep(SETTLE_SECONDS)
    before = web.memory_info().rss
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as opened:

        async def open_stream(run_id: str) -> None:
            async with gate:
                connection = await opened.enter_async_context(stack.client.connect())
                await connection.first_heard(run_id, "run.queued")

        start = time.perf_counter()
        await asyncio.gather(*(open_stream(run_id) for run_id in ids))
        took = time.perf_counter() - start
        await asyncio.sleep(SETTLE_SECONDS)
        grown = web.memory_info().rss - before
    await cancel(stack, ids)
    return {"connections": grown / 1024 / scale.connections, "connections opened": took}


MEASURES: dict[str, Measure] = {
    "submit": submit,
    "accept": accept,
    "runs": runs,
    "first": first,
    "burst": burst,
    "streams64": streams(64),
    "streams100": streams(100),
    "flood": flood,
    "memory": memory,
    "connections": connections,
}


def p95(values: Sequence[float]) -> float:
    """The value that one in twenty is above."""
    return quantiles(values, n=20, method="inclusive")[-1]


def differences(printed: str, heard: str) -> int:
    """How many pieces were lost or came twice; 1 where only their order is wrong."""
    before, after = Counter(printed.split()[1::2]), Counter(heard.split()[1::2])
    return ((before - after) + (after - before)).total() or int(printed != heard)


async def submit_all(stack: Stack, agent: str, count: int, kind: str = "chat") -> tuple[list[float], list[str]]:
    """Submit over 50 connections at the same time: milliseconds and ids."""
    took: list[float] = []
    ids: list[str] = []

    async def submit_some(share: range) -> None:
        async with stack.client.connect() as connection:
            for _ in share:
                start = time.perf_counter()
                ids.append(await connection.submit(agent, kind))
                took.append((time.perf_counter() - start) * 1000)

    await asyncio.gather(*(submit_some(range(first, count, AT_ONCE)) for first in range(AT_ONCE)))
    return took, ids


async def first_words(connection: Connection, start_ns: int) -> float:
    """Submit a run; milliseconds from `start_ns` to the first event that its CLI caused."""
    heard = await connection.first_heard(await connection.submit("echo"), *FIRST_WORDS)
    return (heard.at_ns - start_ns) / 1e6


async def cancel(stack: Stack, ids: Sequence[str]) -> None:
    """End what still runs or waits, the last first, so that none of them is started for the end of another."""
    async with stack.client.connect() as connection:
        for run_id in reversed(ids):
            with suppress(RuntimeError):
                await connection.ask("POST", f"/api/v1/runs/{run_id}/cancel")
    await stack.client.idle()
