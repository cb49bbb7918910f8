"""What is old is removed whole; what is in use, or on its way to being used, never."""

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from scene import OWNER, new_thread, queued_run, running_run, spawned_run
from sqlalchemy import delete, func, select, update
from waiting import wait_for

from longwick import artifacts, audit, retention, runs, sessions, threads, workspaces
from longwick.artifacts import Quota, Save, keep_blob
from longwick.database import Database, utc_now
from longwick.errors import NotFound, StorageUnavailable
from longwick.events import Event, EventType, append
from longwick.kinds import RunStatus
from longwick.models import Base, Chore, Run, RunEvents, Thread, WorkspaceState
from longwick.outcomes import Outcome
from longwick.retention import Pruning
from longwick.runs import NewRun
from longwick.settings import Settings
from longwick.storage import FolderStorage, Stored
from longwick.submission import Once, submit
from longwick.values import inline_or_refer
from longwick.workspaces import Entry, Kind, Manifest

OLD = timedelta(days=40)


@pytest.fixture
def storage(settings: Settings) -> FolderStorage:
    return FolderStorage(settings.blobs)


@pytest.fixture
def pruning(database: Database, settings: Settings, storage: FolderStorage) -> Pruning:
    return Pruning(database, storage, settings.model_copy(update={"keep_threads_days": 35}))


def prune(pruning: Pruning) -> dict[str, int]:
    return {step.words: step.removed for steps in (pruning.rows(), pruning.files()) for step in steps if step.removed}


def make_old(database: Database, thread_id: str | None = None) -> None:
    """All that is in a thread, or all there is, happened long ago."""
    for table in Base.metadata.sorted_tables:
        columns = [column for column in table.columns if column.name.endswith("_at")]
        for column in columns:
            of_thread = table.c.get("thread_id", table.c.id if table.name == "threads" else None)
            old = update(table).where(column.is_not(None)).values({column.name: utc_now() - OLD})
            if thread_id and of_thread is not None:
                old = old.where(of_thread == thread_id)
            if not thread_id or of_thread is not None:
                database.write(lambda db, old=old: db.execute(old))  # type: ignore[misc]


def leave(database: Database, storage: FolderStorage, run: Run, **files: bytes) -> list[Stored]:
    """The thread's folder as its run leaves it."""
    put = {name: storage.put([data], limit=1000) for name, data in files.items()}
    entries = [Entry(name, Kind.FILE, size=each.size, sha256=each.sha256) for name, each in put.items()]
    manifest = Manifest(entries)
    listed = storage.put([manifest.encode()], limit=10_000)
    database.write(lambda db: workspaces.keep(db, run, manifest, [*put.values(), listed]))
    return [*put.values(), listed]


def work(database: Database, storage: FolderStorage, thread: Thread | None = None, name: str = "a") -> Run:
    """A run that made all that a run can make, and is over."""
    run = spawned_run(database, thread)
    session = database.write(lambda db: sessions.open_session(db, run, 60))
    saved = Save("a.txt", "text/plain", storage.put([b"saved by ", name.encode()], limit=100))
    database.write(lambda db: artifacts.save(db, session.id, saved, Quota(10, 1000)))
    large = Event(EventType.TOOL_COMPLETED, {"tool_call_id": "t", "output": name * 300_000, "is_error": False})
    referred = inline_or_refer(database, storage, large)
    database.write(lambda db: append(db, run.id, 1, [referred]))
    leave(database, storage, run, same=b"in all folders", own=name.encode())
    attached = Save("b.txt", "text/plain", storage.put([b"attached to ", name.encode()], limit=100))
    database.write(lambda db: artifacts.attach(db, OWNER, run.thread_id, attached))
    ended = database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED, "done")))
    assert ended is not None
    return ended


def rows(database: Database) -> dict[str, int]:
    def count(db: Any) -> dict[str, int]:
        tables = [table for table in Base.metadata.sorted_tables if table.name not in ("chores", "alembic_version")]
        return {table.name: db.scalar(select(func.count()).select_from(table)) for table in tables}

    return {name: number for name, number in database.read(count).items() if number}


