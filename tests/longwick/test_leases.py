"""Who answers for a run, and what becomes of it when nobody does."""

import pytest
from scene import OWNER, check_log, fresh, log_of, queued_run, running_run, spawned_run, types_of

from longwick import cancellation, events, leases, runs, sessions, threads, transcript
from longwick.database import Database
from longwick.errors import Fenced
from longwick.events import Event, EventType
from longwick.kinds import OnWorkerLost, RunStatus
from longwick.leases import Held, Listed, Watch
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.runs import MOST_ATTEMPTS

LISTED = Listed("wrk_test", "host", 1, {"chat": 2}, {"demo": {"unavailable": None, "concurrency": None}})


def held(database: Database, run: Run) -> Held:
    return next(lease for lease in database.read(leases.all_held) if lease.run_id == run.id)


def beat(database: Database, *runs: tuple[str, int]) -> set[str]:
    return database.write(lambda db: leases.beat(db, LISTED, list(runs)))


def test_f36_a_watch_tells_what_stood_still_for_long_enough() -> None:
    now = 0.0
    watch: Watch[tuple[str, int]] = Watch(lambda: now)
    assert watch.standing_still([("a", 1), ("b", 1)], 8) == []
    now = 5
    assert watch.standing_still([("a", 1), ("b", 2)], 8) == []
    now = 8
    assert watch.standing_still([("a", 1), ("b", 2)], 8) == [("a", 1)]
    now = 13
    assert watch.standing_still([("b", 2)], 8) == [("b", 2)]
    now = 14
    assert watch.standing_still([("a", 1)], 8) == []


def test_a_beat_renews_the_leases_that_are_held_and_no_others(database: Database) -> None:
    mine, other, stale = (running_run(database) for _ in range(3))
    assert beat(database, (mine.id, 1), (stale.id, 7)) == {mine.id}
    assert [held(database, run).beat for run in (mine, other, stale)] == [1, 0, 0]


def test_a_worker_that_was_taken_off_the_list_is_on_it_again_with_its_next_beat(database: Database) -> None:
    database.write(lambda db: leases.list_worker(db, LISTED))
    database.write(lambda db: leases.retire_worker(db, LISTED.id))
    assert database.read(leases.living_workers) == []
    beat(database)
    assert [worker.capacity for worker in database.read(leases.living_workers)] == [{"chat": 2}]


def test_f3_an_attempt_that_never_spawned_is_queued_again(database: Database) -> None:
    run = running_run(database)
    recovered = leases.recover(database, held(database, run), "test")
    assert recovered is not None
    assert recovered.status is RunStatus.QUEUED
    assert types_of(database, run) == ["run.queued", "run.started", "run.attempt_lost"]
    assert database.read(leases.all_held) == []


def test_after_a_few_lost_attempts_the_run_fails(database: Database) -> None:
    run = running_run(database)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        leases.recover(database, held(database, run), "test")
        if attempt < MOST_ATTEMPTS:
            assert database.write(lambda db: runs.claim(db, run.id, "wrk_test", {})) is not None
    assert (fresh(database, run).status, fresh(database, run).error_code) == (RunStatus.FAILED, "lost_too_often")
    check_log(database, run)


def test_a_spawned_attempt_fails_with_all_that_it_showed(database: Database) -> None:
    run = spawned_run(database)
    session = database.write(lambda db: sessions.open_session(db, run, 60))
    shown = [
        Event(EventType.REASONING_DELTA, {"reasoning_id": "r", "text": "Hm."}),
        Event(EventType.MESSAGE_STARTED, {"message_id": "m"}),
        Event(EventType.MESSAGE_DELTA, {"message_id": "m", "text": "Half an "}),
        Event(EventType.MESSAGE_DELTA, {"message_id": "m", "text": "answ"}),
        Event(EventType.TOOL_STARTED, {"tool_call_id": "t", "name": "x", "input": {}}),
        Event(EventType.USAGE_UPDATED, {"output_tokens": 7}),
    ]
    database.write(lambda db: events.append(db, run.id, 1, shown))
    lost = leases.recover(database, held(database, run), "test")
    assert lost is not None
    assert (lost.status, lost.error_code, lost.output_text) == (RunStatus.FAILED, "worker_lost", "Half an answ")
    ends = {event["type"]: event["data"] for event in log_of(database, run)[-5:]}
    assert list(ends) == [
        "reasoning.completed",
        "message.completed",
        "tool.completed",
        "run.attempt_lost",
        "run.failed",
    ]
    assert ends["message.completed"] == {"message_id": "m", "text": "Half an answ", "partial": True}
    assert database.read(lambda db: threads.list_messages(db, run.thread_id)).data[-1].partial
    assert database.read(lambda db: sessions.authenticate(db, session.token)) is None
    with pytest.raises(Fenced):
        database.write(lambda db: events.append(db, run.id, 1, shown))
    check_log(database, run)


def test_a_run_whose_lease_beats_after_all_is_left_alone(database: Database) -> None:
    run = spawned_run(database)
    seen = held(database, run)
    beat(database, (run.id, 1))
    assert leases.recover(database, seen, "test") is None
    assert fresh(database, run).status is RunStatus.RUNNING


