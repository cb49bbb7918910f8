"""The keeper of leases: renews what lives, hears wishes, and lets go in time."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from depths import FRAMES_DO_NOT_SUFFICE, deepen
from processes import Launch
from scene import OWNER, fresh, spawned_run
from waiting import wait_for

from longwick import cancellation, leases, runs
from longwick.broadcast import Publisher
from longwick.database import Database
from longwick.errors import Unavailable
from longwick.kinds import RunStatus
from longwick.leases import Listed
from longwick.models import Run
from longwick.news import News
from longwick.outcomes import Outcome
from longwick.queue import Dispatcher
from longwick.settings import Settings
from worker.keeper import Hold, Keeper, Stop
from worker.sweeper import Sweeper, proof_of_life
from worker.workspace import remove

LISTED = Listed("wrk_test", "host", 1, {"chat": 2}, {})


@pytest.fixture
def keeper(settings: Settings, database: Database) -> Iterator[Keeper]:
    with Keeper(settings, database, LISTED) as keeper:
        yield keeper


_holds: list[Hold] = []


@pytest.fixture(autouse=True)
def holds_are_closed() -> Iterator[None]:
    yield
    while _holds:
        _holds.pop().close()


def hold(keeper: Keeper, run: Run) -> Hold:
    _holds.append(keeper.hold(run.id, run.attempt, time.monotonic()))
    return _holds[-1]


def beat_of(database: Database, run: Run) -> int:
    return next((held.beat for held in database.read(leases.all_held) if held.run_id == run.id), -1)


def test_a_run_that_ticks_is_renewed_and_one_that_is_stuck_is_not(keeper: Keeper, database: Database) -> None:
    alive, stuck = spawned_run(database), spawned_run(database)
    ticking = hold(keeper, alive)
    hold(keeper, stuck)

    def renewed() -> bool:
        ticking.tick()
        return beat_of(database, alive) > beat_of(database, stuck) + 3

    wait_for(renewed, what="the run that ticks to be ahead")


def test_f40_a_run_that_is_stuck_is_killed_before_its_lease_is_over(settings: Settings, database: Database) -> None:
    long = settings.model_copy(update={"lease_seconds": 60.0})
    run = spawned_run(database)
    with Keeper(long, database, LISTED) as keeper:
        began = time.monotonic()
        held = keeper.hold(run.id, run.attempt, began)
        _holds.append(held)
        killed_at: list[float] = []
        held.kill = lambda: killed_at.append(time.monotonic())
        # The claim is its first sign of life, and the last one.
        wait_for(lambda: held.renewed_at > began, what="the only beat")
        held.renewed_at = time.monotonic() - 46
        wait_for(lambda: killed_at, what="the kill")
        assert killed_at[0] - held.renewed_at < long.lease_seconds
        assert held.stop is Stop.FENCED


def test_f39_when_the_record_is_away_the_worker_fences_itself(
    keeper: Keeper, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(keeper, spawned_run(database))
    killed = threading.Event()
    held.kill = killed.set

    def away(*args: Any, **kwargs: Any) -> Any:
        held.tick()
        raise Unavailable("the record does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(database, "write", away)
        assert killed.wait(30)
        wait_for(lambda: held.stop is Stop.FENCED, what="the hold to be fenced")


def test_a_run_that_was_taken_away_is_fenced_with_the_next_beat(keeper: Keeper, database: Database) -> None:
    run = spawned_run(database)
    held = hold(keeper, run)
    (seen,) = database.read(leases.all_held)

    def taken() -> bool:
        held.tick()
        return leases.recover(database, database.read(leases.all_held)[0], "test") is not None

    wait_for(taken, what="the run to be taken")
    assert seen.run_id == run.id

    def fenced() -> bool:
        held.tick()
        return held.stop is Stop.FENCED

    wait_for(fenced, what="the hold to be fenced")


def test_a_wish_to_cancel_is_heard_over_redis_long_before_the_next_beat(settings: Settings, database: Database) -> None:
    slow = settings.model_copy(update={"beat_seconds": 60.0, "lease_seconds": 600.0})
    run = spawned_run(database)
    with Keeper(slow, database, LISTED) as keeper, Publisher(settings.redis, database) as publisher:
        held = hold(keeper, run)
        database.write(lambda db: cancellation.request(db, OWNER, run.id))

        def heard() -> bool:
            publisher.publish([News(run.id)])
            return held.stop is Stop.CANCELLED

        wait_for(heard, what="the wish")


def test_a_wish_to_cancel_is_read_with_the_beat_when_redis_is_gone(settings: Settings, database: Database) -> None:
    alone = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0", "lease_seconds": 600.0})
    run = spawned_run(database)
    with Keeper(alone, database, LISTED) as keeper:
        held = hold(keeper, run)
        database.write(lambda db: cancellation.request(db, OWNER, run.id))
        wait_for(lambda: held.stop is Stop.CANCELLED, what="the wish")


def test_a_weightier_reason_to_stop_replaces_a_lighter_one_and_never_the_other_way() -> None:
    held = Hold("run_x", 1, time.monotonic())
    for why, then in (
        (Stop.WORKER_SHUTDOWN, Stop.WORKER_SHUTDOWN),
        (Stop.CANCELLED, Stop.WORKER_SHUTDOWN),
        (Stop.FENCED, Stop.FENCED),
        (Stop.WORKER_SHUTDOWN, Stop.FENCED),
    ):
        held.ask_to_stop(why)
        assert held.stop is then
    held.close()
    held.ask_to_stop(Stop.FENCED)


def test_a_silent_workers_runs_are_ended_and_it_is_taken_off_the_list(
    settings: Settings, database: Database, redis_url: str
) -> None:
    run = spawned_run(database, worker="wrk_gone")
    database.write(lambda db: leases.list_worker(db, Listed("wrk_gone", "host", 1, {}, {})))
    with (
        Dispatcher(database, redis_url) as dispatcher,
        Sweeper(settings, database, dispatcher),
    ):
        wait_for(lambda: fresh(database, run).status is RunStatus.FAILED, what="the run to be ended")
        wait_for(lambda: not database.read(leases.living_workers), what="the worker to be off the list")
    assert fresh(database, run).error_code == "worker_lost"


def test_a_run_that_cannot_be_taken_yet_keeps_no_other_from_being_taken(
    settings: Settings, database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (spawned_run(database, worker="wrk_gone") for _ in range(2))
    whole = leases.recover
    barred = [first.id]

    def recover(record: Database, held: leases.Held, reason: str) -> Run | None:
        if held.run_id in barred:
            raise Unavailable("somebody has it locked")
        return whole(record, held, reason)

    monkeypatch.setattr(leases, "recover", recover)
    with Dispatcher(database, redis_url) as dispatcher, Sweeper(settings, database, dispatcher):
        wait_for(lambda: fresh(database, second).status is RunStatus.FAILED, what="the other to be ended")
        assert fresh(database, first).status is RunStatus.RUNNING
        barred.clear()
        wait_for(lambda: fresh(database, first).status is RunStatus.FAILED, what="the first to be ended")


def test_a_worker_that_starts_recovers_the_runs_of_a_dead_one_on_its_host_at_once(
    settings: Settings, database: Database
) -> None:
    folder = settings.data_dir / "workers"
    folder.mkdir(parents=True)
    (folder / "wrk_dead.lock").touch()
    spawned = spawned_run(database, worker="wrk_dead")
    other = spawned_run(database, worker="wrk_elsewhere")
    with proof_of_life(settings, database, "wrk_new"):
        assert fresh(database, spawned).error_code == "worker_lost"
        assert fresh(database, other).status is RunStatus.RUNNING
        assert [path.name for path in folder.iterdir()] == ["wrk_new.lock"]
    assert list(folder.iterdir()) == []


def test_a_worker_that_starts_ends_and_removes_what_lost_attempts_have_left(
    settings: Settings, database: Database, launch: Launch
) -> None:
    over, running = spawned_run(database), spawned_run(database)
    database.write(lambda db: runs.settle(db, over.id, 1, Outcome(RunStatus.FAILED, error_code="worker_lost")))
    folders = [settings.data_dir / "workspaces" / f"{run.id}-1" for run in (over, running)]
    for folder in folders:
        (folder / "work").mkdir(parents=True)
        deepen(folder / "work", FRAMES_DO_NOT_SUFFICE)
    stray = launch(["sleep", "60"], env={"LONGWICK_RUN_ID": over.id})
    started = psutil.Process(stray.pid)
    # A program that is about to become another one has no environment for a moment.
    wait_for(
        lambda: started.name() == "sleep" and started.environ().get("LONGWICK_RUN_ID"), what="the stray to be there"
    )
    with proof_of_life(settings, database, "wrk_new"):
        # Killed and buried by who found it; that it was a child of this process is the test's doing.
        stray.wait(30)
        assert [folder.exists() for folder in folders] == [False, True]
    remove(folders[1])


def test_a_worker_that_starts_leaves_the_runs_of_a_living_one_alone(settings: Settings, database: Database) -> None:
    run = spawned_run(database, worker="wrk_old")
    with proof_of_life(settings, database, "wrk_old"), proof_of_life(settings, database, "wrk_new"):
        assert fresh(database, run).status is RunStatus.RUNNING
