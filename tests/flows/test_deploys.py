"""A rolling deploy: each process of an earlier release gives way to one of this release, with runs in flight."""

import os
import shutil
import subprocess
import sys
import threading
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

EARLIER = "d399a94c3d17e9b5134d588eebee2892cc66d1cd"
"""The last commit whose newest migration is 0006."""


@pytest.fixture(scope="module")
def earlier_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of an earlier release, from the history of this repository."""
    tree = tmp_path_factory.mktemp("release")
    git = [
        "git",
        "-c",
        f"safe.directory={ROOT}",
        "-C",
        str(ROOT),
        "archive",
        EARLIER,
        "longwick",
        "alembic",
        *TIERS.values(),
    ]
    packed = subprocess.run(git, capture_output=True, check=False)
    assert packed.returncode == 0, f"the whole history is needed (git fetch --unshallow): {packed.stderr.decode()}"
    subprocess.run(["tar", "-x", "-C", str(tree)], input=packed.stdout, check=True)
    shutil.copytree(ROOT / "web" / "static" / "vendor", tree / "web" / "static" / "vendor")
    return tree


@pytest.fixture
def record_url(postgres: Postgres) -> Iterator[str]:
    """A record without any table."""
    postgres.create("deployed")
    yield postgres.url("deployed")
    postgres.drop("deployed")


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
    site = Site("nginx", tmp_path, record_url, valkey.url, LONGWICK_CONCURRENCY="4")
    with site.running(earlier_release), ExitStack() as following, site.proxy.client(http2=False) as http:
        gate = tmp_path / "gate"

        def follow(run: Json, *servers: Server) -> list[Reader]:
            return [following.enter_context(Reader(server, run, trusted=site.proxy.trusted)) for server in servers]

        users = Users(site.proxy)
        users.start()
        retried = [
            submit(http, f"count 5 0; wait {gate}; count 8 0; save b.txt", on_worker_lost="retry") for _ in range(3)
        ]
        readers = {run["id"]: follow(run, site.proxy, *site.hosts) for run in retried}
        wait_for(lambda: all(each.events for some in readers.values() for each in some), 20, "all to be read")

        # First the schema grows; the code that does not know it goes on.
        migrate(ROOT, record_url)
        assert schema.current(database) == schema.newest()
        replace(site, 0)

        # Halfway: one of each is of either release, and everything passes between them.
        halfway = [submit(http, "where; say 3 0.1; save c.txt") for _ in range(6)]
        readers |= {run["id"]: follow(run, *site.hosts) for run in halfway}
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
    database.dispose()


def replace(site: Site, number: int) -> None:
    """The processes of a host, one after the other."""
    for tier in TIERS:
        site.hosts[number].stop(tier)
        site.hosts[number].start(tier)