def test_a_thread_that_is_old_goes_with_all_that_is_in_it_and_no_other(
    database: Database, storage: FolderStorage, pruning: Pruning
) -> None:
    old = work(database, storage)
    work(database, storage, database.read(lambda db: db.get_one(Thread, old.thread_id)), "b")
    make_old(database)
    database.write(lambda db: submit(db, OWNER, NewRun("hello", agent="demo"), once=Once("key", b"body")))
    kept = rows(database)
    assert kept["idempotency_keys"] == 1
    work(database, storage, name="c")
    before = rows(database)
    done = prune(pruning)
    assert done.pop("threads that were deleted, or in which nothing happened for long") == 1
    assert done.pop("files that nothing names any more") == 10
    assert not done.keys() - {"sessions of agents that are over"}
    left = rows(database)
    assert left["threads"] == before["threads"] - 1
    assert (left["runs"], left["workspaces"], left["artifacts"], left["blobs"]) == (2, 1, 2, 6)
    assert list(audit.audit(database, storage)) == []
    assert prune(pruning) == {}


def test_a_dry_run_says_the_same_and_changes_nothing(
    database: Database, storage: FolderStorage, pruning: Pruning, settings: Settings
) -> None:
    work(database, storage)
    make_old(database)
    before = rows(database)
    dry = prune(Pruning(database, storage, pruning.settings, dry=True))
    assert rows(database) == before
    assert dry["threads that were deleted, or in which nothing happened for long"] == 1
    assert prune(Pruning(database, storage, settings)).keys() == {
        "runs whose texts are there as a whole, too",
        "sessions of agents that are over",
    }


def test_a_deleted_thread_goes_after_its_grace_and_cannot_be_brought_back_then(
    database: Database, storage: FolderStorage, settings: Settings
) -> None:
    pruning = Pruning(database, storage, settings)
    run = work(database, storage)
    database.write(lambda db: threads.hide(db, threads.lock(db, OWNER, run.thread_id)))
    assert prune(pruning) == {}
    database.write(lambda db: threads.restore(db, OWNER, run.thread_id))
    database.write(lambda db: threads.hide(db, threads.lock(db, OWNER, run.thread_id)))
    make_old(database)

    def restore() -> None:
        with pytest.raises(NotFound):
            database.write(lambda db: threads.restore(db, OWNER, run.thread_id))
        raise KeyboardInterrupt

    # Half-way, too: and what was begun is brought to its end.
    with pytest.raises(KeyboardInterrupt):
        prune(Pruning(database, storage, settings, pause=restore))
    assert rows(database)["threads"] == 1
    assert prune(pruning)["threads that were deleted, or in which nothing happened for long"] == 1
    assert rows(database) == {}


@pytest.mark.parametrize("make", [queued_run, running_run, spawned_run])
def test_nothing_of_a_run_in_progress_is_touched_however_old(
    make: Callable[..., Run], database: Database, storage: FolderStorage, pruning: Pruning
) -> None:
    thread = new_thread(database)
    work(database, storage, thread)
    leave(database, storage, last := running_run(database, thread), own=b"newer")
    database.write(lambda db: runs.settle(db, last.id, 1, Outcome(RunStatus.SUCCEEDED, "done")))
    run = make(database, thread)
    database.write(lambda db: threads.hide(db, threads.lock(db, OWNER, thread.id)))
    make_old(database)
    before = rows(database)
    assert prune(pruning).keys() <= {"runs whose texts are there as a whole, too", "sessions of agents that are over"}
    after = rows(database)
    assert (after["runs"], after["workspaces"], after["blobs"]) == (3, 2, before["blobs"])
    if run.status is RunStatus.RUNNING:
        assert database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED, "done")))
    assert list(audit.audit(database, storage)) == []


def test_of_the_states_of_a_folder_the_newest_stays(
    database: Database, storage: FolderStorage, settings: Settings
) -> None:
    thread = new_thread(database)
    for number in range(3):
        run = running_run(database, thread)
        leave(database, storage, run, same=b"same", own=b"%d" % number)
        database.write(lambda db, run=run: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED, "done")))  # type: ignore[misc]
    make_old(database)
    done = prune(Pruning(database, storage, settings.model_copy(update={"keep_deltas_days": 0})))
    # Of each that goes, its list and its own file.
    assert done == {"states of folders that newer ones follow": 2, "files that nothing names any more": 4}
    (state,) = database.read(lambda db: db.scalars(select(WorkspaceState)).all())
    names = {entry.path: entry for entry in workspaces.read_manifest(storage, state).entries}
    with storage.open(names["own"].sha256) as file:
        assert file.read() == b"2"
    assert list(audit.audit(database, storage)) == []


