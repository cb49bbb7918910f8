"""Runs that wait, edited: another text, another order; never of what was started, whoever is faster."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest
from scene import OWNER, WORKER, check_log, fresh, log_of, new_thread, queued_run, running_run
from sqlalchemy import text as sql
from waiting import wait_for

from longwick import audit, cancellation, editing, hints, leases, runs, submission, threads
from longwick.database import Database, Db
from longwick.editing import Edit
from longwick.errors import Conflict, Invalid, NotFound
from longwick.kinds import RunStatus
from longwick.leases import Held
from longwick.models import Run, Thread
from longwick.outcomes import Outcome
from longwick.runs import NewRun
from longwick.submission import Once

T = TypeVar("T")


@pytest.fixture
def thread(database: Database) -> Thread:
    return new_thread(database)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def edit(database: Database, run: Run, text: str | None = None, owner: str = OWNER) -> Run:
    return database.write(lambda db: editing.edit(db, owner, run.id, Edit(text)))


def move(database: Database, run: Run, before: Run | None) -> Run:
    wanted = Edit(moves=True, before=before.id if before else None)
    return database.write(lambda db: editing.edit(db, OWNER, run.id, wanted))


def claim(database: Database, run: Run) -> Run | None:
    return database.write(lambda db: runs.claim(db, run.id, WORKER, {}))


def asked(database: Database, thread: Thread) -> list[str]:
    """What was said in a thread, in order."""
    return [message.text for message in database.read(lambda db: threads.list_messages(db, thread.id)).data]


def run_all(database: Database, thread: Thread) -> list[str]:
    """What a worker is asked, one run after the other."""
    ran: list[str] = []
    while waiting := database.read(lambda db: list(runs.unsettled_of(db, thread.id))):
        claimed = [run for run in [claim(database, run) for run in reversed(waiting)] if run]
        assert len(claimed) == 1
        ran.append(claimed[0].input)
        database.write(lambda db, run=claimed[0]: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED)))  # type: ignore[misc]
    return ran


def test_a_text_is_replaced_wherever_it_stands(database: Database, thread: Thread) -> None:
    run = queued_run(database, thread, "teh text")
    edited = edit(database, run, "the text")
    assert (edited.input, edited.turn, edited.status, edited.attempt) == ("the text", 1, RunStatus.QUEUED, 0)
    assert asked(database, thread) == ["the text"]
    log = check_log(database, run)
    assert [(event["type"], event["data"]) for event in log[1:]] == [("run.edited", {"changed": ["input"]})]
    assert audit.audit_run(database, run.id) == (2, [])
    claimed = claim(database, run)
    assert claimed is not None
    assert claimed.input == "the text"


def test_an_edit_that_changes_nothing_tells_nothing(database: Database, thread: Thread) -> None:
    first, last = (queued_run(database, thread, text) for text in "ab")
    assert edit(database, first, "a").last_seq == 1
    assert edit(database, first).last_seq == 1
    assert move(database, first, last).last_seq == 1
    assert move(database, last, None).last_seq == 1


@pytest.mark.parametrize(
    ("moved", "before", "order"),
    [("d", "a", "dabc"), ("a", "c", "bacd"), ("c", "b", "acbd"), ("a", None, "bcda"), ("b", "d", "acbd")],
)
def test_runs_take_their_turns_in_the_new_order(
    moved: str, before: str | None, order: str, database: Database, thread: Thread
) -> None:
    waiting = {text: queued_run(database, thread, text) for text in "axbycd"}
    for text in "xy":
        database.write(lambda db, run=waiting[text]: cancellation.request(db, OWNER, run.id))  # type: ignore[misc]
    edited = move(database, waiting[moved], waiting[before] if before else None)
    assert edited.turn == fresh(database, waiting[moved]).turn
    assert log_of(database, edited)[-1]["data"] == {"changed": ["turn"]}
    said = [text for text in asked(database, thread) if text not in "xy"]
    assert "".join(said) == order
    turns = [fresh(database, waiting[text]).turn for text in order]
    assert turns == [1, 3, 5, 6]
    for run in waiting.values():
        assert audit.audit_run(database, run.id)[1] == []
    assert "".join(run_all(database, thread)) == order


def test_a_new_text_and_a_new_place_are_one_edit(database: Database, thread: Thread) -> None:
    first, last = (queued_run(database, thread, text) for text in "ab")
    wanted = Edit("B", moves=True, before=first.id)
    edited = database.write(lambda db: editing.edit(db, OWNER, last.id, wanted))
    assert (edited.turn, edited.input, edited.last_seq) == (1, "B", 2)
    assert asked(database, thread) == ["B", "a"]
    assert log_of(database, last)[-1]["data"] == {"changed": ["input", "turn"]}


def test_what_comes_later_comes_after_all_of_them(database: Database, thread: Thread) -> None:
    first = queued_run(database, thread, "a")
    queued_run(database, thread, "b")
    move(database, first, None)
    queued_run(database, thread, "c")
    assert run_all(database, thread) == ["b", "a", "c"]


def test_who_is_first_now_is_hinted_at_at_once(database: Database, thread: Thread) -> None:
    first, second = (queued_run(database, thread, text) for text in "ab")
    database.write(lambda db: db.execute(sql("UPDATE runs SET hints = 5, hinted_at = created_at")))
    move(database, second, first)
    assert (fresh(database, first).hints, fresh(database, second).hints) == (0, 0)
    leases_listed = leases.Listed(WORKER, "host", 1, {"chat": 10}, {"demo": {"unavailable": None, "concurrency": None}})
    database.write(lambda db: leases.list_worker(db, leases_listed))
    assert [hint.run_id for hint in hints.take_hints(database)] == [second.id]


def test_the_key_of_a_submission_still_stands_for_what_was_submitted(database: Database) -> None:
    once, new = Once("k", b"teh text"), NewRun("teh text", "demo")
    run = database.write(lambda db: submission.submit(db, OWNER, new, once=once))
    edit(database, run, "the text")
    again = database.write(lambda db: submission.submit(db, OWNER, new, once=once))
    assert (again.id, again.input) == (run.id, "the text")


def end(database: Database, run: Run) -> None:
    claim(database, run)
    database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED)))


def start(database: Database, run: Run) -> None:
    assert claim(database, run)


def start_and_lose(database: Database, run: Run) -> None:
    start(database, run)
    assert leases.recover(database, Held(run.id, 1, WORKER, 0), "test")


def cancel(database: Database, run: Run) -> None:
    database.write(lambda db: cancellation.request(db, OWNER, run.id))


@pytest.mark.parametrize("happens", [start, end, cancel, start_and_lose])
def test_what_was_started_or_is_over_is_not_edited(
    happens: Callable[[Database, Run], None], database: Database, thread: Thread
) -> None:
    run, other = (queued_run(database, thread, text) for text in "ab")
    happens(database, run)
    before = log_of(database, run), asked(database, thread), fresh(database, run).turn, fresh(database, other).turn
    tries: list[Callable[[], Run]] = [
        lambda: edit(database, run, "c"),
        lambda: edit(database, run),
        lambda: move(database, run, None),
        lambda: move(database, run, other),
        lambda: move(database, other, run),
    ]
    for tried in tries:
        with pytest.raises(Conflict) as refused:
            tried()
        assert refused.value.code == "not_queued"
    after = log_of(database, run), asked(database, thread), fresh(database, run).turn, fresh(database, other).turn
    assert after == before


def test_a_run_moves_only_among_its_thread(database: Database, thread: Thread) -> None:
    run, elsewhere = queued_run(database, thread), queued_run(database)
    for before in (elsewhere.id, run.id, "run_nobody", ""):
        wanted = Edit(moves=True, before=before)
        with pytest.raises(Invalid) as refused:
            database.write(lambda db, wanted=wanted: editing.edit(db, OWNER, run.id, wanted))  # type: ignore[misc]
        assert refused.value.param == "before"
    with pytest.raises(NotFound):
        edit(database, run, "mine", owner="another")


# Who is faster


def while_open(
    database: Database, pool: ThreadPoolExecutor, first: Callable[[Db], T], rival: Callable[[], object]
) -> tuple[T, "Future[object]"]:
    """Have a rival come while `first` has done its work and not committed it; the rival waits for that."""
    done, commit = threading.Event(), threading.Event()

    def work(db: Db) -> T:
        result = first(db)
        done.set()
        assert commit.wait(30)
        return result

    opened = pool.submit(database.write, work)
    assert done.wait(30)
    late = pool.submit(rival)
    if not database.sqlite:
        waits = sql(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        wait_for(lambda: database.read(lambda db: db.scalar(waits)), what="the rival to wait")
    commit.set()
    return opened.result(30), late


def test_a_worker_that_is_slower_than_an_edit_takes_no_run_out_of_turn(
    database: Database, thread: Thread, pool: ThreadPoolExecutor
) -> None:
    first, second = (queued_run(database, thread, text) for text in "ab")
    wanted = Edit(moves=True, before=first.id)
    _, late = while_open(
        database, pool, lambda db: editing.edit(db, OWNER, second.id, wanted), lambda: claim(database, first)
    )
    assert late.result(30) is None
    assert run_all(database, thread) == ["b", "a"]


def test_a_worker_that_is_slower_than_an_edit_is_given_the_new_text(
    database: Database, thread: Thread, pool: ThreadPoolExecutor
) -> None:
    run = queued_run(database, thread, "old")
    _, late = while_open(
        database, pool, lambda db: editing.edit(db, OWNER, run.id, Edit("new")), lambda: claim(database, run)
    )
    claimed = late.result(30)
    assert isinstance(claimed, Run)
    assert claimed.input == "new"


def test_an_edit_that_is_slower_than_a_worker_is_refused(
    database: Database, thread: Thread, pool: ThreadPoolExecutor
) -> None:
    first, second = (queued_run(database, thread, text) for text in "ab")
    claimed, late = while_open(
        database, pool, lambda db: runs.claim(db, first.id, WORKER, {}), lambda: move(database, second, first)
    )
    assert claimed is not None
    with pytest.raises(Conflict, match="is running"):
        late.result(30)
    assert (fresh(database, first).turn, fresh(database, second).turn) == (1, 2)


def test_of_two_edits_at_once_both_are_carried_out(
    database: Database, thread: Thread, pool: ThreadPoolExecutor
) -> None:
    waiting = [queued_run(database, thread, text) for text in "abcdef"]
    rivals: list[Future[object]] = [pool.submit(move, database, run, waiting[0]) for run in waiting[1:] * 3]
    rivals.append(pool.submit(cancel, database, waiting[3]))
    for done in rivals:
        assert done.exception(20) is None or isinstance(done.exception(), Conflict)
    left = [text for text in asked(database, thread) if text != "d"]
    assert sorted(left) == list("abcef")
    assert sorted(fresh(database, run).turn for run in waiting) == [1, 2, 3, 4, 5, 6]
    assert run_all(database, thread) == left


def test_a_thread_that_runs_keeps_its_order_whatever_is_moved_meanwhile(
    database: Database, thread: Thread, pool: ThreadPoolExecutor
) -> None:
    running_run(database, thread)
    first, second, third = (queued_run(database, thread, text) for text in "abc")
    move(database, third, first)
    assert claim(database, third) is None
    assert [fresh(database, run).turn for run in (third, first, second)] == [2, 3, 4]
