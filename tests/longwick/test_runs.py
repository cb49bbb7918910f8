"""The life of a run, as the record sees it."""

import pytest
from scene import OWNER, check_log, fresh, log_of, new_thread, queued_run, running_run, spawned_run, types_of

from longwick import backlog, cancellation, leases, runs, sessions, threads
from longwick.database import Database
from longwick.errors import Conflict, Fenced, NotFound
from longwick.events import Event, EventType
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.news import News
from longwick.outcomes import Outcome


def settle(database: Database, run: Run, outcome: Outcome, attempt: int = 1) -> Run | None:
    return database.write(lambda db: runs.settle(db, run.id, attempt, outcome))


def claim(database: Database, run: Run) -> Run | None:
    return database.write(lambda db: runs.claim(db, run.id, "wrk_test", {}))


def test_accepting_writes_message_run_and_event_together(database: Database) -> None:
    run = queued_run(database, text="Hello there")
    messages = database.read(lambda db: threads.list_messages(db, run.thread_id)).data
    assert [(message.role, message.text, message.run_id) for message in messages] == [("user", "Hello there", run.id)]
    assert types_of(database, run) == ["run.queued"]
    assert (run.status, run.attempt, run.turn) == (RunStatus.QUEUED, 0, 1)
    assert database.read(lambda db: threads.get(db, OWNER, run.thread_id)).title == "Hello there"


def test_a_claim_makes_the_next_attempt_with_a_lease(database: Database) -> None:
    run = running_run(database)
    assert (run.status, run.attempt, run.worker_id) == (RunStatus.RUNNING, 1, "wrk_test")
    assert [held.run_id for held in database.read(leases.all_held)] == [run.id]
    assert log_of(database, run)[-1]["data"]["attempt"] == 1


def test_a_thread_runs_one_turn_at_a_time_in_order(database: Database) -> None:
    thread = new_thread(database)
    first, second, third = (queued_run(database, thread) for _ in range(3))
    assert [run.turn for run in (first, second, third)] == [1, 2, 3]
    assert claim(database, second) is None
    assert claim(database, first) is not None
    assert claim(database, second) is None
    settle(database, first, Outcome(RunStatus.SUCCEEDED, "one"))
    assert claim(database, third) is None
    assert claim(database, second) is not None


def test_a_hint_for_what_is_no_longer_queued_is_dropped(database: Database) -> None:
    run = running_run(database)
    assert claim(database, run) is None
    settle(database, run, Outcome(RunStatus.SUCCEEDED, "x"))
    assert claim(database, run) is None
    assert database.write(lambda db: runs.claim(db, "run_unknown", "wrk_test", {})) is None
    assert fresh(database, run).attempt == 1


def test_settling_ends_everything_the_attempt_held(database: Database) -> None:
    run = running_run(database)
    opened = database.write(lambda db: sessions.open_session(db, run, 60))
    settled = settle(
        database, run, Outcome(RunStatus.SUCCEEDED, "The answer", usage={"output_tokens": 3}, cost_usd=0.5)
    )
    assert settled is not None
    assert (settled.output_text, settled.usage, settled.cost_usd) == ("The answer", {"output_tokens": 3}, 0.5)
    assert database.read(leases.all_held) == []
    assert database.read(lambda db: sessions.authenticate(db, opened.token)) is None
    said = database.read(lambda db: threads.list_messages(db, run.thread_id)).data
    assert [(message.role, message.text, message.partial) for message in said][1:] == [
        ("assistant", "The answer", False)
    ]
    check_log(database, run)


def test_a_failed_run_keeps_what_it_showed_as_a_partial_message(database: Database) -> None:
    run = running_run(database)
    settle(database, run, Outcome(RunStatus.FAILED, "half an", True, "cli_exit", "It ended."))
    now = fresh(database, run)
    assert (now.error_code, now.error_message, now.output_text) == ("cli_exit", "It ended.", "half an")
    assert database.read(lambda db: threads.list_messages(db, run.thread_id)).data[-1].partial
    assert log_of(database, run)[-1]["data"]["error"] == {"code": "cli_exit", "message": "It ended."}


def test_the_first_end_wins(database: Database) -> None:
    run = running_run(database)
    assert settle(database, run, Outcome(RunStatus.SUCCEEDED, "x")) is not None
    assert settle(database, run, Outcome(RunStatus.FAILED, error_code="timeout")) is None
    assert fresh(database, run).status is RunStatus.SUCCEEDED
    check_log(database, run)


def test_a_stale_attempt_ends_nothing(database: Database) -> None:
    run = running_run(database)
    assert settle(database, run, Outcome(RunStatus.SUCCEEDED), attempt=2) is None
    assert fresh(database, run).status is RunStatus.RUNNING


