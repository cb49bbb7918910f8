"""Submissions as the record takes them: once for each key and owner, and never into what was deleted."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from scene import OWNER, check_log, fresh, new_thread, queued_run, running_run, spawned_run, types_of
from sqlalchemy import func, select

from longwick import cancellation, events, runs, submission, threads
from longwick.database import Database, Db, utc_now
from longwick.errors import Conflict, Invalid, NotFound
from longwick.events import Event, EventType
from longwick.kinds import OnWorkerLost, RunKind, RunStatus
from longwick.models import IdempotencyKey, Run, Thread
from longwick.outcomes import Outcome
from longwick.runs import NewRun
from longwick.submission import FORGOTTEN_AT_ONCE, KEY_HOURS, IfBusy, Once

HELLO = NewRun("hello", "demo")


def submit(
    database: Database,
    once: Once | None = None,
    *,
    owner: str = OWNER,
    thread: Thread | None = None,
    if_busy: IfBusy = IfBusy.QUEUE,
) -> Run:
    thread_id = thread.id if thread else None
    return database.write(
        lambda db: submission.submit(db, owner, HELLO, thread_id=thread_id, if_busy=if_busy, once=once)
    )


def settle(database: Database, run: Run, text: str = "done") -> Run | None:
    outcome = Outcome(RunStatus.SUCCEEDED, text)
    return database.write(lambda db: runs.settle(db, run.id, run.attempt, outcome))


def age(database: Database, hours: float) -> None:
    """Have all keys been used so long ago."""

    def write(db: Db) -> None:
        for key in db.scalars(select(IdempotencyKey)):
            key.created_at = utc_now() - timedelta(hours=hours)

    database.write(write)


def keys(database: Database) -> int:
    return database.read(lambda db: db.scalar(select(func.count()).select_from(IdempotencyKey)) or 0)


def test_a_key_belongs_to_its_owner(database: Database) -> None:
    ours, theirs = submit(database, Once("k", b"x")), submit(database, Once("k", b"y"), owner="other")
    assert ours.id != theirs.id
    assert submit(database, Once("k", b"x")).id == ours.id
    assert submit(database, Once("k", b"y"), owner="other").id == theirs.id


def test_a_key_counts_for_a_day(database: Database) -> None:
    first = submit(database, Once("k", b"x"))
    age(database, KEY_HOURS - 0.1)
    assert submit(database, Once("k", b"x")).id == first.id
    with pytest.raises(Invalid) as refused:
        submit(database, Once("k", b"y"))
    assert refused.value.code == "idempotency_mismatch"
    age(database, KEY_HOURS + 0.1)
    second = submit(database, Once("k", b"y"))
    assert second.id != first.id
    assert submit(database, Once("k", b"y")).id == second.id


def test_an_old_key_that_many_use_again_at_once_is_new_once(database: Database) -> None:
    first = submit(database, Once("k", b"x"))
    age(database, KEY_HOURS + 1)
    with ThreadPoolExecutor(8) as pool:
        made = {run.id for run in pool.map(lambda n: submit(database, Once("k", b"x")), range(8))}
    assert len(made) == 1
    assert made != {first.id}


def test_keys_that_are_too_old_are_forgotten_a_few_with_each_new_one(database: Database) -> None:
    run = queued_run(database)

    def write(db: Db) -> None:
        old = utc_now() - timedelta(hours=KEY_HOURS + 1)
        for n in range(FORGOTTEN_AT_ONCE + 20):
            db.add(IdempotencyKey(owner=f"{n}", key="k", body_sha256="x", run_id=run.id, created_at=old))

    database.write(write)
    submit(database, Once("a", b"x"))
    assert keys(database) == 21
    submit(database, Once("b", b"x"))
    assert keys(database) == 2


def test_what_was_deleted_is_not_run_again_for_its_key(database: Database) -> None:
    run = submit(database, Once("k", b"x"))
    database.write(lambda db: threads.hide(db, threads.get(db, OWNER, run.thread_id)))
    with pytest.raises(Conflict) as refused:
        submit(database, Once("k", b"x"))
    assert refused.value.code == "deleted"


def test_interrupting_ends_what_waits_and_asks_what_runs_to_end(database: Database) -> None:
    thread = new_thread(database)
    running, waiting = running_run(database, thread), queued_run(database, thread)
    run = submit(database, thread=thread, if_busy=IfBusy.INTERRUPT)
    assert fresh(database, waiting).status is RunStatus.CANCELLED
    assert fresh(database, running).status is RunStatus.RUNNING
    assert fresh(database, running).cancel_requested_at is not None
    assert fresh(database, run).status is RunStatus.QUEUED
    settle(database, running)
    assert fresh(database, running).status is RunStatus.CANCELLED
    assert database.write(lambda db: runs.claim(db, run.id, "wrk_test", {})) is not None
    for each in (running, waiting, run):
        check_log(database, each)


def test_interrupting_what_ends_at_the_same_moment_does_no_harm(database: Database) -> None:
    """The two lock thread and run the other way round; whoever has to start again does."""
    for _ in range(12):
        thread = new_thread(database)
        running = spawned_run(database, thread)
        with ThreadPoolExecutor(2) as pool:
            settling = pool.submit(settle, database, running)
            interrupting = pool.submit(submit, database, None, thread=thread, if_busy=IfBusy.INTERRUPT)
            assert settling.result(20) is not None
            after = interrupting.result(20)
        assert fresh(database, running).status in (RunStatus.SUCCEEDED, RunStatus.CANCELLED)
        assert fresh(database, after).status is RunStatus.QUEUED
        check_log(database, running)


@pytest.mark.parametrize("if_busy", list(IfBusy))
def test_of_equal_submissions_to_one_thread_at_once_none_is_in_the_others_way(
    database: Database, if_busy: IfBusy
) -> None:
    thread = new_thread(database)
    with ThreadPoolExecutor(8) as pool:
        once = Once("k", b"x")
        made = list(pool.map(lambda n: submit(database, once, thread=thread, if_busy=if_busy), range(8)))
    assert len({run.id for run in made}) == 1
    assert fresh(database, made[0]).status is RunStatus.QUEUED
    assert fresh(database, made[0]).cancel_requested_at is None
    assert types_of(database, made[0]) == ["run.queued"]


def test_a_retry_asks_for_the_same_again(database: Database) -> None:
    asked: dict[str, Any] = {
        "model": "m",
        "kind": RunKind.BACKGROUND,
        "artifact_generation": False,
        "timeout_seconds": 5.0,
        "idle_timeout_seconds": 4.0,
        "max_cost_usd": 0.5,
        "on_worker_lost": OnWorkerLost.RETRY,
        "extra": {"a": 1},
    }
    run = running_run(database, text="what", **asked)
    settle(database, run)
    again = database.write(lambda db: submission.retry(db, OWNER, run.id))
    assert (again.input, again.agent, again.thread_id, again.retry_of) == ("what", "demo", run.thread_id, run.id)
    assert {name: getattr(again, name) for name in asked} == asked
    assert (again.status, again.attempt, again.turn) == (RunStatus.QUEUED, 0, run.turn + 1)


def test_nothing_comes_into_a_thread_that_is_deleted_meanwhile(database: Database) -> None:
    """Whoever has looked at the thread before, and has not locked it."""
    thread = new_thread(database)
    database.write(lambda db: threads.hide(db, threads.get(db, OWNER, thread.id)))
    with pytest.raises(NotFound):
        database.write(lambda db: runs.create(db, thread, HELLO))
    with pytest.raises(NotFound):
        submit(database, thread=thread)


def test_deleting_and_submitting_at_once_leaves_no_run_that_nobody_can_find(database: Database) -> None:
    for _ in range(8):
        thread = new_thread(database)
        queued_run(database, thread)

        def delete(thread: Thread = thread) -> None:
            def write(db: Db) -> None:
                locked = threads.lock(db, OWNER, thread.id)
                cancellation.request_all(db, OWNER, locked.id)
                threads.hide(db, locked)

            database.write(write)

        with ThreadPoolExecutor(5) as pool:
            posting = [pool.submit(submit, database, None, thread=thread) for _ in range(4)]
            pool.submit(delete).result(20)
            refused = [each.exception(20) for each in posting]
        assert {type(error) for error in refused} <= {NotFound, type(None)}
        left = database.read(lambda db, thread=thread: runs.unsettled_of(db, thread.id))  # type: ignore[misc]
        assert left == []


def test_what_is_cancelled_while_it_waits_for_another_attempt_keeps_what_it_showed(database: Database) -> None:
    run = spawned_run(database, on_worker_lost=OnWorkerLost.RETRY)
    shown = [
        Event(EventType.MESSAGE_STARTED, {"message_id": "m"}),
        Event(EventType.MESSAGE_DELTA, {"message_id": "m", "text": "Half"}),
        Event(EventType.MESSAGE_COMPLETED, {"message_id": "m", "text": "Half", "partial": True}),
        Event(EventType.USAGE_UPDATED, {"output_tokens": 7, "cost_usd": 0.25}),
    ]
    database.write(lambda db: events.append(db, run.id, 1, shown))
    assert database.write(lambda db: runs.requeue(db, run.id, 1, "test"))
    cancelled = database.write(lambda db: cancellation.request(db, OWNER, run.id))
    assert (cancelled.status, cancelled.output_text) == (RunStatus.CANCELLED, "Half")
    assert (cancelled.usage, cancelled.cost_usd) == ({"output_tokens": 7}, 0.25)
    said = database.read(lambda db: threads.list_messages(db, run.thread_id)).data[-1]
    assert (said.text, said.partial) == ("Half", True)
    assert check_log(database, run)[-1]["data"]["cost_usd"] == 0.25
