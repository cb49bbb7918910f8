"""How hints are sent, and when again."""

import pytest
import redis
from scene import list_worker, queued_run, running_run, spawned_run

from longwick import leases
from longwick.broadcast import connect
from longwick.database import Database
from longwick.hints import take_hints
from longwick.kinds import RunKind
from longwick.queue import Dispatcher


def test_hints_reach_the_queue_of_their_lane(database: Database, redis_url: str) -> None:
    list_worker(database)
    chat, background = queued_run(database), queued_run(database, kind=RunKind.BACKGROUND)
    Dispatcher(database, redis_url).dispatch()
    with redis.Redis.from_url(redis_url) as client:
        assert chat.id.encode() in client.lrange("chat", 0, -1)[0]
        assert background.id.encode() in client.lrange("background", 0, -1)[0]
        assert client.llen("chat") == client.llen("background") == 1


def test_when_redis_was_emptied_everything_is_hinted_again(database: Database, redis_url: str) -> None:
    list_worker(database)
    run = queued_run(database)
    dispatcher = Dispatcher(database, redis_url)
    assert [hint.run_id for hint in dispatcher.dispatch()] == [run.id]
    assert dispatcher.dispatch() == []
    with connect(redis_url) as client:
        client.flushall()
    assert [hint.run_id for hint in dispatcher.dispatch()] == [run.id]


def test_a_dispatcher_that_starts_over_sends_what_its_predecessor_only_marked(
    database: Database, redis_url: str
) -> None:
    list_worker(database)
    run = queued_run(database)
    Dispatcher(database, redis_url).dispatch()
    assert [hint.run_id for hint in take_hints(database)] == []
    successor = Dispatcher(database, redis_url)
    successor.start_over()
    assert [[hint.run_id for hint in successor.dispatch()] for _ in range(2)] == [[run.id], []]


def test_a_broker_that_is_down_leaves_the_run_due(database: Database, redis_url: str) -> None:
    list_worker(database)
    run = queued_run(database)
    with pytest.raises(redis.RedisError):
        Dispatcher(database, "redis://127.0.0.1:1/0").dispatch()
    assert [hint.run_id for hint in Dispatcher(database, redis_url).dispatch()] == [run.id]


def test_a_hint_that_could_not_be_sent_is_due_at_once(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_worker(database)
    made = [queued_run(database) for _ in range(3)]
    dispatcher = Dispatcher(database, redis_url)
    sent: list[str] = []

    def send(task: str, *, task_id: str, **options: object) -> None:
        if len(sent) == 1:
            raise OSError("the broker went away")
        sent.append(task_id)

    with monkeypatch.context() as patch:
        patch.setattr(dispatcher._celery, "send_task", send)
        with pytest.raises(OSError, match="went away"):
            dispatcher.dispatch()
    assert sent == [made[0].id]
    assert [hint.run_id for hint in dispatcher.dispatch()] == [run.id for run in made[1:]]


def test_the_end_of_a_run_that_lost_its_worker_is_told_with_the_next_hints(database: Database, redis_url: str) -> None:
    lost, back = spawned_run(database), running_run(database)
    dispatcher = Dispatcher(database, redis_url)
    for held in database.read(leases.all_held):
        ended = leases.recover(database, held, "gone")
        assert ended
        dispatcher.tell_end(ended)
    assert dispatcher.dispatch() == []
    with redis.Redis.from_url(redis_url) as client:
        (message,) = client.lrange("chat", 0, -1)
    assert lost.id.encode() in message
    assert back.id.encode() not in message


def test_a_message_names_the_run_and_nothing_else(database: Database, redis_url: str) -> None:
    list_worker(database)
    queued_run(database, text="a secret question")
    Dispatcher(database, redis_url).dispatch()
    with redis.Redis.from_url(redis_url) as client:
        message = client.lrange("chat", 0, -1)[0]
    import base64
    import json

    assert b"secret" not in message + base64.b64decode(json.loads(message)["body"])
