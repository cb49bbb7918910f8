"""A back-up of a Longwick at work, and what is made of it elsewhere: whole, honest about what ran, and read on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from postgres import newest_programs
from stack import Stack
from waiting import wait_for

from longwick import audit, leases, runs, schema
from longwick.artifacts import keep_blob
from longwick.backup import back_up, restore
from longwick.database import Database
from longwick.errors import Conflict, Invalid
from longwick.kinds import RunStatus
from longwick.object_store import ObjectStorage
from longwick.queue import Dispatcher
from longwick.settings import Settings
from longwick.storage import FolderStorage, describe
from web.app import create_app
from worker.sweeper import Sweeper

LONGWICK = Path(sys.executable).with_name("longwick")


def command(environ: dict[str, str], *words: str | Path) -> str:
    """What a command of ours has to say; it must succeed."""
    path = f"{newest_programs()}:{os.environ['PATH']}"
    done = subprocess.run(
        [LONGWICK, *words], env={**os.environ, **environ, "PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def target_url(engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without anything."""
    if engine_name == "sqlite":
        yield f"sqlite:///{tmp_path / 'restored' / 'record.db'}"
        return
    with request.getfixturevalue("postgres").database() as url:
        yield url


def test_a_back_up_of_a_busy_longwick_is_restored_whole_elsewhere(
    engine_name: str, stacks: dict[str, Stack], target_url: str, redis_url: str, tmp_path: Path
) -> None:
    stack = stacks[engine_name]
    ours = {name: stack.environ[name] for name in ("LONGWICK_DATA_DIR", "LONGWICK_DATABASE_URL")}
    go_on = tmp_path / "go-on"
    folder = tmp_path / "back-up"
    done = stack.settled(stack.run("say 3 0; save done.txt; write notes.txt kept", agent="keeper"))
    with ExitStack() as ending:
        ending.callback(go_on.touch)
        working = stack.run(f"say 5 0; wait {go_on}; say 5 0; save late.txt")
        wait_for(lambda: stack.text_of(working).endswith("4 "), what="the run to be at work")
        busy = [stack.run("say 200 0.005; save busy.txt") for _ in range(3)]
        command(ours, "backup", folder)
        seen = stack.log_of(working)
    for run in [working, *busy]:
        assert stack.settled(run)["status"] == "succeeded"

    settings = Settings.from_environ(
        {},
        data_dir=tmp_path / "restored",
        database_url=target_url,
        redis_url=redis_url,
        lease_seconds=1,
        beat_seconds=0.3,
    )
    there = {"LONGWICK_DATA_DIR": str(settings.data_dir), "LONGWICK_DATABASE_URL": target_url}
    command(there, "restore", folder)
    database, storage = Database(target_url), FolderStorage(settings.blobs)
    try:
        assert list(audit.audit(database, storage)) == []
        with pytest.raises(Conflict):
            restore(database, storage, folder, print)
        with Dispatcher(database, redis_url) as dispatcher, Sweeper(settings, database, dispatcher):
            wait_for(lambda: not database.read(leases.all_held), 20, "what was at work to be given up")
        lost = database.read(lambda db: runs.get(db, "local", working["id"]))
        assert (lost.status, lost.error_code) == (RunStatus.FAILED, "worker_lost")
        with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as http:
            assert http.get(f"/api/v1/runs/{done['id']}").json() == done
            (file,) = http.get(f"/api/v1/runs/{done['id']}/artifacts").json()["data"]
            assert http.get(f"/api/v1/artifacts/{file['id']}/content").content
            # Whoever had read on before is where the copy is, or is told that it is not.
            events = f"/api/v1/runs/{working['id']}/events"
            again = http.get(events, params={"limit": 1000}).json()["data"]
            shown = [event for event in again if event in seen]
            assert shown == seen[: len(shown)]
            streamed = http.get(events, headers={"accept": "text/event-stream", "last-event-id": str(len(shown))}).text
            assert "run.failed" in streamed
            assert http.get(events, params={"after": lost.last_seq + 1}).status_code == 409
        assert list(audit.audit(database, storage)) == []
    finally:
        database.dispose()


# What is no back-up, and where none goes


