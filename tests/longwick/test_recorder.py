"""The Recorder: many runs, one commit; nobody pays for another's trouble."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from scene import check_log, fresh, log_of, running_run, types_of
from sqlalchemy import select, text
from waiting import wait_for

from longwick import events, runs
from longwick.database import Database
from longwick.errors import Fenced, Unavailable
from longwick.events import DELTA_CHARACTERS, Event, EventType
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.recorder import PENDING_BYTES, Recorder, RunLog


def delta(text: str, block: str = "m") -> Event:
    return Event(EventType.MESSAGE_DELTA, {"message_id": block, "text": text})


def progress(message: str) -> Event:
    return Event(EventType.PROGRESS, {"message": message, "fraction": None})


@pytest.fixture
def recorder(database: Database) -> Iterator[Recorder]:
    with Recorder(database) as recorder:
        yield recorder


def text_of(database: Database, run: Run) -> str:
    return "".join(event["data"]["text"] for event in log_of(database, run) if event["type"] == "message.delta")


def commits(database: Database) -> list[list[Any]]:
    """What each commit from now on announces."""
    seen: list[list[Any]] = []
    database.after_commit = seen.append
    return seen


def test_what_was_flushed_is_in_the_record(database: Database, recorder: Recorder) -> None:
    run = running_run(database)
    log = recorder.open(run.id, 1)
    log.append(delta("Hello"), delta(" world"), progress("half"), delta("!"))
    log.flush()
    assert text_of(database, run) == "Hello world!"
    assert types_of(database, run)[2:] == ["message.delta", "progress", "message.delta"]
    check_log(database, run)


def test_many_threads_write_many_runs_and_nothing_is_lost_or_mixed(database: Database, recorder: Recorder) -> None:
    written = [running_run(database) for _ in range(12)]

    def write(run: Run) -> None:
        log = recorder.open(run.id, 1)
        for n in range(300):
            log.append(delta(f"{run.id} {n};"))
            if n % 50 == 0:
                log.append(progress(str(n)))
        log.flush()

    writers = [threading.Thread(target=write, args=(run,)) for run in written]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    for run in written:
        assert text_of(database, run) == "".join(f"{run.id} {n};" for n in range(300))
        check_log(database, run)


def test_runs_that_are_due_together_are_committed_together(database: Database, recorder: Recorder) -> None:
    written = [running_run(database) for _ in range(8)]
    logs = [recorder.open(run.id, 1) for run in written]
    seen = commits(database)
    with _held_up(recorder):
        for log in logs:
            log.append(progress("x"))
    for log in logs:
        log.flush()
    assert max(len(announced) for announced in seen) >= 7


def test_deltas_of_a_burst_are_merged_and_others_keep_their_place(database: Database, recorder: Recorder) -> None:
    run = running_run(database)
    log = recorder.open(run.id, 1)
    with _held_up(recorder):
        log.append(*(delta("a") for _ in range(100)), delta("b", "other"), progress("x"), delta("c", "other"))
    log.flush()
    # The first may have been taken at once, before the rest was there.
    merged = [(e["data"].get("message_id"), e["data"].get("text")) for e in log_of(database, run)[2:]]
    assert merged[-3:] == [("other", "b"), (None, None), ("other", "c")]
    assert len(merged) <= 5
    assert text_of(database, run) == "a" * 100 + "bc"


def test_the_first_delta_after_a_silence_does_not_wait(database: Database, recorder: Recorder) -> None:
    run = running_run(database)
    log = recorder.open(run.id, 1)
    log.append(delta("x"))
    wait_for(lambda: text_of(database, run) == "x", what="the delta to be in the record without a flush")


def test_a_long_delta_is_cut_and_adds_up(database: Database, recorder: Recorder) -> None:
    run = running_run(database)
    log = recorder.open(run.id, 1)
    text = "0123456789" * DELTA_CHARACTERS
    log.append(delta(text))
    log.flush()
    pieces = [event for event in log_of(database, run) if event["type"] == "message.delta"]
    assert len(pieces) == 10
    assert text_of(database, run) == text


def test_a_fenced_run_harms_nobody_and_is_told(database: Database, recorder: Recorder) -> None:
    good, bad = running_run(database), running_run(database)
    told = threading.Event()
    good_log, bad_log = recorder.open(good.id, 1), recorder.open(bad.id, 1, on_fenced=told.set)
    database.write(lambda db: runs.settle(db, bad.id, 1, Outcome(RunStatus.FAILED, error_code="worker_lost")))
    with _held_up(recorder):
        good_log.append(delta("fine"))
        bad_log.append(delta("late"))
    good_log.flush()
    with pytest.raises(Fenced):
        bad_log.flush()
    assert told.wait(30)
    assert text_of(database, good) == "fine"
    assert text_of(database, bad) == ""
    with pytest.raises(Fenced):
        bad_log.append(delta("again"))


def test_a_poisoned_event_fails_its_own_run_only(database: Database, recorder: Recorder) -> None:
    good, bad = running_run(database), running_run(database)
    good_log, bad_log = recorder.open(good.id, 1), recorder.open(bad.id, 1)
    original = events.append_group

    def poisoned(db: Any, appends: Any) -> Any:
        if any(append.run_id == bad.id for append in appends):
            db.execute(_broken_sql())
        return original(db, appends)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("longwick.events.append_group", poisoned)
        with _held_up(recorder):
            good_log.append(delta("fine"))
            bad_log.append(delta("poison"))
        good_log.flush()
        with pytest.raises(Exception, match="no_such_table"):
            bad_log.flush()
    assert text_of(database, good) == "fine"
    check_log(database, good)
    check_log(database, bad)


def test_a_lost_answer_to_commit_doubles_nothing(database: Database, recorder: Recorder) -> None:
    run = running_run(database)
    log = recorder.open(run.id, 1)
    told = commits(database)
    write = database.write
    lost = threading.Event()

    def answer_lost(work: Any, **kwargs: Any) -> Any:
        result = write(work, **kwargs)
        if not lost.is_set():
            lost.set()
            told.clear()
            raise Unavailable("the connection broke during COMMIT")
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "write", answer_lost)
        log.append(delta("once"))
        log.flush()
    assert lost.is_set()
    assert text_of(database, run) == "once"
    assert [[batch.last_seq for batch in announced] for announced in told] == [[3]]
    check_log(database, run)


def test_a_record_that_is_away_is_waited_for(database: Database, recorder: Recorder) -> None:
    run = running_run(database)
    log = recorder.open(run.id, 1)
    write = database.write
    failures = iter(range(4))

    def away(work: Any, **kwargs: Any) -> Any:
        if next(failures, None) is not None:
            raise Unavailable("the record does not answer")
        return write(work, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "write", away)
        log.append(delta("kept"))
        log.flush()
    assert text_of(database, run) == "kept"


def test_one_blocked_run_does_not_hold_the_others_for_long(
    database: Database, recorder: Recorder, engine_name: str
) -> None:
    if engine_name == "sqlite":
        # Its only lock is the whole database's: nobody can block one run alone.
        return
    blocked, free = running_run(database), running_run(database)
    blocked_log, free_log = recorder.open(blocked.id, 1), recorder.open(free.id, 1)
    inside, leave = threading.Event(), threading.Event()

    def block(db: Any) -> None:
        db.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        db.execute(_lock_row(blocked.id))
        inside.set()
        leave.wait(20)

    blocker = threading.Thread(target=lambda: database.write(block))
    blocker.start()
    try:
        assert inside.wait(30)
        with _held_up(recorder):
            blocked_log.append(delta("blocked"))
            free_log.append(delta("free"))
        free_log.flush()
        assert text_of(database, free) == "free"
        for n in range(5):
            free_log.append(progress(str(n)))
            free_log.flush()
    finally:
        leave.set()
        blocker.join(10)
    blocked_log.flush()
    assert text_of(database, blocked) == "blocked"


def test_a_writer_that_is_too_fast_waits_and_shows_that_it_lives(database: Database, recorder: Recorder) -> None:
    run = running_run(database)
    log = recorder.open(run.id, 1)
    ticks = threading.Event()
    done = threading.Event()

    def write() -> None:
        for n in range(3):
            log.append(delta("x" * (PENDING_BYTES // 2), f"m{n}"), progress("x"), wait=ticks.set)
        done.set()

    with _held_up(recorder):
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        assert ticks.wait(30)
        assert not done.is_set()
    writer.join(10)
    log.flush()
    assert len(text_of(database, run)) == PENDING_BYTES // 2 * 3


def test_leaving_commits_what_is_pending(database: Database) -> None:
    run = running_run(database)
    with Recorder(database) as recorder:
        recorder.open(run.id, 1).append(delta("a"), delta("b"))
    assert text_of(database, run) == "ab"


def test_a_closed_log_takes_nothing_more(database: Database, recorder: Recorder) -> None:
    run = running_run(database)
    log = recorder.open(run.id, 1)
    recorder.close(log)
    with pytest.raises(Fenced):
        log.append(delta("x"))
    assert fresh(database, run).last_seq == 2


@contextlib.contextmanager
def _held_up(recorder: Recorder) -> Iterator[None]:
    """Inside, the Recorder takes nothing; afterwards it finds all that was appended together."""
    real = RunLog._due
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_due", lambda log: 1e9)
        try:
            yield
        finally:
            patch.setattr(RunLog, "_due", real)
            with recorder._changed:
                recorder._changed.notify_all()


def _broken_sql() -> Any:
    from sqlalchemy import text

    return text("SELECT * FROM no_such_table")


def _lock_row(run_id: str) -> Any:
    return select(Run.id).where(Run.id == run_id).with_for_update()
