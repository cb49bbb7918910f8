"""What an owner may have and spend: counted where it is true, at a cost that does not grow with what waits."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from scene import NOON, OWNER, fresh, list_worker, new_thread, queued_run, running_run
from sqlalchemy import event, select
from typer.testing import CliRunner, Result

from longwick import (
    artifacts,
    backlog,
    cancellation,
    cli,
    hints,
    leases,
    limits,
    room,
    runs,
    spending,
    submission,
    threads,
    workspaces,
)
from longwick.accounts import OwnerDay
from longwick.artifacts import Save
from longwick.database import Database
from longwick.errors import Invalid, TooMany
from longwick.events import Event, EventType, append
from longwick.hints import take_hints
from longwick.kinds import RunKind, RunStatus
from longwick.leases import Listed
from longwick.limits import Limits
from longwick.models import Lease, Run, Thread
from longwick.outcomes import Outcome
from longwick.runs import NewRun
from longwick.storage import Stored, describe
from longwick.workspaces import Entry, Kind, Manifest

LISTED = Listed("wrk_test", "host", 1, {"chat": 10}, {})
ON_SQLITE = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
NEW = NewRun("hello", "demo")
PARKED = Event(EventType.RUN_WAITING, {"approval": None})


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "record_now", lambda db: NOON)


def claim(database: Database, run: Run, usual: Limits) -> Run | None:
    return database.write(lambda db: limits.capped(db, runs.claim(db, run.id, "wrk_test", {}, usual), usual))


def end(database: Database, run: Run, cost: float | None, usage: dict[str, Any] | None = None) -> None:
    done = Outcome(RunStatus.SUCCEEDED, "Done.", usage=usage, cost_usd=cost)
    assert database.write(lambda db: runs.settle(db, run.id, run.attempt, done))


def give(database: Database, owner: str, **changed: float | None) -> None:
    database.write(lambda db: limits.make_exception(db, owner, changed))


def spent(database: Database, owner: str = OWNER) -> spending.Spent:
    return database.read(lambda db: spending.today(db, owner))


def submit(database: Database, usual: Limits) -> Run:
    return database.write(lambda db: submission.submit(db, OWNER, NEW, usual=usual))


def test_of_many_claims_at_once_as_many_succeed_as_may(database: Database) -> None:
    waiting = [queued_run(database) for _ in range(9)]
    with ThreadPoolExecutor(9) as pool:
        claimed = list(pool.map(lambda run: claim(database, run, Limits(running=3)), waiting))
    assert len([run for run in claimed if run]) == 3
    assert claim(database, queued_run(database, new_thread(database, "another")), Limits(running=3))


def test_a_run_over_the_limit_waits_for_one_to_end(database: Database) -> None:
    list_worker(database)
    usual = Limits(running=1)
    first, second = queued_run(database), queued_run(database)
    assert [hint.run_id for hint in take_hints(database, usual)] == [first.id]
    running = claim(database, first, usual)
    assert running
    # A hint that comes all the same, from whoever knows another limit, is taken back.
    assert [hint.run_id for hint in take_hints(database)] == [second.id]
    assert claim(database, second, usual) is None
    assert fresh(database, second).hinted_at is None
    assert take_hints(database, usual) == []
    end(database, running, None)
    assert [hint.run_id for hint in take_hints(database, usual)] == [second.id]
    assert claim(database, second, usual)


def test_an_exception_holds_for_one_owner(database: Database) -> None:
    give(database, OWNER, running=2, artifacts=0)
    usual = Limits(running=1, queued=5, artifacts=7)
    one, other = (
        database.read(lambda db, owner=owner: limits.of_owner(db, owner, usual))  # type: ignore[misc]
        for owner in (OWNER, "another")
    )
    assert (one, other) == (Limits(running=2, queued=5, artifacts=0), usual)
    give(database, OWNER, running=None, spend_usd_per_day=0.5)
    assert database.read(lambda db: limits.of_owner(db, OWNER, usual)).spend_usd_per_day == 0.5
    assert [exception.owner for exception in database.read(limits.exceptions)] == [OWNER]
    database.write(lambda db: limits.end_exception(db, OWNER))
    assert database.read(lambda db: limits.of_owner(db, OWNER, usual)) == usual


@ON_SQLITE
def test_an_operator_lists_and_changes_the_exceptions(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWICK_DATABASE_URL", str(database.url))

    def longwick(*words: str) -> Result:
        return CliRunner().invoke(cli.app, ["limits", *words])

    assert longwick().stderr == "the settings hold for everybody\n"
    longwick("ada", "running=4", "spend_usd_per_day=2.5", "queued=0")
    longwick("grace", "artifacts=10")
    header, ada, grace = longwick().stdout.splitlines()
    assert header.split() == ["OWNER", *limits.EXCEPTIONAL]
    assert ada.split() == ["ada", "4", "none", "usual", "usual", "2.5"]
    assert grace.split() == ["grace", "usual", "usual", "10", "usual", "usual"]
    assert "the settings hold for grace" in longwick("grace", "artifacts=usual").stderr
    assert longwick("ada", "running=many").exit_code == 2
    assert isinstance(longwick("ada", "walking=1").exception, Invalid)
    assert len(longwick("ada").stdout.splitlines()) == 2


@pytest.mark.parametrize("changed", [{"walking": 1.0}, {"running": -1.0}, {"spend_usd_per_day": float("nan")}])
def test_what_can_be_no_limit_is_refused(database: Database, changed: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        give(database, OWNER, **changed)


def test_what_runs_cost_is_counted_as_they_end_and_with_each_beat(database: Database) -> None:
    ended, at_work = running_run(database), running_run(database)
    running_run(database, new_thread(database, "another"))
    end(database, ended, 0.25, {"input_tokens": 10, "output_tokens": "many", "cache_read_input_tokens": 5})
    assert spent(database) == spending.Spent(0.25, 10, 0)
    held = [(at_work.id, at_work.attempt)]
    database.write(lambda db: leases.beat(db, LISTED, held, {at_work.id: 0.5}))
    assert spent(database) == spending.Spent(0.75, 10, 0)
    # One that knows of no cost changes nothing.
    database.write(lambda db: leases.beat(db, LISTED, held))
    assert spent(database).cost_usd == 0.75
    end(database, at_work, 0.625)
    assert spent(database).cost_usd == 0.875
    assert spent(database, "another") == spending.Spent()


def test_what_an_attempt_cost_counts_once_it_is_over_whatever_becomes_of_its_run(database: Database) -> None:
    run = running_run(database)

    def has_cost(cost: float) -> None:
        database.write(lambda db: leases.beat(db, LISTED, [(run.id, run.attempt)], {run.id: cost}))

    def begin_again() -> None:
        nonlocal run
        again = database.write(lambda db: runs.claim(db, run.id, "wrk_test", {}))
        assert again
        run = again

    has_cost(0.25)
    assert database.write(lambda db: runs.park(db, run.id, run.attempt, RunStatus.QUEUED, [PARKED]))
    assert spent(database) == spending.Spent(0.25)
    begin_again()
    assert spent(database) == spending.Spent(0.25)
    has_cost(0.75)
    assert spent(database) == spending.Spent(0.75)
    assert database.write(lambda db: runs.requeue(db, run.id, run.attempt, "worker_lost"))
    assert spent(database) == spending.Spent(0.75)
    begin_again()
    # This attempt's agent counts from nothing.
    has_cost(0.5)
    assert spent(database) == spending.Spent(0.75)
    assert database.write(lambda db: runs.park(db, run.id, run.attempt, RunStatus.QUEUED, [PARKED]))
    assert spent(database) == spending.Spent(0.75)
    begin_again()
    end(database, run, 1.0, {"input_tokens": 10})
    assert spent(database) == spending.Spent(1.0, 10)
    assert database.read(lambda db: db.scalars(select(OwnerDay)).one()).runs == 1


def test_what_a_run_cost_that_is_cancelled_while_it_is_parked_counts_once(database: Database) -> None:
    run = running_run(database)
    cost = Event(EventType.USAGE_UPDATED, {"cost_usd": 0.5})
    assert database.write(lambda db: append(db, run.id, run.attempt, [cost]))
    database.write(lambda db: leases.beat(db, LISTED, [(run.id, run.attempt)], {run.id: 0.5}))
    assert database.write(lambda db: runs.park(db, run.id, run.attempt, RunStatus.WAITING, [PARKED]))
    assert spent(database) == spending.Spent(0.5)
    assert database.write(lambda db: cancellation.request(db, OWNER, run.id)).cost_usd == 0.5
    assert spent(database) == spending.Spent(0.5)


def test_what_was_spent_yesterday_is_no_matter_today(database: Database) -> None:
    day = OwnerDay(owner=OWNER, day="2026-01-30", runs=1, input_tokens=1, output_tokens=1, cost_usd=9.0)
    database.write(lambda db: db.add(day))
    assert spent(database) == spending.Spent()


def test_once_the_day_is_spent_nothing_more_is_accepted_or_begun(database: Database) -> None:
    list_worker(database)
    usual = Limits(spend_usd_per_day=1)
    running, waiting = running_run(database), queued_run(database)
    end(database, running, 1.0)
    with pytest.raises(TooMany) as refused:
        submit(database, usual)
    assert (refused.value.code, refused.value.retry_after) == ("budget_exceeded", 12 * 3600)
    assert take_hints(database, usual) == []
    assert claim(database, waiting, usual) is None
    assert fresh(database, waiting).status is RunStatus.QUEUED
    give(database, OWNER, spend_usd_per_day=3)
    assert [hint.run_id for hint in take_hints(database, usual)] == [waiting.id]
    claimed = claim(database, waiting, usual)
    assert claimed
    assert claimed.max_cost_usd == 2
    assert fresh(database, waiting).max_cost_usd is None


def test_a_run_is_held_to_what_its_caller_and_its_owner_allow(database: Database) -> None:
    for asked, told in ((None, 4), (3.0, 3), (5.0, 4)):
        claimed = claim(database, queued_run(database, max_cost_usd=asked), Limits(spend_usd_per_day=4))
        assert claimed
        assert claimed.max_cost_usd == told
        end(database, claimed, None)
    unlimited = claim(database, queued_run(database), Limits())
    assert unlimited
    assert unlimited.max_cost_usd is None


def test_the_runs_of_whoever_has_spent_the_day_are_known(database: Database) -> None:
    mine = [running_run(database) for _ in range(2)]
    other = running_run(database, new_thread(database, "another"))
    ids = [run.id for run in (*mine, other)]
    costs: dict[str, float | None] = dict.fromkeys(ids, 0.5)
    database.write(lambda db: leases.beat(db, LISTED, [(run_id, 1) for run_id in ids], costs))
    assert database.read(lambda db: spending.overspent(db, ids, 1)) == {run.id for run in mine}
    give(database, OWNER, spend_usd_per_day=2)
    assert database.read(lambda db: spending.overspent(db, ids, 1)) == set()
    assert database.read(lambda db: spending.overspent(db, ids, 0)) == set()
    assert database.read(lambda db: db.get_one(Lease, other.id)).cost_usd == 0.5


def test_a39_an_owner_may_have_only_so_many_runs_waiting(database: Database) -> None:
    usual = Limits(queued=100)
    for _ in range(100):
        submit(database, usual)
    with pytest.raises(TooMany) as refused:
        submit(database, usual)
    assert (refused.value.code, refused.value.retry_after) == ("too_many_queued", 5)
    give(database, OWNER, queued=101)
    assert submit(database, usual)


def test_a14_what_an_owner_keeps_is_counted_with_the_folders_of_the_threads(database: Database) -> None:
    thread = new_thread(database)
    save = Save("a.txt", "text/plain", describe(b"12345"))
    database.write(lambda db: artifacts.attach(db, OWNER, thread.id, save))
    run = running_run(database, thread)
    for size in (30, 20):
        manifest = Manifest([Entry("b.bin", Kind.FILE, size=size, sha256="0" * 64)])
        new = [describe(manifest.encode())]
        database.write(lambda db: workspaces.keep(db, run, manifest, new))
    assert database.read(lambda db: room.kept(db, OWNER)) == room.Kept(1, 25, 0)
    usual = Limits(artifacts=2, artifact_bytes=30)
    database.read(lambda db: room.check(db, thread.id, 5, usual))
    # What the folder had makes way for what it has now.
    database.read(lambda db: room.check_folder(db, thread.id, 25, usual))
    for check, size in ((room.check, 6), (room.check_folder, 26)):
        with pytest.raises(TooMany) as refused:
            database.read(lambda db: check(db, thread.id, size, usual))
        assert refused.value.code == "quota_exceeded"
    # What is deleted makes room once; it still lies there.
    deleted = new_thread(database)
    large = Save("b.bin", "text/plain", Stored("1" * 64, 33))
    database.write(lambda db: artifacts.attach(db, OWNER, deleted.id, large))
    database.write(lambda db: threads.hide(db, db.get_one(Thread, deleted.id)))
    database.read(lambda db: room.check(db, thread.id, 2, usual))
    with pytest.raises(TooMany, match="33 bytes of deleted threads"):
        database.read(lambda db: room.check(db, thread.id, 3, usual))
    give(database, OWNER, artifacts=1)
    with pytest.raises(TooMany, match="keeps 1 files"):
        database.read(lambda db: room.check(db, thread.id, 0, usual))


def test_places_are_counted_among_ones_own(database: Database) -> None:
    for _ in range(3):
        queued_run(database, new_thread(database, "greedy"))
    mine = [queued_run(database, kind=kind) for kind in (RunKind.CHAT, RunKind.BACKGROUND, RunKind.CHAT)]
    assert database.read(lambda db: backlog.positions(db, mine)) == {mine[0].id: 0, mine[1].id: 0, mine[2].id: 1}


def test_a_place_far_back_is_not_counted_to_its_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [queued_run(database) for _ in range(4)]
    monkeypatch.setattr(backlog, "MOST_COUNTED", 2)
    positions = database.read(lambda db: backlog.positions(db, made))
    assert [positions[run.id] for run in made] == [0, 1, 2, 2]


QUEUED = {"lane": RunKind.CHAT, "owner": OWNER, "first": "run_", "last": "run_z", "most": 10}
BY_INDEX: Sequence[tuple[str, Any, dict[str, Any], str]] = [
    ("count", backlog._COUNT, {"owner": OWNER, "most": 10}, "ix_runs_queued"),
    ("place", backlog._AHEAD, QUEUED, "ix_runs_queued"),
    ("places", backlog._FROM_THERE, QUEUED, "ix_runs_queued"),
    ("owners", hints._WAITING_OWNERS, {"lane": RunKind.CHAT}, "ix_runs_queued"),
    ("line", hints._LINE_OF_OWNER, {**QUEUED, "full": []}, "ix_runs_queued"),
    ("outstanding", hints._OUTSTANDING, {}, "ix_runs_hinted"),
    ("running", limits._COUNT_RUNNING, {"owner": OWNER}, "ix_runs_running"),
    ("spent", spending._AT_WORK, {"owner": OWNER}, "ix_runs_running"),
]


@pytest.mark.parametrize(("name", "asked", "params", "index"), BY_INDEX, ids=[row[0] for row in BY_INDEX])
def test_nobody_goes_through_all_runs_to_count_an_owners(
    database: Database, name: str, asked: Any, params: dict[str, Any], index: str
) -> None:
    """The engine's own word for it: the index that is used, and no table that is read from end to end."""
    seen: list[tuple[str, Any]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: seen.append((told[2], told[3])))
    due = hints._due_when() if name in ("line", "outstanding") else {}
    database.read(lambda db: db.execute(asked, {**params, **due}).all())
    statement, given = seen[-1]
    with database.engine.connect() as connection:
        if not database.sqlite:
            # An empty table is read from end to end, whatever there is.
            connection.exec_driver_sql("SET enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if database.sqlite else "EXPLAIN "
        plan = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, given))
    assert index in plan
    assert not re.search(r"SCAN runs\b(?! USING)|Seq Scan on runs", plan), plan