@pytest.fixture
def record(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    """A record on SQLite that lists one file."""
    database = Database(f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'record.db')}")
    database.write(lambda db: keep_blob(db, describe(b"one")))
    yield database
    database.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    """Where that file is."""
    storage = FolderStorage(tmp_path / "blobs")
    storage.put([b"one"], limit=10)
    return storage


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Database]:
    """A record that is to be."""
    database = Database(f"sqlite:///{tmp_path / 'new' / 'record.db'}")
    yield database
    database.dispose()


def test_a_folder_with_something_else_in_it_is_left_alone(
    record: Database, storage: FolderStorage, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").touch()
    with pytest.raises(Conflict, match="not empty"):
        back_up(record, storage, folder, print)
    assert [path.name for path in folder.iterdir()] == ["cat.jpg"]


def test_what_is_not_whole_is_not_restored(
    record: Database, storage: FolderStorage, empty: Database, tmp_path: Path
) -> None:
    folder, files = tmp_path / "back-up", FolderStorage(tmp_path / "new" / "blobs")
    with pytest.raises(Invalid, match="no back-up"):
        restore(empty, files, folder, print)
    about = back_up(record, storage, folder, print)
    assert (about.files, about.lacking) == (1, 0)
    said: list[str] = []
    assert back_up(record, storage, folder, said.append) == about
    assert "0 files are copied, 1 were there" in said
    for changed in ({"engine": "postgresql"}, {"revision": "9999"}):
        (folder / "backup.json").write_text(json.dumps({**asdict(about), **changed}))
        with pytest.raises(Invalid):
            restore(empty, files, folder, print)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("left", ["record.db", "record.db-wal", "blobs/00/x"])
def test_what_is_there_is_never_written_over(
    left: str, record: Database, storage: FolderStorage, empty: Database, tmp_path: Path
) -> None:
    back_up(record, storage, tmp_path / "back-up", print)
    there = tmp_path / "new" / left
    there.parent.mkdir(parents=True)
    there.write_bytes(b"mine")
    with pytest.raises(Conflict):
        restore(empty, FolderStorage(tmp_path / "new" / "blobs"), tmp_path / "back-up", print)
    assert [path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()] == [b"mine"]


def test_a_file_that_is_lacking_or_another_is_told_and_the_rest_is_there(
    record: Database, storage: FolderStorage, empty: Database, tmp_path: Path
) -> None:
    damaged = storage.put([b"two"], limit=10)
    record.write(lambda db: keep_blob(db, damaged, describe(b"three")))
    storage.path(damaged.sha256).write_bytes(b"owt")
    said: list[str] = []
    assert back_up(record, storage, tmp_path / "back-up", said.append).lacking == 2
    assert [words.split()[0] for words in said if "is listed" in words] == sorted(
        [damaged.sha256, describe(b"three").sha256]
    )
    files = FolderStorage(tmp_path / "new" / "blobs")
    restore(empty, files, tmp_path / "back-up", print)
    with files.open(describe(b"one").sha256) as file:
        assert file.read() == b"one"


def test_files_go_from_one_kind_of_storage_to_the_other_and_back(
    record: Database, storage: FolderStorage, storage_url: str, empty: Database, tmp_path: Path
) -> None:
    bucket = ObjectStorage(storage_url, tmp_path / "spool")
    back_up(record, storage, tmp_path / "back-up", print)
    restore(empty, bucket, tmp_path / "back-up", print)
    assert list(audit.audit(empty, bucket)) == []
    back_up(empty, bucket, tmp_path / "again", print)
    with FolderStorage(tmp_path / "again" / "blobs").open(describe(b"one").sha256) as file:
        assert file.read() == b"one"


def test_a_back_up_of_an_older_schema_is_brought_to_the_newest(
    storage: FolderStorage, empty: Database, tmp_path: Path
) -> None:
    old = Database(f"sqlite:///{tmp_path / 'old.db'}")
    schema.upgrade(old, "0006")
    back_up(old, storage, tmp_path / "back-up", print)
    old.dispose()
    restore(empty, FolderStorage(tmp_path / "new" / "blobs"), tmp_path / "back-up", print)
    assert schema.current(empty) == schema.newest()
