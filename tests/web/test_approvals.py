"""What agents ask leave for, and what is said to them while they work, over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from documented import Serve
from scene import fresh, queued_run, spawned_run, types_of
from starlette.testclient import TestClient
from waiting import wait_for

from longwick import approvals, steering
from longwick.database import Database
from longwick.kinds import RunStatus
from longwick.models import Approval, Run
from longwick.settings import Settings
from longwick.steering import Input

API = "/api/v1"


def ask(database: Database, run: Run, command: str = "ls") -> Approval:
    return database.write(lambda db: approvals.request(db, run, "Bash", {"command": command}, 60))


def decide(client: TestClient, approval: Approval, **verdict: Any) -> httpx2.Response:
    return client.post(f"{API}/approvals/{approval.id}", json=verdict)


def listed(client: TestClient, **query: Any) -> list[str]:
    answer = client.get(f"{API}/approvals", params=query)
    assert answer.status_code == 200, answer.text
    return [approval["id"] for approval in answer.json()["data"]]


def test_what_is_asked_is_listed_by_status_newest_first_in_pages(client: TestClient, database: Database) -> None:
    run = spawned_run(database)
    first, second, third = (ask(database, run, command) for command in ("a", "b", "c"))
    assert listed(client) == listed(client, status="pending") == [third.id, second.id, first.id]
    assert decide(client, second, decision="allow").json()["status"] == "allowed"
    assert decide(client, third, decision="deny").json()["status"] == "denied"
    assert listed(client, status="pending") == [first.id]
    assert listed(client, status="allowed,denied") == [third.id, second.id]
    assert listed(client, limit=1) == [third.id]
    assert listed(client, limit=1, after=third.id) == [second.id]
    assert client.get(f"{API}/approvals", params={"status": "maybe"}).status_code == 422


def test_what_is_decided_says_so_to_whoever_decides_again(client: TestClient, database: Database) -> None:
    run = spawned_run(database)
    asked = ask(database, run)
    denied = decide(client, asked, decision="deny", message="Not here.").json()
    assert (denied["status"], denied["message"]) == ("denied", "Not here.")
    assert denied["decided_at"]
    again = decide(client, asked, decision="allow")
    assert (again.status_code, again.json()["code"]) == (409, "already_decided")
    assert "denied already" in again.json()["detail"]
    assert types_of(database, run)[-2:] == ["approval.requested", "approval.resolved"]


def test_of_many_who_decide_at_once_one_does(client: TestClient, database: Database) -> None:
    asked = ask(database, spawned_run(database))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: decide(client, asked, decision=("allow", "deny")[n % 2]), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]


@pytest.mark.parametrize(
    "verdict",
    [
        {},
        {"decision": "maybe"},
        {"decision": True},
        {"decision": "allow", "surprise": 1},
        {"decision": "deny", "message": 5},
    ],
    ids=str,
)
def test_what_is_no_decision_is_refused_and_decides_nothing(
    client: TestClient, database: Database, verdict: dict[str, Any]
) -> None:
    asked = ask(database, spawned_run(database))
    assert decide(client, asked, **verdict).status_code == 422
    assert listed(client, status="pending") == [asked.id]


def test_an_approval_that_is_not_there_is_not_found(client: TestClient) -> None:
    assert client.post(f"{API}/approvals/apr_{'0' * 26}", json={"decision": "allow"}).status_code == 404


def test_a_parked_run_is_queued_by_the_decision(client: TestClient, database: Database) -> None:
    run = spawned_run(database)
    asked = ask(database, run)
    database.write(lambda db: approvals.park(db, run.id, run.attempt, []))
    assert client.get(f"{API}/runs/{run.id}").json()["status"] == "waiting"
    assert decide(client, asked, decision="allow").status_code == 200
    assert fresh(database, run).status is RunStatus.QUEUED


# What is said to a run at work


@pytest.fixture
def steered(settings: Settings, serve: Serve, tmp_path: Path) -> TestClient:
    """A client of an application that has an agent to which more can be said."""
    agents = tmp_path / "agents.toml"
    agents.write_text('[agents.listener]\nadapter = "jsonl"\ncommand = ["sh"]\nsteer = true\n')
    return serve(settings.model_copy(update={"agents_file": agents}))


def say(client: TestClient, run: Run, **body: Any) -> httpx2.Response:
    return client.post(f"{API}/runs/{run.id}/input", json=body)


def waiting(database: Database, run: Run) -> list[Input]:
    return database.read(lambda db: steering.undelivered(db, run.id))


def deliver(database: Database, run: Run, given: Input) -> None:
    database.write(lambda db: steering.deliver(db, fresh(database, run), given))


def test_whether_the_agent_has_it_already_is_said(
    steered: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = spawned_run(database, agent="listener")
    answer = say(steered, run, input="Later.")
    assert (answer.status_code, answer.json()["delivered"]) == (202, False)
    monkeypatch.setattr("web.routes.runs.DELIVERY_SECONDS", 60)
    with ThreadPoolExecutor(1) as pool:
        telling = pool.submit(say, steered, run, input="Now.")
        wait_for(lambda: len(waiting(database, run)) == 2, what="both")
        later, now = waiting(database, run)
        deliver(database, run, later)
        deliver(database, run, now)
        told = telling.result(70)
    assert told.json() == {"delivered": True, "message_id": now.message_id}
    assert (later.text, now.text) == ("Later.", "Now.")


def test_what_cannot_be_told_more_says_so(steered: TestClient, database: Database) -> None:
    deaf, queued = spawned_run(database, agent="demo"), queued_run(database, agent="listener")
    for run in (deaf, queued):
        answer = say(steered, run, input="More.")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_steerable")
    assert say(steered, deaf).status_code == 422
    assert say(steered, deaf, input="").status_code == 422


@pytest.mark.parametrize(("agent", "same"), [("listener", True), ("demo", False)])
def test_a_message_for_a_busy_thread_steers_or_waits(
    steered: TestClient, database: Database, agent: str, same: bool
) -> None:
    run = spawned_run(database, agent=agent)
    body = {"input": "More.", "agent": agent, "if_busy": "steer"}
    answer = steered.post(f"{API}/threads/{run.thread_id}/runs", json=body)
    assert answer.status_code == 202
    assert (answer.json()["id"] == run.id) is same
    assert bool(waiting(database, run)) is same
