"""Live copies: what is told, and that nobody ever waits for it."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
import redis
from waiting import wait_for

from longwick.broadcast import INLINE_BYTES, WAITING_BATCHES, Publisher, connect, decode, encode, run_channel
from longwick.database import Database
from longwick.events import Batch
from longwick.seals import find_key, opened

LINE = '{"seq":1,"run_id":"run_x","type":"progress"}'


def batch(first: int, last: int, body: str = LINE, *, terminal: bool = False) -> Batch:
    return Batch("run_x", first, last, body, terminal)


def heard_in(message: bytes, key: bytes) -> Batch:
    return decode("run_x", opened(key, run_channel("run_x"), message))


@pytest.mark.parametrize("terminal", [False, True])
def test_a_batch_is_the_same_at_the_other_end(terminal: bool) -> None:
    told = batch(3, 5, "\n".join([LINE] * 3), terminal=terminal)
    assert decode("run_x", encode(told)) == told


def test_of_a_large_batch_only_the_positions_are_told() -> None:
    told = decode("run_x", encode(batch(3, 5, "x" * (INLINE_BYTES + 1))))
    assert (told.first_seq, told.last_seq, told.body) == (3, 5, "")


@pytest.mark.parametrize("message", [b"", b"1", b"1 2", b"a b c", b"\xff 2 0", b"1 2 3 4"])
def test_what_is_no_batch_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        decode("run_x", message)


def test_a_subscriber_hears_every_batch_in_order(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longwick.broadcast.TIMEOUT_SECONDS", 10.0)
    with (
        redis.Redis.from_url(redis_url) as client,
        client.pubsub(ignore_subscribe_messages=True) as heard,
        Publisher(redis_url, database) as publisher,
    ):
        key = database.read(find_key)
        heard.subscribe(run_channel("run_x"))
        wait_for(lambda: client.pubsub_numsub(run_channel("run_x"))[0][1] == 1, what="the subscription")
        for n in range(1, 501):
            publisher.publish([batch(n, n)])
        for n in range(1, 501):
            message = wait_for(lambda: heard.get_message(timeout=1), what="a batch")
            assert heard_in(message["data"], key).last_seq == n


@contextlib.contextmanager
def frozen_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def test_a_redis_that_is_frozen_holds_nobody_up_and_costs_bounded_memory(database: Database) -> None:
    with frozen_server() as url, Publisher(url, database) as publisher:
        began = time.monotonic()
        for n in range(2 * WAITING_BATCHES):
            publisher.publish([batch(n, n)])
        assert time.monotonic() - began < 20

        def dropped() -> int:
            # What waited may have been let go of, if it waited for a second.
            publisher.publish([batch(1, 1)] * 2 * WAITING_BATCHES)
            return publisher.dropped

        wait_for(lambda: publisher.dropped or dropped(), what="a batch to be dropped")


def test_after_an_outage_new_batches_are_told(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longwick.broadcast.PAUSE_SECONDS", 0.05)
    with (
        redis.Redis.from_url(redis_url) as client,
        client.pubsub(ignore_subscribe_messages=True) as heard,
        Publisher(redis_url, database) as publisher,
    ):
        key = database.read(find_key)
        heard.subscribe(run_channel("run_x"))
        real, publisher._redis = publisher._redis, connect("redis://127.0.0.1:1/0")
        publisher.publish([batch(1, 1)])
        publisher._redis = real

        def told() -> bool:
            publisher.publish([batch(2, 2)])
            message = heard.get_message(timeout=0.05)
            return (
                message is not None
                and decode("run_x", opened(key, run_channel("run_x"), message["data"])).last_seq == 2
            )

        wait_for(told, what="a batch after the outage")
