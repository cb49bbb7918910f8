"""Two hosts, each with a web process, an MCP server and a worker, a data dir, an address and a clock of its own.

They share PostgreSQL, which the second host reaches by a wire that can be cut, Valkey and the folder of files.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx2
import psutil
import pytest
from hosting import CRASHING, TIERS, Site, over, submit
from postgres import Postgres
from processes import gone
from sqlalchemy import make_url
from stack import Reader, check_whole
from waiting import wait_for

from longwick import audit
from longwick.database import Database
from longwick.kinds import RunKind
from longwick.queue import celery_app
from longwick.storage import FolderStorage
from longwick.valkey import Valkey

HOUR = 3600
LEASE = {"LONGWICK_BEAT_SECONDS": "1", "LONGWICK_LEASE_SECONDS": "8", "LONGWICK_SWEEP_SECONDS": "0.3"}


class Wire:
    """A wire to a server that listens on a socket: while it is cut, what is sent arrives nowhere, and nothing ends."""

    def __init__(self, to: Path) -> None:
        self._to = str(to)
        self._whole = asyncio.Event()
        self._enough = asyncio.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(30)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._enough.set)
        self._thread.join(30)

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        """What was sent meanwhile arrives now."""
        self._loop.call_soon_threadsafe(self._whole.set)

    async def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._whole.set()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listens.set()
        await self._enough.wait()
        server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        there, back = await asyncio.open_unix_connection(self._to)
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture(scope="module")
def wire(postgres: Postgres) -> Iterator[Wire]:
    """By which the second host reaches the record."""
    (folder,) = parse_qs(urlsplit(postgres.url("postgres")).query)["host"]
    with Wire(Path(folder) / ".s.PGSQL.5432") as wire:
        yield wire


@pytest.fixture(scope="module")
def site(
    postgres: Postgres, migrated_template: str, wire: Wire, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The clock of the second host is an hour ahead of all others."""
    folder = tmp_path_factory.mktemp("hosts")
    clocks = folder / "clocks"
    clocks.mkdir()
    env = {**LEASE, "PYTHONPATH": str(CRASHING), "LONGWICK_CLOCKS": str(clocks), "LONGWICK_OBEYS": "1"}
    env["LONGWICK_CONCURRENCY"] = "4"
    with postgres.database(migrated_template) as url, Valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        site = Site("nginx", folder, url, valkey.url, **env)
        wired = make_url(url).set(host="127.0.0.1", port=wire.port, query={})
        site.hosts[1].env["LONGWICK_DATABASE_URL"] = str(wired)
        site.hosts[1].ahead = HOUR
        with site.running():
            yield site
            database = Database(site.record_url)
            # Whatever was done to them.
            assert list(audit.audit(database, FolderStorage(site.blobs))) == []
            database.dispose()


@pytest.fixture
def http(site: Site) -> Iterator[httpx2.Client]:
    with site.proxy.client(http2=False) as http:
        yield http


@contextmanager
def alone(site: Site, number: int) -> Iterator[None]:
    """That host's worker is the one that takes hints."""
    lock = next((site.hosts[1 - number].data_dir / "workers").glob("wrk_*.lock"))
    other = [f"{lock.stem}@{socket.gethostname()}"]
    with celery_app(site.redis_url, socket_timeout=5) as celery:
        for lane in RunKind:
            # Celery says that it is ready a moment before it listens.
            wait_for(lambda: celery.control.cancel_consumer(lane.value, other, reply=True, timeout=5, limit=1))
        yield
        for lane in RunKind:
            wait_for(lambda: celery.control.add_consumer(lane.value, destination=other, reply=True, timeout=5, limit=1))


def test_a_thread_goes_from_host_to_host_with_its_folder_and_its_files(site: Site, http: httpx2.Client) -> None:
    thread = http.post("/api/v1/threads", json={}).json()["id"]
    said = []
    for turn in range(4):
        with alone(site, turn % 2):
            text = f"where; read note.txt; write note.txt turn-{turn}; save {turn}.txt"
            said.append(over(http, submit(http, text, thread, agent="keeper")))
    assert [run["status"] for run in said] == ["succeeded"] * 4
    for turn, run in enumerate(said):
        assert run["output_text"].startswith(str(site.hosts[turn % 2].data_dir))
        assert run["output_text"].endswith(f"turn-{turn - 1}" if turn else "no note.txt")
    for host in site.hosts:
        with httpx2.Client(base_url=f"{host.url}/api/v1", timeout=30, trust_env=False) as web:
            saved = web.get(f"/threads/{thread}/artifacts").json()["data"]
            assert sorted(each["name"] for each in saved) == [f"{turn}.txt" for turn in range(4)]
            for each in saved:
                assert web.get(f"/artifacts/{each['id']}/content").text == f"made by {each['run_id']}\n"


