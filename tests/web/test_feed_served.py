"""The feed as `longwick-web` serves it: in time, without Redis, and not a moment longer than its process."""

import signal
import time
import urllib.request
from typing import Any

import pytest
from documented import Serve
from processes import Launch, Process
from scene import queued_run
from served import read_frame, serve_web

from longwick.database import Database
from longwick.settings import Settings

API = "/api/v1"
NO_REDIS = "redis://127.0.0.1:1/0"


def open_feed(url: str) -> Any:
    return urllib.request.urlopen(f"{url}{API}/feed", timeout=20)


def serve_without_redis(launch: Launch, settings: Settings) -> tuple[Process, str]:
    return serve_web(launch, settings, LONGWICK_REDIS_URL=NO_REDIS)


def test_without_redis_it_is_no_later_than_it_may_be(launch: Launch, settings: Settings, database: Database) -> None:
    process, url = serve_without_redis(launch, settings)
    with open_feed(url) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert stream.headers["cache-control"] == "no-store"
        assert read_frame(stream) == {"type": "snapshot", "runs": []}
        late = []
        for _ in range(5):
            run = queued_run(database)
            committed_at = time.monotonic()
            assert read_frame(stream)["run"]["id"] == run.id
            late.append(time.monotonic() - committed_at)
        # The others may wait for this machine; the one that did not is what the feed itself takes.
        assert min(late) < 1.5
    assert "Traceback" not in process.output


def test_a_server_that_stops_ends_its_feeds_at_once(launch: Launch, settings: Settings) -> None:
    process, url = serve_without_redis(launch, settings)
    with open_feed(url) as stream:
        read_frame(stream)
        process.send(signal.SIGTERM)
        assert stream.readline() == b""
    process.wait()
    assert "timeout graceful shutdown exceeded" not in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize("engine_name", ["postgresql"], indirect=True)
def test_a_record_that_does_not_answer_is_told_before_anything_is_sent(settings: Settings, serve: Serve) -> None:
    client = serve(settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"}))
    refused = client.get(f"{API}/feed")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
