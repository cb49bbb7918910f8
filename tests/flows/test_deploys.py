"""A rolling deploy: each process of an earlier release gives way to one of this release, with runs in flight."""

import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hosting import ROOT, TIERS, Proxy, Site, over, submit
from postgres import Postgres
from stack import Json, Reader, Server, check_whole
from waiting import wait_for

from longwick import audit, schema
from longwick.database import Database
from longwick.storage import FolderStorage
from longwick.valkey import Valkey

EARLIER = ROOT / "tests" / "releases" / "0006.zip"
"""The code of the last commit whose newest migration is 0006: `git archive --format=zip -9 d399a94 longwick alembic web
worker mcp_server`. Not taken from the history, for a clone need not have it."""

SLOTS = 4
"""More than the runs that wait for the end of the deploy."""


@pytest.fixture(scope="module")
def earlier_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of an earlier release."""
    tree = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(EARLIER) as packed:
        packed.extractall(tree)
    shutil.copytree(ROOT / "web" / "static" / "vendor", tree / "web" / "static" / "vendor")
    return tree


@pytest.fixture
def record_url(postgres: Postgres) -> Iterator[str]:
    """A record without any table."""
    with postgres.database() as url:
        yield url


def migrate(release: Path, record_url: str) -> None:
    """`longwick migrate` of a release."""
    env = {**os.environ, "PYTHONPATH": str(release), "LONGWICK_DATABASE_URL": record_url}
    command = [sys.executable, "-P", "-c", "from longwick.cli import main; main()", "migrate"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


class Users(threading.Thread):
    """Submits short runs one after the other, as users do who know nothing of a deploy."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(daemon=True)
        self._proxy = proxy
        self._enough = threading.Event()
        self._error: Exception | None = None
        self.runs: list[Json] = []

    def run(self) -> None:
        try:
            with self._proxy.client(http2=False) as http:
                while not self._enough.wait(0.5):
                    self.runs.append(submit(http, "say 2 0.05; save a.txt", on_worker_lost="retry"))
        except Exception as error:
            self._error = error

    def stop(self) -> list[Json]:
        """All that they have submitted."""
        self._enough.set()
        self.join(30)
        if self._error:
            raise self._error
        return self.runs


def test_f47_an_earlier_release_gives_way_to_this_one_with_runs_in_flight(
    record_url: str, valkey: Valkey, earlier_release: Path, tmp_path: Path
) -> None:
    migrate(earlier_release, record_url)
    database = Database(record_url)
    assert schema.current(database) != schema.newest()
    site = Site("nginx", tmp_path, record_url, valkey.url, LONGWICK_CONCURRENCY=str(SLOTS))
    with site.running(earlier_release), ExitStack() as following, site.proxy.client(http2=False) as http:
        following.callback(database.dispose)
        gate, halfway_gate = tmp_path / "gate", tmp_path / "halfway"

        def follow(run: Json, *servers: Server) -> list[Reader]:
            return [following.enter_context(Reader(server, run, trusted=site.proxy.trusted)) for server in servers]

        users = Users(site.proxy)
        users.start()
        retried = [
            submit(http, f"count 5 0; wait {gate}; count 8 0; save b.txt", on_worker_lost="retry") for _ in range(3)
        ]
        readers = {run["id"]: follow(run, site.proxy, *site.hosts) for run in retried}
        wait_for(lambda: are_at_work(readers, retried), 30, "all to be at work")

        # First the schema grows; the code that does not know it goes on.
        migrate(ROOT, record_url)
        assert schema.current(database) == schema.newest()
        replace(site, 0)

        # Halfway: one of each is of either release, and everything passes between them. As many runs as there are slots
        # are held, so that both workers have some of these.
        halfway = [
            submit(http, f"where; wait {halfway_gate}; say 3 0.1; save c.txt") for _ in range(2 * SLOTS - len(retried))
        ]
        readers |= {run["id"]: follow(run, *site.hosts) for run in halfway}
        wait_for(lambda: are_at_work(readers, halfway), 30, "all to be at work")
        halfway_gate.touch()
        places = " ".join(over(http, run)["output_text"] for run in halfway)
        assert all(str(host.data_dir) in places for host in site.hosts)

        replace(site, 1)
        gate.touch()
        runs = {run["id"]: over(http, run) for run in [*users.stop(), *retried, *halfway]}
        assert {run["status"] for run in runs.values()} == {"succeeded"}
        assert [runs[run["id"]]["output_text"] for run in retried] == ["0 1 2 3 4 5 6 7 "] * len(retried)
        assert min(runs[run["id"]]["attempt"] for run in retried) > 1
        for run_id, each in readers.items():
            for reader in each:
                check_whole(reader.wait())
                assert list(audit.differences(database, run_id, reader.events)) == []
        audited = audit.Audited()
        assert list(audit.audit(database, FolderStorage(site.blobs), audited)) == []
        assert audited.runs == len(runs)


def are_at_work(readers: dict[str, list[Reader]], runs: list[Json]) -> bool:
    """Whether each of the runs has begun to speak, and all who read it have heard."""
    heard = [{event["type"] for event in reader.events} for run in runs for reader in readers[run["id"]]]
    return all("message.delta" in types for types in heard)


def replace(site: Site, number: int) -> None:
    """The processes of a host, one after the other."""
    for tier in TIERS:
        site.hosts[number].stop(tier)
        site.hosts[number].start(tier)