def test_files_that_somebody_lists_again_while_they_are_looked_for_stay(
    database: Database, storage: FolderStorage, settings: Settings
) -> None:
    stored = [storage.put([b"%d" % n], limit=10) for n in range(3)]
    database.write(lambda db: keep_blob(db, *stored))
    make_old(database)
    run = spawned_run(database)
    leave(database, storage, run, used=b"0")
    database.write(lambda db: keep_blob(db, stored[1]))
    assert prune(Pruning(database, storage, settings)) == {"files that nothing names any more": 1}
    assert database.read(lambda db: artifacts.listed_blobs(db, [each.sha256 for each in stored])) == {
        stored[0].sha256,
        stored[1].sha256,
    }


def test_where_a_folders_list_cannot_be_read_no_file_is_forgotten(
    database: Database, storage: FolderStorage, settings: Settings, tmp_path: Any
) -> None:
    """As where the storage is not the one that the record belongs to."""
    leave(database, storage, spawned_run(database), a=b"a")
    make_old(database)
    with pytest.raises(StorageUnavailable):
        prune(Pruning(database, FolderStorage(tmp_path / "another"), settings))
    assert rows(database)["blobs"] == 2


def test_one_process_does_a_chore_and_not_before_its_time(database: Database) -> None:
    def claim() -> bool:
        return database.write(lambda db: retention.claim(db, "rows", 3600))

    assert [claim(), claim()] == [True, False]
    make_old(database)
    assert [claim(), claim()] == [True, False]


def test_pruning_races_runs_that_go_on_and_breaks_nothing(
    database: Database, storage: FolderStorage, pruning: Pruning
) -> None:
    """Threads are worked in and attached to, while all that is old, or made to look so, is removed."""
    stop, errors, finished = threading.Event(), [], []

    def live(name: str) -> None:
        try:
            while not stop.is_set():
                thread = new_thread(database)
                for turn in range(2):
                    finished.append(work(database, storage, thread, f"{name}{turn}").id)
                    make_old(database, thread.id)
        except NotFound:
            # It was old, and went between two of its turns.
            live(name)
        except Exception as error:
            errors.append(error)

    people = [threading.Thread(target=live, args=(name,)) for name in "ab"]
    for person in people:
        person.start()
    removed = 0

    def enough() -> bool:
        nonlocal removed
        removed += prune(pruning).get("threads that were deleted, or in which nothing happened for long", 0)
        return bool(errors) or removed >= 3

    try:
        wait_for(enough, 30, "threads to be removed")
    finally:
        stop.set()
        for person in people:
            person.join(30)
    assert errors == []
    assert removed >= 3
    assert list(audit.audit(database, storage)) == []


def test_a_record_that_lists_nothing_removes_nothing_from_storage(
    database: Database, storage: FolderStorage, pruning: Pruning
) -> None:
    """It is new, or the wrong one: these are another's files."""
    left = storage.put([b"of another record"], limit=100)
    path = next(storage.folder.glob(f"*/{left.sha256}"))
    os.utime(path, (0, 0))
    assert prune(pruning) == {}
    assert path.exists()
    database.write(lambda db: keep_blob(db, storage.put([b"ours"], limit=100)))
    assert prune(pruning) == {"files that nothing listed": 1}


def test_what_is_forgotten_goes_from_storage_with_the_next_look(
    database: Database, storage: FolderStorage, pruning: Pruning
) -> None:
    """So that a back-up that is being made has a day to copy what its record lists."""
    kept, old = (storage.put([text], limit=100) for text in (b"kept", b"old"))
    database.write(lambda db: keep_blob(db, old))
    make_old(database)
    database.write(lambda db: keep_blob(db, kept))
    path = next(storage.folder.glob(f"*/{old.sha256}"))
    os.utime(path, (0, 0))
    assert prune(pruning) == {"files that nothing names any more": 1}
    assert path.exists()
    assert prune(pruning) == {"files that nothing listed": 1}
    assert not path.exists()


def test_a_chore_that_takes_long_is_not_begun_again_meanwhile(database: Database) -> None:
    assert database.write(lambda db: retention.claim(db, "rows", 3600))
    database.write(lambda db: db.execute(update(Chore).values(begun_at=utc_now() - OLD)))
    database.write(lambda db: retention.go_on(db, "rows"))
    assert not database.write(lambda db: retention.claim(db, "rows", 3600))


def test_an_audit_of_what_is_being_removed_tells_of_nothing(
    database: Database, storage: FolderStorage, pruning: Pruning
) -> None:
    run = work(database, storage)
    database.write(lambda db: db.execute(update(Thread).values(removed_at=utc_now(), deleted_at=utc_now())))
    database.write(lambda db: db.execute(delete(RunEvents).where(RunEvents.run_id == run.id)))
    assert list(audit.audit(database, storage)) == []
