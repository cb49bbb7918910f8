"""An owner's runs and files at a glance: all that are not over, the newest, and nobody else's."""

import pytest
from scene import OWNER, fresh, new_thread, queued_run, running_run

from longwick import artifacts, cancellation, overview, runs, threads
from longwick.artifacts import Save
from longwick.database import Database
from longwick.kinds import RunStatus
from longwick.models import Artifact, Blob, Run
from longwick.outcomes import Outcome
from longwick.overview import TEXT_CHARACTERS, Glance
from longwick.storage import describe


def settle(database: Database, run: Run, text: str = "done") -> None:
    outcome = Outcome(RunStatus.SUCCEEDED, text)
    assert database.write(lambda db: runs.settle(db, run.id, run.attempt, outcome))


def glances(database: Database) -> dict[str, Glance]:
    return database.read(lambda db: overview.glances(db, OWNER))


def attach(database: Database, thread_id: str, owner: str = OWNER) -> Artifact:
    wanted = Save("a.txt", "text/plain", describe(b"hello"))
    return database.write(lambda db: artifacts.attach(db, owner, thread_id, wanted))


def hide(database: Database, thread_id: str) -> None:
    database.write(lambda db: threads.hide(db, threads.get(db, OWNER, thread_id)))


def test_a_glance_tells_what_can_change(database: Database) -> None:
    queued, running, wished = queued_run(database), running_run(database), running_run(database)
    database.write(lambda db: cancellation.request(db, OWNER, wished.id))
    assert glances(database) == {
        queued.id: Glance(RunStatus.QUEUED, 0, False, 1, 1),
        running.id: Glance(RunStatus.RUNNING, 1, False, 1, 0),
        wished.id: Glance(RunStatus.RUNNING, 1, True, 1, 0),
    }
    assert Glance.of(fresh(database, wished)) == glances(database)[wished.id]


def test_all_that_is_not_over_is_seen_and_of_the_rest_the_newest(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "NEWEST", 2)
    old, *ended = (running_run(database) for _ in range(4))
    waiting = queued_run(database, new_thread(database))
    for run in ended:
        settle(database, run)
    assert set(glances(database)) == {old.id, waiting.id, ended[-1].id}


def test_of_too_many_those_that_wait_longest_are_left_out(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "NEWEST", 1)
    monkeypatch.setattr(overview, "MOST_UNSETTLED", 3)
    running = running_run(database)
    queued = [queued_run(database) for _ in range(4)]
    assert set(glances(database)) == {running.id, queued[3].id, queued[2].id}


def test_what_is_deleted_or_somebody_elses_is_not_seen(database: Database) -> None:
    deleted, theirs = queued_run(database), queued_run(database, new_thread(database, "other"))
    kept = queued_run(database)
    for run in (deleted, kept):
        attach(database, run.thread_id)
    attach(database, theirs.thread_id, "other")
    hide(database, deleted.thread_id)
    ids = [deleted.id, theirs.id, kept.id]
    assert list(glances(database)) == [kept.id]
    assert [run.id for run in database.read(lambda db: overview.shortened(db, OWNER, ids))] == [kept.id]
    found = database.read(lambda db: overview.new_artifacts(db, OWNER))
    assert [artifact.thread_id for artifact in found] == [kept.thread_id]


def test_long_texts_are_cut_and_say_so(database: Database) -> None:
    long, short = "ä" * (TEXT_CHARACTERS + 1), "ä" * TEXT_CHARACTERS
    first, second = running_run(database, text=long), running_run(database, text=short)
    settle(database, first, short)
    settle(database, second, long)
    ids = [first.id, second.id]
    newest, oldest = database.read(lambda db: overview.shortened(db, OWNER, ids))
    assert (oldest.input, oldest.output_text) == (short + "…", short)
    assert (newest.input, newest.output_text) == (short, short + "…")
    assert fresh(database, first).input == long


def test_an_artifact_is_new_for_about_a_minute(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = new_thread(database)
    made = attach(database, thread.id)
    assert [found.id for found in database.read(lambda db: overview.new_artifacts(db, OWNER))] == [made.id]
    monkeypatch.setattr(overview, "NEW_SECONDS", -5)
    assert database.read(lambda db: overview.new_artifacts(db, OWNER)) == []
    assert database.read(lambda db: db.get(Blob, made.sha256)) is not None
