"""Runs: what is accepted, what is refused, and that accepting waits for nobody."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from documented import Serve
from scene import fresh, new_thread, queued_run, running_run, types_of
from starlette.testclient import TestClient
from waiting import wait_for

from longwick import leases, runs
from longwick.broadcast import NEWS_CHANNEL
from longwick.database import Database
from longwick.kinds import RunKind, RunStatus
from longwick.leases import Listed
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.settings import Settings

API = "/api/v1"


# Seconds that a listed worker, whose beat stands still in these tests, counts as alive on the busiest machine.
PATIENT = 300.0


def list_worker(database: Database, agents: dict[str, Any], name: str = "wrk_1") -> None:
    listed = Listed(name, "host", 1, {"chat": 1}, agents)
    database.write(lambda db: leases.list_worker(db, listed))


def settle(database: Database, run: Run, status: RunStatus = RunStatus.SUCCEEDED, **outcome: Any) -> None:
    assert database.write(lambda db: runs.settle(db, run.id, run.attempt, Outcome(status, **outcome)))


def test_a_run_is_accepted_with_a_thread_of_its_own(client: TestClient, database: Database) -> None:
    answer = client.post(f"{API}/runs", json={"input": "hello", "metadata": {"ticket": 7}})
    assert answer.status_code == 202
    run = answer.json()
    assert run == {
        "id": run["id"],
        "thread_id": run["thread_id"],
        "turn": 1,
        "kind": "chat",
        "status": "queued",
        "agent": "demo",
        "model": None,
        "attempt": 0,
        "last_seq": 1,
        "input": "hello",
        "output_text": None,
        "error": None,
        "usage": None,
        "cost_usd": None,
        "max_cost_usd": None,
        "queue_position": 0,
        "retry_of": None,
        "follows": None,
        "metadata": {"ticket": 7},
        "created_at": run["created_at"],
        "started_at": None,
        "finished_at": None,
        "cancel_requested_at": None,
    }
    assert client.get(answer.headers["location"]).json() == run
    thread = client.get(f"{API}/threads/{run['thread_id']}").json()
    assert (thread["title"], thread["active_run_id"]) == ("hello", run["id"])
    assert types_of(database, database.read(lambda db: runs.get(db, "local", run["id"]))) == ["run.queued"]


def test_everything_that_was_asked_is_in_the_record(client: TestClient, database: Database) -> None:
    asked = {
        "input": "hello",
        "agent": "demo",
        "model": "anthropic/some-model-4.5:extended[1m]",
        "kind": "background",
        "artifact_generation": False,
        "timeout_seconds": 90,
        "idle_timeout_seconds": 0.5,
    }
    run_id = client.post(f"{API}/runs", json=asked).json()["id"]
    run = database.read(lambda db: runs.get(db, "local", run_id))
    assert {name: getattr(run, name) for name in asked} == asked


def test_a_settled_run_tells_what_came_of_it(client: TestClient, database: Database) -> None:
    run = running_run(database)
    settle(
        database, run, RunStatus.FAILED, text="so far", error_code="cli_exit", error_message="It ended.", cost_usd=0.25
    )
    told = client.get(f"{API}/runs/{run.id}").json()
    assert told["status"] == "failed"
    assert told["error"] == {"code": "cli_exit", "message": "It ended."}
    assert (told["output_text"], told["cost_usd"], told["queue_position"]) == ("so far", 0.25, None)
    assert told["started_at"] <= told["finished_at"]


def test_the_agent_is_the_named_one_or_the_threads_or_the_default(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text("".join(f'[agents.{name}]\nadapter = "jsonl"\ncommand = ["cat"]\n' for name in ("one", "two")))
    client = serve(settings.model_copy(update={"agents_file": agents, "default_agent": "two"}))

    def agent(path: str, **asked: str) -> str:
        name: str = client.post(f"{API}{path}", json={"input": "hello", **asked}).json()["agent"]
        return name

    thread_id = client.post(f"{API}/threads", json={"agent": "one"}).json()["id"]
    assert agent(f"/threads/{thread_id}/runs", agent="demo") == "demo"
    assert agent(f"/threads/{thread_id}/runs") == "one"
    assert agent("/runs") == "two"
    # A thread that a run has made goes on with that run's agent.
    run = client.post(f"{API}/runs", json={"input": "hello", "agent": "demo"}).json()
    assert agent(f"/threads/{run['thread_id']}/runs") == "demo"


def test_an_agent_that_nobody_can_run_is_refused_with_the_reason(
    settings: Settings, serve: Serve, database: Database, tmp_path: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text('[agents.absent]\nadapter = "jsonl"\ncommand = ["no-such-program"]\n')
    client = serve(settings.model_copy(update={"agents_file": agents, "lease_seconds": PATIENT}))

    def post() -> tuple[int, str]:
        answer = client.post(f"{API}/runs", json={"input": "hello", "agent": "absent"})
        return answer.status_code, answer.json().get("detail", "")

    status, detail = post()
    assert status == 422
    assert "'no-such-program' is not installed" in detail
    # The workers know better than this host, and one that can is enough.
    list_worker(database, {"absent": {"unavailable": "it is broken here", "concurrency": None}})
    assert "it is broken here" in post()[1]
    list_worker(database, {"absent": {"unavailable": None, "concurrency": None}}, "wrk_2")
    assert post()[0] == 202


def test_agents_are_listed_with_whether_a_worker_can_run_them(
    settings: Settings, serve: Serve, database: Database
) -> None:
    client = serve(settings.model_copy(update={"lease_seconds": PATIENT}))

    def demo() -> tuple[bool, str | None]:
        agent = client.get(f"{API}/agents").json()["data"][0]
        assert agent["id"] == "demo"
        return agent["available"], agent["reason"]

    assert demo() == (True, None)
    list_worker(database, {"demo": {"unavailable": "not here", "concurrency": None}})
    assert demo() == (False, "not here")
    list_worker(database, {}, "wrk_2")
    assert not demo()[0]
    list_worker(database, {"demo": {"unavailable": None, "concurrency": None}}, "wrk_3")
    assert demo() == (True, None)


def test_an_agent_is_isolated_where_each_worker_that_can_run_it_keeps_it_in_a_sandbox(
    settings: Settings, serve: Serve, database: Database
) -> None:
    client = serve(settings.model_copy(update={"lease_seconds": PATIENT}))

    def isolated() -> bool | None:
        told: bool | None = client.get(f"{API}/agents").json()["data"][0]["isolated"]
        return told

    assert isolated() is None
    list_worker(database, {"demo": {"unavailable": "not here", "concurrency": None, "isolation": "none: no kernel"}})
    assert isolated() is None
    list_worker(database, {"demo": {"unavailable": None, "concurrency": None, "isolation": "bwrap"}}, "wrk_2")
    assert isolated() is True
    list_worker(database, {"demo": {"unavailable": None, "concurrency": None, "isolation": "none: no kernel"}}, "wrk_3")
    assert isolated() is False


def test_a_worker_that_died_is_not_counted_on(client: TestClient, settings: Settings, database: Database) -> None:
    now = [0.0]
    client.app.state.agents._lookout._watch._clock = lambda: now[0]  # type: ignore[attr-defined]
    list_worker(database, {"demo": {"unavailable": None, "concurrency": None}})
    list_worker(database, {"demo": {"unavailable": "not here", "concurrency": None}}, "wrk_lives")
    living = Listed("wrk_lives", "host", 1, {}, {})

    def available() -> bool:
        database.write(lambda db: leases.beat(db, living, []))
        agent = client.get(f"{API}/agents").json()["data"][0]
        return bool(agent["available"])

    assert available()
    now[0] += settings.lease_seconds
    assert not available()


def test_fifty_posts_at_once_are_fifty_runs(client: TestClient) -> None:
    def post(n: int) -> str:
        answer = client.post(f"{API}/runs", json={"input": f"question {n}"})
        assert answer.status_code == 202, answer.text
        run_id: str = answer.json()["id"]
        return run_id

    with ThreadPoolExecutor(50) as pool:
        accepted = set(pool.map(post, range(50)))
    assert len(accepted) == 50
    assert {run["id"] for run in client.get(f"{API}/runs").json()["data"]} == accepted


@pytest.mark.parametrize("broker", ["closed_port", "frozen_port"])
def test_a_broker_that_is_down_slows_no_accept(
    settings: Settings, serve: Serve, request: pytest.FixtureRequest, broker: str
) -> None:
    client = serve(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{request.getfixturevalue(broker)}/0"}))
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        assert client.post(f"{API}/runs", json={"input": "hello"}).status_code == 202
        seconds.append(time.monotonic() - started)
    # Whoever waits for the broker waits for half a second, every time.
    assert min(seconds) < 0.25
    assert len(client.get(f"{API}/runs").json()["data"]) == 5


@pytest.mark.usefixtures("patience")
def test_what_was_accepted_is_hinted_at(client: TestClient, database: Database) -> None:
    list_worker(database, {"demo": {"unavailable": None, "concurrency": None}})
    run_id = client.post(f"{API}/runs", json={"input": "hello"}).json()["id"]
    wait_for(lambda: database.read(lambda db: runs.get(db, "local", run_id)).hinted_at, 60, what="a hint")


def test_a_queued_run_is_cancelled_at_once_and_again(client: TestClient, database: Database) -> None:
    run = queued_run(database)
    for _ in range(2):
        answer = client.post(f"{API}/runs/{run.id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert types_of(database, run) == ["run.queued", "run.cancelled"]


@pytest.mark.usefixtures("patience")
def test_the_wish_to_cancel_what_runs_is_noted_and_told(client: TestClient, database: Database, redis_url: str) -> None:
    run = running_run(database)
    with redis.Redis.from_url(redis_url) as connection, connection.pubsub() as ears:
        ears.subscribe(NEWS_CHANNEL)
        wait_for(lambda: ears.get_message(), what="the subscription")
        answer = client.post(f"{API}/runs/{run.id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        assert answer.json()["cancel_requested_at"]
        message = wait_for(lambda: ears.get_message(ignore_subscribe_messages=True), 60, what="the wish")
        assert message["data"] == run.id.encode()
    again = client.post(f"{API}/runs/{run.id}/cancel").json()
    assert again["cancel_requested_at"] == answer.json()["cancel_requested_at"]


def test_a_run_that_is_over_cannot_be_cancelled(client: TestClient, database: Database) -> None:
    run = running_run(database)
    settle(database, run)
    answer = client.post(f"{API}/runs/{run.id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_terminal")
    assert answer.headers["x-should-retry"] == "false"
    assert fresh(database, run).status is RunStatus.SUCCEEDED


def test_runs_are_listed_newest_first_and_by_what_they_are(client: TestClient, database: Database) -> None:
    thread = new_thread(database)
    done = running_run(database, thread)
    settle(database, done)
    waiting = queued_run(database, thread)
    running = running_run(database)
    background = queued_run(database, kind=RunKind.BACKGROUND)

    def listed(query: str) -> list[str]:
        return [run["id"] for run in client.get(f"{API}/runs?{query}").json()["data"]]

    assert listed("") == [background.id, running.id, waiting.id, done.id]
    assert listed("status=running") == [running.id]
    assert listed("status=queued,running&status=succeeded&kind=chat") == [running.id, waiting.id, done.id]
    assert listed("kind=background") == [background.id]
    assert listed(f"thread_id={thread.id}") == [waiting.id, done.id]
    assert listed(f"thread_id=thr_{'0' * 26}") == []
    assert listed("limit=2") == [background.id, running.id]
    assert listed(f"limit=2&after={running.id}") == [waiting.id, done.id]


def test_a_queued_run_tells_how_many_are_before_it(client: TestClient) -> None:
    accepted = [client.post(f"{API}/runs", json={"input": "hello"}).json() for _ in range(3)]
    assert [run["queue_position"] for run in accepted] == [0, 1, 2]
    listed = client.get(f"{API}/runs").json()["data"]
    assert [run["queue_position"] for run in listed] == [2, 1, 0]
