"""CLIs that are started before anybody asks: what becomes of those that nobody needs, or that fail."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scene import running_run
from waiting import wait_for

from longwick.database import Database
from longwick.prices import Price
from longwick.profiles import MCP_NAME, Profile
from longwick.settings import Settings
from worker import spares as spares_module
from worker.gateway import Gateway
from worker.housing import Housing
from worker.passes import Pass
from worker.process import CliProcess, live_pids
from worker.spares import Spare, Spares

SERVERS = {"mcpServers": [{"name": MCP_NAME, "status": "connected"}]}
CONNECTED = f"read -r asked; echo '{json.dumps({'type': 'control_response', 'response': {'response': SERVERS}})}'; cat"
SAYS_IT_IS_CONNECTED = Profile(adapter="claude", command=["sh", "-c", CONNECTED])


@pytest.fixture
def engine_name() -> str:
    """One is enough: it is not about the record."""
    return "sqlite"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spares_module, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway("http://127.0.0.1:1/mcp") as gateway:
        yield gateway


@contextmanager
def kept(settings: Settings, database: Database, gateway: Gateway, folder: Path) -> Iterator[Spares]:
    housing = Housing(settings, database, gateway, folder / "home")
    with Spares(settings, database, gateway, housing, folder / "spares") as spares:
        yield spares


def fail(*args: Any) -> None:
    raise RuntimeError("nobody answers")


def taken(spares: Spares, database: Database, profile: Profile = SAYS_IT_IS_CONNECTED) -> Spare:
    run = running_run(database)
    return wait_for(lambda: spares.take(profile, run), what="a spare")


def test_leaving_a_spare_leaves_nothing_of_it(
    settings: Settings, database: Database, gateway: Gateway, tmp_path: Path
) -> None:
    """Be it one whose attempt ended before it was spoken to."""
    with kept(settings, database, gateway, tmp_path) as spares:
        spare = taken(spares, database)
        with spare as folder:
            assert spare.process.pid in live_pids
        assert spare.process.pid not in live_pids
        assert not Path(f"/proc/{spare.process.pid}").exists()
        assert not folder.folder.exists()
        # As a run does, which leaves its process first.
        with (other := taken(spares, database)), other.process:
            pass
        assert other.process.pid not in live_pids


def test_prices_are_those_of_when_it_is_taken(
    settings: Settings, database: Database, gateway: Gateway, tmp_path: Path
) -> None:
    with kept(settings, database, gateway, tmp_path) as spares:
        run = running_run(database)
        assert spares.take(SAYS_IT_IS_CONNECTED, run) is None
        wait_for(lambda: {*live_pids}, what="a spare")
        dearer = SAYS_IT_IS_CONNECTED.model_copy(update={"prices": {"model": Price(input=7.0, output=8.0)}})
        with (spare := taken(spares, database, dearer)):
            assert spare.given.profile is dearer


def test_a_spare_that_cannot_be_started_leaves_nothing(
    settings: Settings, database: Database, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked: list[Pass] = []
    revoke = gateway.revoke

    def noted(which: Pass) -> None:
        revoke(which)
        revoked.append(which)

    monkeypatch.setattr(gateway, "revoke", noted)
    run = running_run(database)
    with kept(settings, database, gateway, tmp_path) as spares:
        before = len(os.listdir("/proc/self/fd"))
        # No argument may be so long.
        assert spares.take(Profile(adapter="claude", command=["sh"], system_prompt="x" * 2**20), run) is None
        wait_for(lambda: len(revoked) == 1, what="its pass to be revoked")
        with monkeypatch.context() as bug:
            bug.setattr(spares_module, "adapter_for", fail)
            assert spares.take(SAYS_IT_IS_CONNECTED, run) is None
            wait_for(lambda: len(revoked) == 2, what="the other's pass to be revoked")
        wait_for(lambda: list((tmp_path / "spares").iterdir()) == [], what="the folders to be removed")
        wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before, what="the descriptors to be closed")
        taken(spares, database).end()


def test_a_spare_that_does_not_end_well_keeps_nobody_from_another(
    settings: Settings, database: Database, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Housing.start

    def start_badly(*args: Any, **more: Any) -> CliProcess:
        process = start(*args, **more)
        process.until_left.callback(fail)
        return process

    monkeypatch.setattr(Housing, "start", start_badly)
    run = running_run(database)
    with kept(settings, database, gateway, tmp_path) as spares:
        assert spares.take(SAYS_IT_IS_CONNECTED, run) is None
        first = wait_for(lambda: {*live_pids}, what="a spare")
        with monkeypatch.context() as old:
            old.setattr(spares_module, "KEPT_SECONDS", 0)
            wait_for(lambda: not first & live_pids, what="its end")
        second = taken(spares, database)
        assert second.process.pid in live_pids
        second.end()
        assert second.process.pid not in live_pids
