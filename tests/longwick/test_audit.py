"""The audit: silent on what Longwick makes, loud on everything else."""

from pathlib import Path

import pytest
from scene import OWNER, log_of, queued_run, running_run, spawned_run
from sqlalchemy import text

from longwick import artifacts, audit, cancellation, events, leases, runs, sessions, workspaces
from longwick.artifacts import Quota, Save
from longwick.audit import Audited
from longwick.database import Database
from longwick.events import Event, EventType
from longwick.kinds import OnWorkerLost, RunStatus
from longwick.leases import Held
from longwick.models import Run, RunEvents
from longwick.outcomes import Outcome
from longwick.storage import FolderStorage, describe
from longwick.workspaces import Entry, Kind, Manifest


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "blobs")


def say(database: Database, run: Run, word: str, *, close: bool = True) -> None:
    block = {"message_id": f"blk_{run.attempt}_1"}
    said = [Event(EventType.MESSAGE_STARTED, block), Event(EventType.MESSAGE_DELTA, {**block, "text": word})]
    closing = [Event(EventType.MESSAGE_COMPLETED, {**block, "text": word, "partial": False})] if close else []
    database.write(lambda db: events.append(db, run.id, run.attempt, [*said, *closing]))


def save(database: Database, storage: FolderStorage, run: Run) -> None:
    session = database.write(lambda db: sessions.open_session(db, run, 60))
    stored = storage.put([b"12345"], limit=100)
    wanted = Save("a.txt", "text/plain", stored)
    database.write(lambda db: artifacts.save(db, session.id, wanted, Quota(10, 1000)))


@pytest.fixture
def whole(database: Database, storage: FolderStorage) -> Run:
    """A record with runs of all kinds, each made as the tiers make it; the one that succeeded, with a file."""
    queued_run(database)
    running_run(database)
    cancelled = queued_run(database)
    database.write(lambda db: cancellation.request(db, OWNER, cancelled.id))
    again = spawned_run(database, on_worker_lost=OnWorkerLost.RETRY)
    say(database, again, "Half", close=False)
    leases.recover(database, Held(again.id, 1, "wrk_test", 0), "test")
    lost = spawned_run(database)
    say(database, lost, "Half", close=False)
    leases.recover(database, Held(lost.id, 1, "wrk_test", 0), "test")
    run = spawned_run(database)
    say(database, run, "Whole")
    save(database, storage, run)
    folder = storage.put([b"print()"], limit=100)
    manifest = Manifest([Entry("a.py", Kind.FILE, 0o600, size=folder.size, sha256=folder.sha256)])
    listed = storage.put([manifest.encode()], limit=1000)
    database.write(lambda db: workspaces.keep(db, run, manifest, [folder, listed]))
    database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED, "Whole")))
    return run


def test_what_longwick_makes_is_well(database: Database, storage: FolderStorage, whole: Run) -> None:
    audited = Audited()
    assert list(audit.audit(database, storage, audited)) == []
    assert (audited.runs, audited.files) == (6, 3)
    assert audited.events > 20


TAMPERED = {
    "one end": "UPDATE runs SET status = 'failed' WHERE id = :run",
    "dense": "UPDATE runs SET last_seq = last_seq + 1 WHERE id = :run",
    "fence": "UPDATE runs SET attempt = 0 WHERE id = :run",
    "attempts": "UPDATE runs SET attempt = 2 WHERE id = :run",
    "held": "INSERT INTO leases (run_id, attempt, worker_id, beat) VALUES (:run, 1, 'wrk_x', 0)",
    "messages": "DELETE FROM messages WHERE run_id = :run AND role = 'assistant'",
    "artifacts": "DELETE FROM artifacts WHERE run_id = :run",
    "closed": """UPDATE run_events SET body = replace(body, '"message.completed"', '"notice"') WHERE run_id = :run""",
    "bytes": "UPDATE artifacts SET size = 6 WHERE run_id = :run",
}