def test_a_run_that_writes_while_it_is_recovered_is_left_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = spawned_run(database)
    of_run = transcript.of_run

    def read_then_write(db: object, run_id: str) -> object:
        found = of_run(db, run_id)  # type: ignore[arg-type] # a Db
        progress = [Event(EventType.PROGRESS, {"message": "still here", "fraction": None})]
        database.write(lambda other: events.append(other, run.id, 1, progress))
        return found

    seen = held(database, run)
    with monkeypatch.context() as patch:
        patch.setattr(transcript, "of_run", read_then_write)
        assert leases.recover(database, seen, "test") is None
    assert fresh(database, run).status is RunStatus.RUNNING
    assert held(database, run) == seen


def test_of_two_sweepers_one_recovers(database: Database) -> None:
    run = spawned_run(database)
    seen = held(database, run)
    assert leases.recover(database, seen, "test") is not None
    assert leases.recover(database, seen, "test") is None
    check_log(database, run)


def test_a_lost_run_that_was_to_be_cancelled_is_cancelled(database: Database) -> None:
    run = spawned_run(database)
    database.write(lambda db: cancellation.request(db, OWNER, run.id))
    recovered = leases.recover(database, held(database, run), "test")
    assert recovered is not None
    assert recovered.status is RunStatus.CANCELLED


def test_a_lost_unspawned_run_that_was_to_be_cancelled_is_cancelled(database: Database) -> None:
    run = running_run(database)
    database.write(lambda db: cancellation.request(db, OWNER, run.id))
    recovered = leases.recover(database, held(database, run), "test")
    assert recovered is not None
    assert recovered.status is RunStatus.CANCELLED


def test_wishes_to_cancel_are_read_for_the_runs_asked_about(database: Database) -> None:
    wished, other = running_run(database), running_run(database)
    database.write(lambda db: cancellation.request(db, OWNER, wished.id))
    asked = [wished.id, other.id, queued_run(database).id]
    assert database.read(lambda db: leases.cancel_wishes(db, asked)) == {wished.id}


def show(database: Database, run: Run, attempt: int, text: str) -> None:
    """Have an attempt stream some text."""
    block = f"blk_{attempt}_1"
    shown = [
        Event(EventType.MESSAGE_STARTED, {"message_id": block}),
        Event(EventType.MESSAGE_DELTA, {"message_id": block, "text": text}),
        Event(EventType.USAGE_UPDATED, {"output_tokens": attempt, "cost_usd": 0.5}),
    ]
    database.write(lambda db: events.append(db, run.id, attempt, shown))


def begin_again(database: Database, run: Run) -> Run:
    claimed = database.write(lambda db: runs.claim(db, run.id, "wrk_test", {}))
    assert claimed is not None
    return claimed


def test_a_run_that_may_be_started_again_goes_back_to_the_queue_with_what_it_showed(database: Database) -> None:
    run = spawned_run(database, on_worker_lost=OnWorkerLost.RETRY)
    show(database, run, 1, "Half")
    again = leases.recover(database, held(database, run), "test")
    assert again is not None
    assert (again.status, again.attempt, again.output_text) == (RunStatus.QUEUED, 1, None)
    assert types_of(database, run)[-2:] == ["message.completed", "run.attempt_lost"]
    check_log(database, run)


def test_lost_for_the_third_time_it_fails_with_all_that_was_shown(database: Database) -> None:
    run = spawned_run(database, on_worker_lost=OnWorkerLost.RETRY)
    for attempt, text in enumerate(("One ", "two ", "three"), 1):
        show(database, run, attempt, text)
        lost = leases.recover(database, held(database, run), "test")
        if attempt < MOST_ATTEMPTS:
            claimed = begin_again(database, run)
            database.write(lambda db, claimed=claimed: runs.mark_spawned(db, claimed))  # type: ignore[misc]
    assert lost is not None
    assert (lost.error_code, lost.output_text) == ("worker_lost", "One two three")
    assert (lost.usage, lost.cost_usd) == ({"output_tokens": 3}, 0.5)
    check_log(database, run)


def test_lost_before_it_could_start_again_it_keeps_what_was_shown(database: Database) -> None:
    run = spawned_run(database, on_worker_lost=OnWorkerLost.RETRY)
    show(database, run, 1, "Half")
    for _ in range(MOST_ATTEMPTS - 1):
        leases.recover(database, held(database, run), "test")
        begin_again(database, run)
    lost = leases.recover(database, held(database, run), "test")
    assert lost is not None
    assert (lost.error_code, lost.output_text) == ("lost_too_often", "Half")
    said = database.read(lambda db: threads.list_messages(db, run.thread_id)).data[-1]
    assert (said.text, said.partial) == ("Half", True)


def test_an_attempt_that_fails_before_it_begins_keeps_what_earlier_ones_showed(database: Database) -> None:
    run = spawned_run(database, on_worker_lost=OnWorkerLost.RETRY)
    show(database, run, 1, "Half")
    leases.recover(database, held(database, run), "test")
    begin_again(database, run)
    unavailable = Outcome(RunStatus.FAILED, error_code="agent_unavailable", error_message="It cannot run here.")
    ended = database.write(lambda db: runs.settle(db, run.id, 2, unavailable))
    assert ended is not None
    assert (ended.error_code, ended.output_text, ended.cost_usd) == ("agent_unavailable", "Half", 0.5)
