"""A CLI that serves many turns: what becomes of the others where it fails."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from longwick.database import Database
from longwick.profiles import Profile
from longwick.settings import Settings
from worker.agents import Launch
from worker.gateway import Gateway
from worker.housing import Housing
from worker.process import CliProcess
from worker.shared import SharedServers
from worker.shared_turn import SharedTurn

CODEX = Profile(adapter="codex")


class Hasty(Housing):
    """One that cannot close the doors of those who leave it."""

    def start(self, *args: Any, **more: Any) -> CliProcess:
        process = super().start(*args, **more)

        def fail() -> None:
            raise TimeoutError

        process.until_left.callback(fail)
        return process


@pytest.fixture
def engine_name() -> str:
    """One is enough: it is not about the record."""
    return "sqlite"


@pytest.fixture
def servers(database: Database, settings: Settings, tmp_path: Path) -> Iterator[SharedServers]:
    with (
        Gateway("http://127.0.0.1:1/mcp") as gateway,
        SharedServers(gateway, Hasty(settings, database, gateway, tmp_path / "home"), tmp_path / "shared") as servers,
    ):
        yield servers


@pytest.fixture
def wake() -> Iterator[int]:
    ears, mouth = os.pipe()
    yield ears
    os.close(ears)
    os.close(mouth)


def join(servers: SharedServers, wake: int, *argv: str) -> SharedTurn:
    return servers.join(CODEX, Launch(argv, {}, b"", shared=True, key="turn"), lambda: b"", wake)


def test_a_server_that_cannot_be_started_is_told_and_keeps_nobody_waiting(
    servers: SharedServers, wake: int, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="null byte"):
            join(servers, wake, "no\0program")
    assert list((tmp_path / "shared").iterdir()) == []


def test_its_turns_end_with_a_server_though_its_door_could_not_be_closed(servers: SharedServers, wake: int) -> None:
    with join(servers, wake, "sh", "-c", "read -r go; exit 3") as turn:
        turn.write(b"go\n")
        wait_for(lambda: turn.poll(0.1) or turn.ended, what="its end")
        assert turn.returncode == 3


def test_a_turn_that_is_left_after_its_server_was_closed_keeps_nothing_open(servers: SharedServers, wake: int) -> None:
    with join(servers, wake, "cat") as turn:
        servers.__exit__()
    assert turn._ears.fileno() == turn._mouth.fileno() == -1
