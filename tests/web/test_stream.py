"""What a viewer gets, whatever the live copies do: each event once, in order, from the record if need be."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest
import redis
from scene import OWNER, log_of, new_thread, queued_run, running_run

from longwick import events, runs
from longwick.broadcast import Publisher, encode, run_channel
from longwick.database import Database
from longwick.errors import NotFound
from longwick.events import Batch, Event, EventType
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.passes import Hold
from longwick.seals import find_key, sealed
from web import hub as hub_module
from web import stream as stream_module
from web.hub import VIEWER_BYTES, Hub, Live, Viewer
from web.presence import Presence
from web.stream import HEARTBEAT, EventStream, frames

SECONDS = 60


def in_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an async story, for a bounded time."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await story()

    asyncio.run(bounded())


def write(database: Database, run: Run, *texts: str) -> None:
    new = [Event(EventType.MESSAGE_DELTA, {"message_id": "m", "text": text}) for text in texts]
    database.write(lambda db: events.append(db, run.id, run.attempt, new))


def settle(database: Database, run: Run) -> None:
    database.write(lambda db: runs.settle(db, run.id, run.attempt, Outcome(RunStatus.SUCCEEDED, "x")))


def parse(chunks: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for frame in b"".join(chunks).decode().split("\n\n"):
        lines = [line for line in frame.split("\n") if line and not line.startswith(":")]
        if lines:
            event = json.loads(lines[1].removeprefix("data: "))
            assert lines[0] == f"id: {event['seq']}"
            found.append(event)
    return found


async def read_all(source: AsyncGenerator[bytes]) -> list[dict[str, Any]]:
    return parse([chunk async for chunk in source])


@pytest.mark.parametrize("after", [0, 1, 3, 7])
def test_a_finished_run_is_replayed_from_any_position_and_ends(database: Database, redis_url: str, after: int) -> None:
    run = running_run(database)
    write(database, run, "a", "b")
    write(database, run, "c", "d")
    settle(database, run)

    async def story() -> None:
        async with Hub(redis_url, database) as hub:
            assert await read_all(frames(hub, database, OWNER, run.id, after)) == log_of(database, run)[after:]

    in_loop(story)


def test_what_is_committed_while_a_viewer_watches_reaches_it_live(database: Database, redis_url: str) -> None:
    run = running_run(database)
    with Publisher(redis_url, database) as publisher:
        database.after_commit = publisher.publish

        async def story() -> None:
            async with Hub(redis_url, database) as hub:
                reading = asyncio.create_task(read_all(frames(hub, database, OWNER, run.id, 0)))
                for n in range(200):
                    await asyncio.to_thread(write, database, run, f"{n}")
                await asyncio.to_thread(settle, database, run)
                assert await reading == log_of(database, run)

        in_loop(story)


def test_lost_doubled_and_disordered_copies_change_nothing(database: Database, redis_url: str) -> None:
    run = running_run(database)
    chance = random.Random(7)
    key, channel = database.read(find_key), run_channel(run.id)
    with redis.Redis.from_url(redis_url) as client:
        kept: list[Batch] = []

        def careless(announced: list[Any]) -> None:
            for batch in announced:
                if not isinstance(batch, Batch):
                    continue
                kept.append(batch)
                if chance.random() < 0.3:
                    continue
                for told in [batch, *chance.sample(kept, min(len(kept), chance.choice([0, 0, 3])))]:
                    client.publish(channel, sealed(key, channel, encode(told)))

        database.after_commit = careless

        async def story() -> None:
            async with Hub(redis_url, database) as hub:
                sources = [frames(hub, database, OWNER, run.id, 0) for _ in range(5)]
                readings = [asyncio.create_task(read_all(source)) for source in sources]
                for n in range(150):
                    await asyncio.to_thread(write, database, run, *[f"{n}"] * chance.randint(1, 3))
                await asyncio.to_thread(settle, database, run)
                whole = log_of(database, run)
                for reading in readings:
                    assert await reading == whole

        in_loop(story)


def test_a28_a_forged_live_copy_is_shown_to_nobody(database: Database, redis_url: str) -> None:
    """Whoever can write to Redis knows the channels, the form of the messages, and what was told before."""
    run, other = running_run(database), running_run(database)
    channel, key = run_channel(run.id), database.read(find_key)
    heard: list[bytes] = []

    def tell(announced: list[Any]) -> None:
        for batch in (each for each in announced if isinstance(each, Batch)):
            heard.append(sealed(key, run_channel(batch.run_id), encode(batch)))
            client.publish(run_channel(batch.run_id), heard[-1])

    def lie(first: int, last: int, *, terminal: bool = False) -> bytes:
        line = f'{{"seq":{first},"run_id":"{run.id}","type":"message.delta","data":{{"text":"a lie"}}}}'
        return encode(Batch(run.id, first, last, line, terminal))

    async def story() -> None:
        async with Hub(redis_url, database) as hub:
            reading = asyncio.create_task(read_all(frames(hub, database, OWNER, run.id, 0)))
            for n in range(3, 30):
                await asyncio.to_thread(write, database, other, "elsewhere")
                stolen = heard[-1]
                for forged in [
                    lie(n, n),
                    lie(n, 2**40),
                    lie(n, n, terminal=True),
                    b"0" * 64 + b" " + lie(n, n),
                    sealed(b"", channel, lie(n, n)),
                    stolen,
                    heard[0],
                    b"\xff",
                    b"",
                ]:
                    assert await asyncio.to_thread(client.publish, channel, forged) <= 1
                await asyncio.to_thread(write, database, run, f"{n}")
            await asyncio.to_thread(settle, database, run)
            assert await reading == log_of(database, run)

    with redis.Redis.from_url(redis_url) as client:
        database.after_commit = tell
        in_loop(story)
    assert "a lie" not in str(log_of(database, run))


def test_without_redis_a_stream_follows_the_record(database: Database) -> None:
    run = running_run(database)

    async def story() -> None:
        async with Hub("redis://127.0.0.1:1/0", database) as hub:
            reading = asyncio.create_task(read_all(frames(hub, database, OWNER, run.id, 0)))
            await asyncio.to_thread(write, database, run, "a")
            await asyncio.to_thread(settle, database, run)
            assert await reading == log_of(database, run)

    in_loop(story)


def test_f28_a_subscription_that_was_cut_is_made_again_and_nothing_is_missed(
    database: Database, redis_url: str
) -> None:
    run = running_run(database)
    with Publisher(redis_url, database) as publisher, redis.Redis.from_url(redis_url) as client:
        database.after_commit = publisher.publish

        async def story() -> None:
            async with Hub(redis_url, database) as hub:
                reading = asyncio.create_task(read_all(frames(hub, database, OWNER, run.id, 0)))
                for n in range(60):
                    await asyncio.to_thread(write, database, run, f"{n}")
                    if n % 20 == 10:
                        await asyncio.to_thread(client.client_kill_filter, _type="pubsub")
                await asyncio.to_thread(settle, database, run)
                assert await reading == log_of(database, run)

        in_loop(story)


def test_f43_a_slow_viewers_buffer_is_bounded_and_it_reads_the_record_instead() -> None:
    async def story() -> None:
        viewer = Viewer("run_x", 0)
        viewer.behind = False
        for n in range(1, 100):
            viewer.offer(Live(Batch("run_x", n, n, "x" * 10_000)))
            assert viewer._size <= VIEWER_BYTES + 10_000
        assert viewer.behind

    in_loop(story)


def test_a_batch_too_large_for_pub_sub_comes_from_the_record(database: Database, redis_url: str) -> None:
    run = running_run(database)
    with Publisher(redis_url, database) as publisher:
        database.after_commit = publisher.publish

        async def story() -> None:
            async with Hub(redis_url, database) as hub:
                reading = asyncio.create_task(read_all(frames(hub, database, OWNER, run.id, 0)))
                for _ in range(5):
                    await asyncio.to_thread(write, database, run, *["y" * 9_000] * 10)
                await asyncio.to_thread(settle, database, run)
                assert await reading == log_of(database, run)

        in_loop(story)


def test_a_log_of_many_pages_is_replayed_whole(database: Database, redis_url: str) -> None:
    run = running_run(database)
    for n in range(250):
        write(database, run, f"{n}")
    for _ in range(5):
        write(database, run, *["y" * 9_000] * 10)
    settle(database, run)

    async def story() -> None:
        async with Hub(redis_url, database) as hub:
            assert await read_all(frames(hub, database, OWNER, run.id, 0)) == log_of(database, run)

    in_loop(story)


def test_another_owner_sees_nothing(database: Database, redis_url: str) -> None:
    run = queued_run(database, new_thread(database, "somebody else"))

    async def story() -> None:
        async with Hub(redis_url, database) as hub:
            with pytest.raises(NotFound):
                await read_all(frames(hub, database, OWNER, run.id, 0))

    in_loop(story)


def test_a_silent_stream_sends_heartbeats_without_a_blank_line(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.05)
    run = running_run(database)

    async def story() -> None:
        async with Hub(redis_url, database) as hub:
            source = frames(hub, database, OWNER, run.id, 2)
            assert [await anext(source) for _ in range(3)] == [HEARTBEAT] * 3
            assert not HEARTBEAT.endswith(b"\n\n")
            await source.aclose()

    in_loop(story)


def test_when_the_process_stops_streams_end_at_once(database: Database, redis_url: str) -> None:
    run = running_run(database)

    async def story() -> None:
        async with Hub(redis_url, database) as hub:
            source = frames(hub, database, OWNER, run.id, 0)
            first = await anext(source)
            reading = asyncio.create_task(read_all(source))
            hub.close_soon()
            assert parse([first]) + await reading == log_of(database, run)

    in_loop(story)


def test_f43_a_client_that_takes_nothing_is_let_go(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "SEND_SECONDS", 0.05)
    run = running_run(database)
    started = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            started.set()
            await asyncio.Event().wait()

    async def story() -> None:
        async with Hub(redis_url, database) as hub:
            stream = EventStream(frames(hub, database, OWNER, run.id, 0), Presence(database), Hold())
            await stream({"type": "http"}, receive, send)
            assert started.is_set()
            assert hub._viewers == {}

    in_loop(story)


def test_the_last_viewer_of_a_run_ends_its_subscription(database: Database, redis_url: str) -> None:
    run = running_run(database)

    async def story() -> None:
        async with Hub(redis_url, database) as hub:
            sources = [frames(hub, database, OWNER, run.id, 0) for _ in range(2)]
            for source in sources:
                await anext(source)
            assert len(hub._viewers[run.id]) == 2
            for source in sources:
                await source.aclose()
            assert not hub._viewers
            assert not hub._confirmed

    assert hub_module.CONFIRM_SECONDS <= 0.05
    in_loop(story)
