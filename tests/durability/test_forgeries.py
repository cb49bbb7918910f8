"""Somebody else writes to Redis: hints, wishes and tasks that nobody of ours sent."""

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import redis
from stack import Json, Stack, check_whole
from waiting import wait_for

from longwick.broadcast import NEWS_CHANNEL
from longwick.queue import EXECUTE_TASK, celery_app

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"])


class Opens:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_a28_forged_hints_wishes_tasks_and_commands_do_nothing(stack: Stack, tmp_path: Path) -> None:
    over = stack.settled(stack.run("say 1 0"))
    before = stack.log_of(over)
    gate, worker = tmp_path / "gate", stack.find_pid("worker")
    held = stack.run(f"say 1 0; wait {gate}; say 1 0")
    wait_for(lambda: stack.text_of(held), what="a run that goes on meanwhile")
    with redis.Redis.from_url(stack.redis_url) as client, celery_app(stack.redis_url, socket_timeout=5) as app:
        for args in (["run_none"], [over["id"]], [over["id"]], [held["id"]], [], ["a", "b"], [None], ["x" * 100_000]):
            app.send_task(EXECUTE_TASK, args=args, queue="chat", retry=False)
        app.send_task("os.system", args=["true"], queue="chat", retry=False)
        app.send_task(EXECUTE_TASK, args=["run_none"], queue="nobody", retry=False)
        form = json.loads(client.rpop("nobody"))
        opened = tmp_path / "opened"
        pickled = base64.b64encode(pickle.dumps(Opens(opened))).decode()
        changes: list[Json] = [
            {"content-type": "application/x-python-serialize", "body": pickled},
            {"body": "no base64"},
            {"headers": None},
            {"properties": None},
            {"properties": {}},
        ]
        for change in changes:
            client.lpush("chat", json.dumps({**form, **change}))
        for junk in (b"", b"\xff", b"{", b"[]", b"null", b"{}", b"[" * 100_000, b'{"body": 1}'):
            client.lpush("chat", junk)
        for wish in (over["id"].encode(), held["id"].encode(), b"run_none", b"\xff", b""):
            client.publish(NEWS_CHANNEL, wish)
        app.control.revoke(held["id"], terminate=True)
        app.control.pool_shrink(1000)
        app.control.cancel_consumer("chat")
        app.control.broadcast("hello", arguments={"from_node": "forger", "revoked": [held["id"]]})
        app.control.shutdown()
    run = stack.settled(stack.run("say 2 0"))
    gate.touch()
    for each in (run, stack.settled(held)):
        assert each["status"] == "succeeded"
        check_whole(stack.log_of(each))
    assert stack.log_of(over) == before
    assert stack.find_pid("worker") == worker
    assert not opened.exists()