def test_clocks_that_differ_by_an_hour_change_nothing_but_the_times(site: Site) -> None:
    with ExitStack() as closing:
        webs = [closing.enter_context(httpx2.Client(base_url=host.url, trust_env=False)) for host in site.hosts]
        thread = webs[0].post("/api/v1/threads", json={}).json()["id"]
        runs = []
        for turn in range(4):
            with alone(site, (turn // 2) % 2):
                # Its worker and the web process that accepts it agree on the time, or do not.
                runs.append(
                    over(webs[turn % 2], submit(webs[turn % 2], f"say {turn + 1} 0; history; save {turn}.txt", thread))
                )
        assert [(run["status"], run["attempt"], run["error"]) for run in runs] == [("succeeded", 1, None)] * 4
        times = [datetime.fromisoformat(run["created_at"]) for run in runs]
        assert times[1] - times[0] > timedelta(minutes=59)
        for web in webs:
            told = web.get(f"/api/v1/threads/{thread}/messages").json()["data"]
            assert [message["run_id"] for message in told] == [run["id"] for run in runs for _ in range(2)]
            for run in runs:
                events = web.get(f"/api/v1/runs/{run['id']}/events").json()["data"]
                check_whole(events)
                (saved,) = [event for event in events if event["type"] == "artifact.saved"]
                assert saved["data"]["artifact"]["run_id"] == run["id"]
        # What each was told of the ones before it.
        for turn, run in enumerate(runs):
            assert run["output_text"].count('["user", "say') == turn


def test_a_worker_that_is_cut_off_from_the_record_ends_its_cli_before_its_run_is_taken(
    site: Site, wire: Wire, http: httpx2.Client, tmp_path: Path
) -> None:
    said, gate = tmp_path / "pid", tmp_path / "gate"
    with alone(site, 1):
        text = f"pid {said}; count 200 0.05; wait {gate}; count 400 0.01; save a.txt"
        run = submit(http, text, on_worker_lost="retry")
        wait_for(lambda: said.exists() and said.read_text(), what="the CLI")
    cli = psutil.Process(int(said.read_text()))
    with (
        Reader(site.hosts[0], run) as near,
        Reader(site.proxy, run, trusted=site.proxy.trusted) as any_web,
    ):
        wait_for(lambda: len(near.events) > 5, what="the stream")
        wire.cut()
        try:
            wait_for(lambda: attempt_of(site, run["id"]) == 2, what="the run to be taken")
            assert gone(cli.pid), "two of them were at work"
        finally:
            gate.touch()
            # What the worker had sent arrives now, late, and is refused.
            wire.mend()
        ended = over(http, run, 40)
        assert (ended["status"], ended["attempt"]) == ("succeeded", 2)
        assert ended["output_text"] == "".join(f"{number} " for number in range(400))
        for reader in (near, any_web):
            check_whole(reader.wait())
    with alone(site, 1):
        assert over(http, submit(http, "where"))["output_text"].startswith(str(site.hosts[1].data_dir))


def attempt_of(site: Site, run_id: str) -> int:
    """As the first host has it."""
    with httpx2.Client(base_url=site.hosts[0].url, timeout=30, trust_env=False) as web:
        found: int = web.get(f"/api/v1/runs/{run_id}").json()["attempt"]
        return found


def test_when_a_host_is_lost_its_runs_end_or_go_on_and_streams_too(
    site: Site, http: httpx2.Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with alone(site, 1):
        text = f"count 5 0; wait {gate}; count 8 0; save a.txt"
        lost, retried = submit(http, text), submit(http, text, on_worker_lost="retry")
        for run in (lost, retried):
            wait_for(lambda run=run: attempt_of(site, run["id"]) == 1, what="it to be at work")  # type: ignore[misc]
    with ExitStack() as reading:
        followers = [Reader(site.proxy, run, trusted=site.proxy.trusted) for run in (lost, retried) for _ in range(3)]
        for reader in followers:
            reading.enter_context(reader)
        wait_for(lambda: all(len(reader.events) > 3 for reader in followers), 20, "the streams")
        site.hosts[1].lose()
        try:
            since = time.monotonic()
            ended = over(http, lost)
            # The lease, and a sweep, and what a busy machine takes.
            assert time.monotonic() - since < 20
            assert (ended["status"], ended["error"]["code"]) == ("failed", "worker_lost")
            gate.touch()
            kept = over(http, retried)
            assert (kept["status"], kept["attempt"], kept["output_text"]) == ("succeeded", 2, "0 1 2 3 4 5 6 7 ")
            for reader in followers:
                check_whole(reader.wait())
            fresh = [submit(http, "save b.txt") for _ in range(3)]
            assert {over(http, run)["status"] for run in fresh} == {"succeeded"}
        finally:
            for tier in TIERS:
                site.hosts[1].launch(tier)
            for tier in TIERS:
                site.hosts[1].wait_for(tier)
