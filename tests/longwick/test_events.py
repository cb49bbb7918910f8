"""The two doors of the log, and how it is read."""

import threading

import pytest
from scene import check_log, fresh, log_of, new_thread, queued_run, running_run, types_of

from longwick import events, runs
from longwick.database import Database, Db
from longwick.errors import Fenced
from longwick.events import Append, Event, EventType
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.outcomes import Outcome


def delta(text: str) -> Event:
    return Event(EventType.MESSAGE_DELTA, {"message_id": "m", "text": text})


def test_the_running_attempt_appends_and_positions_are_dense(database: Database) -> None:
    run = running_run(database)
    for text in "abc":
        database.write(lambda db: events.append(db, run.id, run.attempt, [delta(text), delta(text)]))
    log = check_log(database, run)
    assert [event["data"]["text"] for event in log if event["type"] == "message.delta"] == list("aabbcc")


@pytest.mark.parametrize("attempt", [0, 2])
def test_an_attempt_that_is_not_the_runs_appends_nothing(database: Database, attempt: int) -> None:
    run = running_run(database)
    before = log_of(database, run)
    with pytest.raises(Fenced):
        database.write(lambda db: events.append(db, run.id, attempt, [delta("x")]))
    assert log_of(database, run) == before


def test_nothing_follows_the_terminal_event(database: Database) -> None:
    run = running_run(database)
    database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED, "done")))
    with pytest.raises(Fenced):
        database.write(lambda db: events.append(db, run.id, 1, [delta("late")]))
    assert database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.FAILED))) is None
    assert types_of(database, run)[-1] == "run.succeeded"
    check_log(database, run)


def test_in_a_group_a_fenced_run_is_left_out_and_the_others_commit(database: Database) -> None:
    good, other, fenced = (running_run(database) for _ in range(3))
    group = [Append(run.id, 9 if run is fenced else 1, [delta("x").encoded_tail()]) for run in (fenced, other, good)]
    taken = database.write(lambda db: events.append_group(db, group))
    assert set(taken) == {good.id, other.id}
    assert [types_of(database, run)[-1] for run in (good, other, fenced)] == ["message.delta"] * 2 + ["run.started"]


def test_of_many_that_race_for_a_transition_one_wins(database: Database) -> None:
    run = queued_run(database)
    winners: list[Run] = []
    barrier = threading.Barrier(8)

    def claim(worker: str) -> None:
        barrier.wait(30)
        claimed = database.write(lambda db: runs.claim(db, run.id, worker, {}))
        if claimed is not None:
            winners.append(claimed)

    threads = [threading.Thread(target=claim, args=(f"wrk_{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [winner.attempt for winner in winners] == [1]
    assert fresh(database, run).worker_id == winners[0].worker_id
    check_log(database, run)


def test_appends_and_the_end_race_and_the_log_stays_whole(database: Database) -> None:
    run = running_run(database)
    refused = threading.Event()

    def append_until_refused() -> None:
        try:
            for n in range(10_000):
                database.write(lambda db: events.append(db, run.id, 1, [delta(str(n))]))
        except Fenced:
            refused.set()

    thread = threading.Thread(target=append_until_refused)
    thread.start()
    try:
        while fresh(database, run).last_seq < 20:
            pass
        assert database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED, "x"))) is not None
    finally:
        thread.join(20)
    assert refused.is_set()
    check_log(database, run)


def test_reading_starts_right_after_any_position(database: Database) -> None:
    run = running_run(database)
    for size in (1, 5, 2):
        database.write(lambda db: events.append(db, run.id, 1, [delta("x")] * size))
    whole = log_of(database, run)
    for after in range(len(whole) + 2):
        assert log_of(database, run, after) == whole[after:]


def test_a_write_that_is_made_again_is_in_the_log_once(database: Database) -> None:
    run = running_run(database)
    write = Append(run.id, 1, [delta("x").encoded_tail()])
    made = [database.write(lambda db: events.append_again(db, write)) for _ in range(2)]
    assert [batch and (batch.first_seq, batch.last_seq) for batch in made] == [(3, 3), (3, 3)]
    check_log(database, run)


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_a_write_is_not_made_again_while_the_first_may_still_be_committed(database: Database) -> None:
    run = running_run(database)
    write = Append(run.id, 1, [delta("x").encoded_tail()])
    written, commit = threading.Event(), threading.Event()

    def late(db: Db) -> None:
        events.append_group(db, [write])
        written.set()
        commit.wait(30)

    first = threading.Thread(target=lambda: database.write(late))
    first.start()
    assert written.wait(30)
    threading.Timer(0.2, commit.set).start()
    again = database.write(lambda db: events.append_again(db, write))
    first.join()
    assert again is not None
    assert (again.first_seq, again.last_seq) == (3, 3)
    check_log(database, run)


def test_batches_are_announced_after_the_commit_only(database: Database) -> None:
    run = running_run(database)
    told: list[object] = []
    database.after_commit = told.extend

    def fail(db: object) -> None:
        events.append(db, run.id, 1, [delta("x")])  # type: ignore[arg-type] # a Db, whatever it is called here
        raise ValueError

    with pytest.raises(ValueError):
        database.write(fail)
    assert told == []
    database.write(lambda db: events.append(db, run.id, 1, [delta("x")]))
    assert [batch.last_seq for batch in told if isinstance(batch, events.Batch)] == [3]


def test_events_are_ascii_lines_whatever_their_text(database: Database) -> None:
    run = running_run(database)
    text = 'line one\nline two \u2028 é 漢字 🕯 "quoted" \\ /'
    batch = database.write(lambda db: events.append(db, run.id, 1, [delta(text)]))
    assert batch.body.isascii()
    assert "\n" not in batch.body
    assert log_of(database, run)[-1]["data"]["text"] == text


def test_runs_of_a_thread_share_no_positions(database: Database) -> None:
    thread = new_thread(database)
    first, second = queued_run(database, thread), queued_run(database, thread)
    assert [event["seq"] for event in log_of(database, first) + log_of(database, second)] == [1, 1]
