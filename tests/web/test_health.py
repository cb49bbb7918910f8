"""Whether the tier lives, and whether it is ready: told within two seconds whatever is frozen."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from documented import Serve
from scene import queued_run
from starlette.testclient import TestClient
from waiting import wait_for

from longwick import leases
from longwick.database import Database
from longwick.leases import Listed
from longwick.settings import Settings
from web.routes import health

WORKER = Listed("wrk_1", "host", 1, {"chat": 1}, {})


class _Lives(http.server.BaseHTTPRequestHandler):
    """An MCP server that says it lives, and can do nothing else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class _Stranger(_Lives):
    """Some other server on that port."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()


@contextlib.contextmanager
def listening(handler: type[_Lives]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/mcp"
        server.shutdown()
        thread.join()


@pytest.fixture
def mcp_url() -> Iterator[str]:
    with listening(_Lives) as url:
        yield url


def test_metrics_are_shown_although_the_record_does_not_answer(
    serve: Serve, settings: Settings, database: Database, frozen_port: int
) -> None:
    queued_run(database)
    client = serve(settings)
    assert client.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    line = 'longwick_runs{kind="chat",status="queued"} 1.0'
    wait_for(lambda: line in client.get("/metrics").text, what=line)
    gone = settings.model_copy(update={"database_url": f"postgresql://longwick@127.0.0.1:{frozen_port}/longwick"})
    shown = serve(gone).get("/metrics")
    assert shown.status_code == 200
    assert "longwick_runs{" not in shown.text
    assert "longwick_events_committed_total" in shown.text


@pytest.fixture
def healthy(settings: Settings, mcp_url: str, serve: Serve, database: Database) -> TestClient:
    """A client where all that is needed is there; the worker beats no more, but for a while that is no matter."""
    database.write(lambda db: leases.list_worker(db, WORKER))
    return serve(settings.model_copy(update={"mcp_url": mcp_url, "lease_seconds": 60}))


def checks(client: TestClient) -> dict[str, str]:
    found: dict[str, str] = client.get("/readyz").json()["checks"]
    return found


def told(client: TestClient, **parts: str) -> httpx2.Response:
    """The first answer that says so of these parts: on a busy machine one that is well may take too long to say it."""

    def look() -> httpx2.Response | None:
        answer = client.get("/readyz")
        found = answer.json()["checks"]
        return answer if all(found[part].startswith(words) for part, words in parts.items()) else None

    return wait_for(look, what=f"/readyz to say {parts}")


def test_it_lives(client: TestClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert client.head("/healthz").status_code == 200


def test_it_is_ready_when_all_that_is_needed_is_there(healthy: TestClient) -> None:
    everything = {"record": "ok", "redis": "ok", "worker": "ok", "mcp": "ok"}
    answer = told(healthy, **everything)
    assert answer.status_code == 200
    # This worker has told of no agent.
    assert answer.json() == {"status": "ok", "checks": everything, "isolation": {"wrk_1": "not told"}}


def test_it_is_degraded_without_a_worker(healthy: TestClient, database: Database) -> None:
    database.write(lambda db: leases.retire_worker(db, WORKER.id))
    answer = told(healthy, record="ok", worker="no worker is alive")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_a_worker_that_was_killed_is_missed_after_its_lease(
    serve: Serve, database: Database, settings: Settings
) -> None:
    client = serve(settings)

    def is_seen() -> bool:
        database.write(lambda db: leases.beat(db, WORKER, []))
        return checks(client)["worker"] == "ok"

    wait_for(is_seen, what="the worker to be seen")
    # Nobody asks meanwhile: the lookout alone has to see that the beat stands still.
    killed_at = time.monotonic()
    wait_for(lambda: time.monotonic() - killed_at > settings.lease_seconds + 1.5, what="the lease to run out")
    told(client, worker="no worker is alive")
    wait_for(is_seen, what="the worker to be seen again")


@pytest.mark.parametrize("port", ["closed_port", "frozen_port"])
def test_it_is_degraded_without_redis_or_the_mcp_server(
    healthy: TestClient, settings: Settings, serve: Serve, request: pytest.FixtureRequest, port: str
) -> None:
    where = f"127.0.0.1:{request.getfixturevalue(port)}"
    gone = {"redis_url": f"redis://{where}/0", "mcp_url": f"http://{where}/mcp", "lease_seconds": 60}
    client = serve(settings.model_copy(update=gone))
    answer = told(client, record="ok", worker="ok", redis="does not answer", mcp="does not answer")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_another_server_in_the_place_of_ours_is_noticed(settings: Settings, serve: Serve) -> None:
    with listening(_Stranger) as url:
        client = serve(settings.model_copy(update={"mcp_url": url}))
        told(client, mcp="does not answer: GET /healthz got 404")


@pytest.mark.parametrize("port", ["closed_port", "frozen_port"])
def test_it_is_unavailable_without_the_record_and_says_so_in_time(
    tmp_path: Path, serve: Serve, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    # What is measured must tell the wait of the check from that for the record, 5 s, on any machine.
    assert health.CHECK_SECONDS < 2
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.1)
    where = f"127.0.0.1:{request.getfixturevalue(port)}"
    client = serve(
        Settings.from_environ(
            {},
            data_dir=tmp_path,
            database_url=f"postgresql://user:hunter2@{where}/gone",
            redis_url=f"redis://{where}/0",
            mcp_url=f"http://{where}/mcp",
        )
    )
    for _ in range(3):
        started = time.monotonic()
        answer = client.get("/readyz")
        assert time.monotonic() - started < 4.5
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert "hunter2" not in answer.text
    assert client.get("/healthz").status_code == 200
