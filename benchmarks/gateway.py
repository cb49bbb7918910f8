"""`make bench PART=gateway`: what asking a model through the gateway takes, beside asking its provider directly.

The provider, the gateway and the client are a process each. The provider writes into each event the time at which it
sends it, and the client compares; one request goes directly and the next through the gateway, so that a change of the
machine's mood meets both.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from urllib.parse import urlsplit

import uvloop

from longwick.profiles import Profile
from worker.gateway import Gateway

PATH = "/v1/messages"
EVENTS = 20
GAP_SECONDS = 0.05
STREAMS = 64
SMALL, LARGE = 2_000, 120_000
"""Bytes of a request: with our tools alone, and with all that a coding agent sends along."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="requests of each kind, one after the other")
    parser.add_argument("--part", choices=["provider", "gateway"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "provider":
        uvloop.run(_provide())
    elif given.part == "gateway":
        _pass_on()
    else:
        with _part("provider") as provider, _part("gateway", ANTHROPIC_BASE_URL=provider) as told:
            gateway, token = told.split()
            uvloop.run(_measure(provider, gateway + "/anthropic", token, given.runs))


async def _measure(provider: str, gateway: str, token: str, requests: int) -> None:
    print(f"load {os.getloadavg()[0]:.1f}; medians, in brackets the 95th percentiles; ms\n")
    print("| | directly | through the gateway | added | ratio |\n|---|---|---|---|---|")
    for size in (SMALL, LARGE):
        direct, through = Seen(), Seen()
        async with Caller(provider, token) as straight, Caller(gateway, token) as round_about:
            for _ in range(requests):
                await straight.ask(size, 1, 0, direct)
                await round_about.ask(size, 1, 0, through)
        _row(f"first byte, a request of {size // 1000} kB", direct.first, through.first)
    for streams in (1, STREAMS):
        direct, through = Seen(), Seen()
        for _ in range(4):
            for url, seen in ((provider, direct), (gateway, through)):
                await asyncio.gather(*(_stream(url, token, seen) for _ in range(streams)))
        _row(f"an event, {streams} streams of {1 / GAP_SECONDS:.0f}/s", direct.late, through.late)


async def _stream(url: str, token: str, seen: "Seen") -> None:
    async with Caller(url, token) as caller:
        await caller.ask(SMALL, EVENTS, GAP_SECONDS, seen)


def _row(name: str, direct: list[float], through: list[float]) -> None:
    a, b = median(direct), median(through)
    tails = [quantiles(values, n=20)[-1] for values in (direct, through)]
    print(f"| {name} | {a:.2f} ({tails[0]:.2f}) | {b:.2f} ({tails[1]:.2f}) | {b - a:.2f} | {b / a:.2f} |", flush=True)


@dataclass
class Seen:
    """What was seen, in milliseconds."""

    first: list[float] = field(default_factory=list)
    """From a request to the first byte of its answer's body."""
    late: list[float] = field(default_factory=list)
    """From an event's sending to its arrival."""


class Caller:
    """A connection that is kept open. Enter it to open it."""

    def __init__(self, url: str, token: str) -> None:
        self._parts = urlsplit(url)
        self._token = token

    async def __aenter__(self) -> "Caller":
        self._reader, self._writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, size: int, events: int, gap: float, seen: Seen) -> None:
        """Ask for so many events."""
        said = {"role": "user", "content": "x" * size}
        body = json.dumps({"model": "m", "stream": True, "messages": [said], "events": [events, gap]}).encode()
        head = f"POST {self._parts.path}{PATH} HTTP/1.1\r\nhost: x\r\nx-api-key: {self._token}\r\n"
        began = time.monotonic_ns()
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await self._reader.readuntil(b"\r\n\r\n")
        while length := int(await self._reader.readline(), 16):
            chunk = await self._reader.readexactly(length + 2)
            now = time.monotonic_ns()
            if began:
                seen.first.append((now - began) / 1e6)
                began = 0
            # Two that come together are one chunk.
            for line in chunk.splitlines():
                if line.startswith(b"data:"):
                    seen.late.append((now - json.loads(line[5:])["at"]) / 1e6)
        await self._reader.readline()


async def _provide() -> None:
    """A provider that answers at once, or an event at a time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            events, gap = json.loads(await reader.readexactly(length))["events"]
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(events):
                event = b'data: {"type": "content_block_delta", "at": %d}\n\n' % time.monotonic_ns()
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await asyncio.sleep(gap)
            writer.write(b"0\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def _pass_on() -> None:
    """A gateway, and a pass that lasts as long as it does."""
    profile = Profile(adapter="claude", command=["cli"], models=["m"], env={"ANTHROPIC_API_KEY": "sk-test"})
    with Gateway("http://127.0.0.1:9/mcp") as gateway, gateway.issued(profile) as given:
        given.bind("run_1", 1)
        print(gateway.url, given.token, flush=True)
        sys.stdin.read()


@contextmanager
def _part(name: str, **env: str) -> Iterator[str]:
    """A process of its own, and the line that it begins with."""
    command = [sys.executable, "-m", "benchmarks.gateway", "--part", name]
    with subprocess.Popen(
        command, env={**os.environ, **env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