def test_a_queued_run_is_cancelled_at_once(database: Database) -> None:
    run = queued_run(database)
    cancelled = database.write(lambda db: cancellation.request(db, OWNER, run.id))
    assert cancelled.status is RunStatus.CANCELLED
    assert types_of(database, run) == ["run.queued", "run.cancelled"]
    assert claim(database, run) is None
    again = database.write(lambda db: cancellation.request(db, OWNER, run.id))
    assert again.status is RunStatus.CANCELLED
    check_log(database, run)


def test_a_wish_to_cancel_a_running_run_is_noted_closes_its_session_and_is_announced(database: Database) -> None:
    run = running_run(database)
    opened = database.write(lambda db: sessions.open_session(db, run, 60))
    told: list[object] = []
    database.after_commit = told.extend
    wished = database.write(lambda db: cancellation.request(db, OWNER, run.id))
    assert wished.status is RunStatus.RUNNING
    assert wished.cancel_requested_at is not None
    assert told == [News(run.id)]
    assert database.read(lambda db: sessions.authenticate(db, opened.token)) is None
    again = database.write(lambda db: cancellation.request(db, OWNER, run.id))
    assert again.cancel_requested_at == wished.cancel_requested_at


def test_a_success_after_the_wish_to_cancel_is_cancelled(database: Database) -> None:
    run = running_run(database)
    database.write(lambda db: cancellation.request(db, OWNER, run.id))
    settled = settle(database, run, Outcome(RunStatus.SUCCEEDED, "too late"))
    assert settled is not None
    assert (settled.status, settled.output_text) == (RunStatus.CANCELLED, "too late")
    assert types_of(database, run)[-1] == "run.cancelled"


def test_a_success_that_was_first_is_kept_and_cancel_says_so(database: Database) -> None:
    run = running_run(database)
    settle(database, run, Outcome(RunStatus.SUCCEEDED, "done"))
    with pytest.raises(Conflict) as refused:
        database.write(lambda db: cancellation.request(db, OWNER, run.id))
    assert refused.value.code == "already_terminal"


def test_an_unspawned_attempt_goes_back_to_the_queue_and_the_next_fences_it(database: Database) -> None:
    run = running_run(database)
    assert database.write(lambda db: runs.requeue(db, run.id, 1, "test")) is not None
    assert fresh(database, run).status is RunStatus.QUEUED
    again = claim(database, run)
    assert again is not None
    assert again.attempt == 2
    with pytest.raises(Fenced):
        database.write(lambda db: runs.mark_spawned(db, run))
    assert settle(database, run, Outcome(RunStatus.SUCCEEDED)) is None
    assert types_of(database, run) == ["run.queued", "run.started", "run.attempt_lost", "run.started"]
    check_log(database, run)


def test_a_spawned_attempt_is_never_requeued(database: Database) -> None:
    run = spawned_run(database)
    assert database.write(lambda db: runs.requeue(db, run.id, 1, "test")) is None
    assert fresh(database, run).status is RunStatus.RUNNING


def test_a_run_may_be_parked_and_resumed(database: Database) -> None:
    from longwick import events

    run = running_run(database)
    park = [Event(EventType.RUN_WAITING, {"approval": None})]
    seen = (RunStatus.RUNNING, 1)
    parked = database.write(lambda db: events.transition(db, run.id, seen=seen, to=RunStatus.WAITING, events=park))
    assert parked is not None
    follower = queued_run(database, database.read(lambda db: threads.get(db, OWNER, run.thread_id)))
    assert claim(database, follower) is None
    cancelled = database.write(lambda db: cancellation.request(db, OWNER, run.id))
    assert cancelled.status is RunStatus.CANCELLED
    assert claim(database, follower) is not None
    check_log(database, run)


def test_another_owners_run_looks_like_none(database: Database) -> None:
    thread = new_thread(database, "somebody else")
    run = queued_run(database, thread)
    for look in (runs.get, cancellation.request):
        with pytest.raises(NotFound) as missing:
            database.write(lambda db: look(db, OWNER, run.id))
        assert missing.value.detail == f"no run {run.id}"
    assert database.read(lambda db: runs.list_runs(db, OWNER)).data == []


def test_queue_positions_count_what_is_ahead_in_the_lane(database: Database) -> None:
    made = [queued_run(database) for _ in range(3)]
    positions = database.read(lambda db: backlog.positions(db, made))
    assert [positions[run.id] for run in made] == [0, 1, 2]


def test_history_is_what_was_said_before_the_turn(database: Database) -> None:
    thread = new_thread(database)
    first = queued_run(database, thread, text="one?")
    second = queued_run(database, thread, text="two?")
    claim(database, first)
    settle(database, first, Outcome(RunStatus.SUCCEEDED, "One."))
    history = database.read(lambda db: threads.history(db, second))
    assert history == [("user", "one?"), ("assistant", "One.")]
    assert database.read(lambda db: threads.history(db, first)) == []
