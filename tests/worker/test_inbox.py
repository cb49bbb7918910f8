"""What a worker hears of whoever can write to Redis."""

from queue import Empty
from threading import Event

import pytest
from celery.worker.control import Panel
from flower.inspector import Inspector  # type: ignore[import-untyped] # it ships no types
from kombu import Connection
from kombu.transport import redis

from worker.inbox import hear_hints_alone


def test_a28_of_celerys_commands_those_of_flower_are_known_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    monkeypatch.setattr(redis.Transport, "Channel", redis.Channel)
    assert {"shutdown", "cancel_consumer", "hello"} <= Panel.data.keys()
    hear_hints_alone(lambda: True)
    assert Panel.data.keys() == {*Inspector.inspect_methods, "ping", "enable_events"}


def test_a_worker_that_cannot_reach_the_record_leaves_hints_to_others(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    monkeypatch.setattr(redis.Transport, "Channel", redis.Channel)
    asked, reached = Event(), Event()

    def is_open() -> bool:
        asked.set()
        return reached.is_set()

    hear_hints_alone(is_open)
    with Connection(redis_url) as connection, connection.SimpleQueue("chat", no_ack=True) as hints:
        hints.put("run_a")
        with pytest.raises(Empty):
            hints.get(timeout=0.5)
        assert asked.is_set()
        assert hints.qsize() == 1
        reached.set()
        assert hints.get(timeout=20).payload == "run_a"