@pytest.mark.parametrize("promise", TAMPERED)
def test_what_breaks_a_promise_is_told(database: Database, storage: FolderStorage, whole: Run, promise: str) -> None:
    database.write(lambda db: db.execute(text(TAMPERED[promise]), {"run": whole.id}))
    assert promise in {violation.promise for violation in audit.audit(database, storage)}


def test_a_hole_in_a_log_and_an_event_after_its_end_are_told(
    database: Database, storage: FolderStorage, whole: Run
) -> None:
    hole = "DELETE FROM run_events WHERE run_id = :run AND first_seq = 2"
    database.write(lambda db: db.execute(text(hole), {"run": whole.id}))
    (found,) = {v.promise for v in audit.audit(database, storage) if "should follow" in v.words}
    assert found == "dense"
    body = '{"seq":99,"attempt":1,"type":"notice","data":{}}'
    after = RunEvents(run_id=whole.id, first_seq=99, last_seq=99, attempt=1, batch="x", body=body)
    database.write(lambda db: db.add(after))
    assert "one end" in {violation.promise for violation in audit.audit(database, storage)}


def test_an_agent_that_was_started_again_without_leave_is_told(database: Database, storage: FolderStorage) -> None:
    run = spawned_run(database, on_worker_lost=OnWorkerLost.RETRY)
    say(database, run, "Half", close=False)
    leases.recover(database, Held(run.id, 1, "wrk_test", 0), "test")
    database.write(lambda db: runs.claim(db, run.id, "wrk_test", {}))
    assert list(audit.audit(database, storage)) == []
    database.write(lambda db: db.execute(text("UPDATE runs SET on_worker_lost = 'fail'")))
    assert [violation.promise for violation in audit.audit(database, storage)] == ["no silent rerun"]


def test_bytes_that_are_gone_or_others_are_told(database: Database, storage: FolderStorage, whole: Run) -> None:
    file = storage.path(describe(b"12345").sha256)
    file.chmod(0o600)
    file.write_bytes(b"12346")
    assert ["other bytes" in violation.words for violation in audit.audit(database, storage)] == [True]
    file.unlink()
    assert ["has none" in violation.words for violation in audit.audit(database, storage)] == [True]


def test_a_folder_that_cannot_be_restored_is_told(database: Database, storage: FolderStorage, whole: Run) -> None:
    state = database.read(lambda db: workspaces.newest(db, whole.thread_id))
    assert state is not None

    def told() -> list[str]:
        return [violation.words for violation in audit.audit(database, storage) if violation.subject == state.id]

    for tampered, words in (
        ("UPDATE workspaces SET size = 8", "1 files of 8 bytes, and has not"),
        ("UPDATE workspaces SET size = 7, attempt = 2", "attempt 2 of run_"),
    ):
        database.write(lambda db, sql=tampered: db.execute(text(sql)))  # type: ignore[misc]
        assert [words in each for each in told()] == [True]
    database.write(lambda db: db.execute(text("UPDATE workspaces SET attempt = 1")))
    assert told() == []
    database.write(lambda db: db.execute(text("DELETE FROM blobs WHERE size = 7")))
    assert told() == ["the record knows no bytes of 1 of its files: 'a.py'"]
    storage.path(state.manifest_sha256).unlink()
    assert told() == ["it cannot be restored: the bytes are not in storage"]


def test_what_a_reader_saw_is_held_against_the_record(database: Database, whole: Run) -> None:
    log = log_of(database, whole)
    assert audit.differences(database, whole.id, log) == []
    for seen in (log[:-1], [*log, log[-1]], [*log[:2], *log[3:]], [log[0], log[2], log[1], *log[3:]]):
        assert [violation.promise for violation in audit.differences(database, whole.id, seen)] == ["view"]
    waiting = queued_run(database)
    assert audit.differences(database, waiting.id, []) == []
