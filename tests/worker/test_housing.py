"""Who may live where: agents with tools of their own, with a sandbox and without."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from longwick import isolation, threads
from longwick.database import Database
from longwick.errors import BadSetting
from longwick.isolation import Isolation
from longwick.profiles import Profile
from longwick.settings import Settings
from worker.gateway import Gateway
from worker.housing import Housing

CODING = Profile(adapter="acp", command=["true"])
PROGRAM = Profile(adapter="jsonl", command=["true"])


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway("http://127.0.0.1:1/mcp") as gateway:
        yield gateway


def housing(database: Database, gateway: Gateway, folder: Path, sandbox: str) -> Housing:
    settings = Settings.from_environ({}, data_dir=folder, sandbox=sandbox, allow_unsandboxed=True)
    return Housing(settings, database, gateway, folder / "home")


def test_with_a_second_owner_there_are_no_tools_without_a_sandbox(
    database: Database, gateway: Gateway, tmp_path: Path
) -> None:
    unkept, kept = (housing(database, gateway, tmp_path, sandbox) for sandbox in ("none", "bwrap"))
    database.write(lambda db: threads.create(db, owner="ann"))
    assert unkept.reason_against(CODING) is None
    database.write(lambda db: threads.create(db, owner="bob"))
    assert "this server has several owners" in (unkept.reason_against(CODING) or "")
    assert unkept.reason_against(PROGRAM) is None
    assert kept.reason_against(CODING) is None


def test_where_a_sandbox_is_wanted_in_any_case_nothing_starts_without(
    database: Database, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "of", lambda sandbox: Isolation(None, "the kernel refuses it"))
    with pytest.raises(BadSetting, match="LONGWICK_SANDBOX is bwrap, but the kernel refuses it"):
        housing(database, gateway, tmp_path, "bwrap")
