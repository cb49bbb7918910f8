"""The feed: everybody who watches knows how all runs are, whatever was missed, lost or gone."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from scene import OWNER, WORKER, new_thread, queued_run, running_run
from starlette.testclient import TestClient
from watching import Watcher, in_loop, parse

from longwick import artifacts, cancellation, overview, runs, sessions, threads
from longwick.artifacts import Quota, Save
from longwick.database import Database
from longwick.errors import Unavailable
from longwick.kinds import OnWorkerLost, RunStatus
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.storage import describe
from web import feed as feed_module
from web.feed import Feed, Onlooker
from web.hub import VIEWER_BYTES, Hub
from web.stream import HEARTBEAT

API = "/api/v1"
NO_REDIS = "redis://127.0.0.1:1/0"


async def write(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


def settle(database: Database, run: Run, status: RunStatus = RunStatus.SUCCEEDED) -> None:
    assert database.write(lambda db: runs.settle(db, run.id, run.attempt or 1, Outcome(status, "done")))


def claim(database: Database, run: Run) -> None:
    assert database.write(lambda db: runs.claim(db, run.id, WORKER, {}))


def cancel(database: Database, run: Run) -> None:
    database.write(lambda db: cancellation.request(db, OWNER, run.id))


def attach(database: Database, thread_id: str, name: str = "a.txt") -> str:
    wanted = Save(name, "text/plain", describe(b"hello"))
    return database.write(lambda db: artifacts.attach(db, OWNER, thread_id, wanted)).id


def test_it_begins_with_how_all_runs_are_newest_first(client: TestClient, database: Database) -> None:
    done, running = running_run(database), running_run(database)
    settle(database, done)
    queued = queued_run(database, text='Wörter\u2028 und \r\n"mehr"')
    queued_run(database, new_thread(database, "other"))
    listed = client.get(f"{API}/runs").json()["data"]

    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            watcher = Watcher(Feed(hub, database))
            snapshot = await watcher.next()
            assert snapshot == {"type": "snapshot", "runs": listed}
            assert [run["id"] for run in snapshot["runs"]] == [queued.id, running.id, done.id]
            await watcher.leave()

    in_loop(story)


def test_each_change_of_a_run_is_told_with_all_of_it(client: TestClient, database: Database) -> None:
    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            watcher = Watcher(Feed(hub, database))
            assert await watcher.next() == {"type": "snapshot", "runs": []}
            run = await write(lambda: queued_run(database, on_worker_lost=OnWorkerLost.RETRY))
            assert await watcher.next_run() == (run.id, "queued", 0)
            await write(lambda: claim(database, run))
            assert await watcher.next_run() == (run.id, "running", 1)
            await write(lambda: database.write(lambda db: runs.requeue(db, run.id, 1, "test")))
            assert await watcher.next_run() == (run.id, "queued", 1)
            await write(lambda: claim(database, run))
            assert await watcher.next_run() == (run.id, "running", 2)
            await write(lambda: cancel(database, run))
            frame = await watcher.next()
            assert (frame["run"]["status"], frame["run"]["cancel_requested_at"] is None) == ("running", False)
            outcome = Outcome(RunStatus.SUCCEEDED, "late", usage={"output_tokens": 7}, cost_usd=0.5)
            await write(lambda: database.write(lambda db: runs.settle(db, run.id, 2, outcome)))
            frame = await watcher.next()
            assert frame == {"type": "run", "run": client.get(f"{API}/runs/{run.id}").json()}
            assert (frame["run"]["status"], frame["run"]["output_text"]) == ("cancelled", "late")
            await watcher.leave()

    in_loop(story)


def test_a_run_that_comes_and_goes_between_two_looks_is_told(database: Database) -> None:
    def at_once() -> Run:
        run = queued_run(database)
        claim(database, run)
        settle(database, run, RunStatus.FAILED)
        return run

    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            watcher = Watcher(Feed(hub, database))
            await watcher.next()
            made = [await write(at_once) for _ in range(3)]
            told: dict[str, str] = {}
            while [told.get(run.id) for run in made] != ["failed"] * 3:
                run_id, status, _ = await watcher.next_run()
                told[run_id] = status
            await watcher.leave()

    in_loop(story)


def test_new_files_are_told_whoever_they_are_from(client: TestClient, database: Database) -> None:
    run = running_run(database)
    session = database.write(lambda db: sessions.open_session(db, run, 60))
    before = attach(database, run.thread_id, "before.txt")
    theirs = new_thread(database, "other")
    wanted = Save("b.txt", "text/plain", describe(b"hello"))

    def save() -> str:
        return database.write(lambda db: artifacts.save(db, session.id, wanted, Quota(9, 99))).id

    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            watcher = Watcher(Feed(hub, database))
            assert (await watcher.next())["type"] == "snapshot"
            # Whoever was away for less than a minute has missed nothing.
            assert (await watcher.next())["artifact"]["id"] == before
            await write(lambda: database.write(lambda db: artifacts.attach(db, "other", theirs.id, wanted)))
            for make in (lambda: attach(database, run.thread_id), save):
                artifact_id = await write(make)
                artifact = client.get(f"{API}/artifacts/{artifact_id}").json()
                assert await watcher.next() == {"type": "artifact", "artifact": artifact}
            await watcher.leave()

    in_loop(story)


def test_what_is_deleted_is_missing_from_a_new_snapshot(database: Database) -> None:
    kept, running = queued_run(database), running_run(database)
    over = running_run(database)
    settle(database, over)

    def delete(run: Run) -> None:
        database.write(lambda db: threads.hide(db, threads.get(db, OWNER, run.thread_id)))

    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            feed = Feed(hub, database)
            watchers = [Watcher(feed), Watcher(feed)]
            for watcher in watchers:
                assert len((await watcher.next())["runs"]) == 3
            for gone, left in ((running, [over.id, kept.id]), (over, [kept.id])):
                await write(lambda gone=gone: delete(gone))  # type: ignore[misc]
                for watcher in watchers:
                    frame = await watcher.next()
                    assert (frame["type"], [run["id"] for run in frame["runs"]]) == ("snapshot", left)
            for watcher in watchers:
                await watcher.leave()

    in_loop(story)


def test_runs_that_are_over_leave_silently_when_there_are_newer_ones(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "NEWEST", 2)
    over, running = running_run(database), running_run(database)
    settle(database, over)

    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            watcher = Watcher(Feed(hub, database))
            assert [run["id"] for run in (await watcher.next())["runs"]] == [running.id, over.id]
            newer = [await write(lambda: queued_run(database)) for _ in range(3)]
            assert {(await watcher.next_run())[0] for _ in newer} == {run.id for run in newer}
            # One that is not among the newest any more is told of to its end.
            await write(lambda: settle(database, running))
            assert await watcher.next_run() == (running.id, "succeeded", 1)
            await watcher.leave()

    in_loop(story)


def test_who_comes_later_gets_a_snapshot_and_the_others_do_not(database: Database) -> None:
    first = queued_run(database)

    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            feed = Feed(hub, database)
            early = Watcher(feed)
            await early.next()
            second = await write(lambda: queued_run(database))
            assert await early.next_run() == (second.id, "queued", 0)
            late = Watcher(feed)
            assert [run["id"] for run in (await late.next())["runs"]] == [second.id, first.id]
            await write(lambda: claim(database, first))
            for watcher in (early, late):
                assert await watcher.next_run() == (first.id, "running", 1)
                await watcher.leave()

    in_loop(story)


def test_many_who_watch_cost_no_more_looks_than_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    whole = overview.glances

    def counted(*args: Any) -> Any:
        nonlocal looks
        looks += 1
        return whole(*args)

    monkeypatch.setattr(overview, "glances", counted)
    monkeypatch.setattr(feed_module, "LOOK_SECONDS", 0.2)

    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            feed = Feed(hub, database)
            watchers = [Watcher(feed) for _ in range(50)]
            await asyncio.gather(*[watcher.next() for watcher in watchers])
            assert looks <= 3
            run = await write(lambda: queued_run(database))
            told = await asyncio.gather(*[watcher.next_run() for watcher in watchers])
            assert set(told) == {(run.id, "queued", 0)}
            for watcher in watchers:
                await watcher.leave()
            looking = [task for task in asyncio.all_tasks() if task.get_name() == "feed looks"]
            await asyncio.wait_for(asyncio.gather(*looking, return_exceptions=True), 5)

    in_loop(story)


def test_a_slow_onlookers_buffer_is_bounded_and_it_starts_over() -> None:
    async def story() -> None:
        onlooker = Onlooker()
        onlooker.offer(b"too early")
        assert onlooker.take() is None
        onlooker.start_over([b"x" * 2 * VIEWER_BYTES])
        onlooker.offer(b"one")
        assert (onlooker.needs_all, onlooker.take(), onlooker.take()) == (False, b"x" * 2 * VIEWER_BYTES, b"one")
        for _ in range(100):
            onlooker.offer(b"y" * 10_000)
        assert onlooker.needs_all
        assert onlooker.take() is None
        onlooker.start_over([b"all", b"of it"])
        assert not onlooker.needs_all
        assert [onlooker.take() for _ in range(3)] == [b"all", b"of it", None]

    in_loop(story)


def test_a_record_that_is_away_is_waited_for_with_heartbeats(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, away = overview.glances, True

    def sometimes(*args: Any) -> Any:
        if away:
            raise Unavailable("the record does not answer")
        return whole(*args)

    monkeypatch.setattr(overview, "glances", sometimes)
    monkeypatch.setattr(feed_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(feed_module, "HEARTBEAT_SECONDS", 0.05)
    run = queued_run(database)

    async def story() -> None:
        nonlocal away
        async with Hub(NO_REDIS, database) as hub, aclosing(Feed(hub, database).frames(OWNER)) as frames:
            assert [await anext(frames) for _ in range(3)] == [HEARTBEAT] * 3
            away = False
            while (frame := await anext(frames)) == HEARTBEAT:
                pass
            assert [found["id"] for found in parse(frame)["runs"]] == [run.id]
            away = True
            assert await anext(frames) == HEARTBEAT
            await write(lambda: claim(database, run))
            away = False
            while (frame := await anext(frames)) == HEARTBEAT:
                pass
            assert parse(frame)["run"]["status"] == "running"

    in_loop(story)


def test_it_ends_when_the_process_is_told_to_stop(database: Database) -> None:
    async def story() -> None:
        async with Hub(NO_REDIS, database) as hub:
            feed = Feed(hub, database)
            watchers = [Watcher(feed), Watcher(feed)]
            await asyncio.gather(*[watcher.next() for watcher in watchers])
            hub.close_soon()
            for watcher in watchers:
                with pytest.raises(StopAsyncIteration):
                    await watcher.next()

    in_loop(story)
