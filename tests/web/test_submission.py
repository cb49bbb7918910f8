"""Submitting a run over HTTP: once for each key, as its caller wants to a busy thread, and again once it is over."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from documented import Serve
from scene import OWNER, WORKER, fresh, types_of
from starlette.testclient import TestClient
from waiting import wait_for

from longwick import leases, runs
from longwick.database import Database
from longwick.kinds import OnWorkerLost, RunStatus
from longwick.leases import Listed
from longwick.outcomes import Outcome
from longwick.settings import Settings

API = "/api/v1"
# Seconds that a listed worker, whose beat stands still in these tests, counts as alive on the busiest machine.
PATIENT = {"lease_seconds": 300.0}
ON_SQLITE = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)


def post(client: TestClient, key: str | None = "k", thread_id: str | None = None, **asked: Any) -> httpx2.Response:
    path = f"{API}/threads/{thread_id}/runs" if thread_id else f"{API}/runs"
    headers = {"idempotency-key": key} if key is not None else {}
    return client.post(path, json={"input": "hello", **asked}, headers=headers)


def accepted(client: TestClient, *args: Any, **asked: Any) -> str:
    answer = post(client, *args, **asked)
    assert answer.status_code == 202, answer.text
    run_id: str = answer.json()["id"]
    return run_id


def refusal(answer: httpx2.Response) -> tuple[int, str, str | None]:
    problem = answer.json()
    return answer.status_code, problem["code"], problem["error"]["param"]


def all_runs(client: TestClient) -> Sequence[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{API}/runs").json()["data"]
    return found


def begin(database: Database, run_id: str) -> None:
    assert database.write(lambda db: runs.claim(db, run_id, WORKER, {}))


def settle(database: Database, run_id: str, status: RunStatus = RunStatus.SUCCEEDED) -> None:
    assert database.write(lambda db: runs.settle(db, run_id, 1, Outcome(status, "done")))


@pytest.mark.parametrize("in_thread", [False, True])
def test_f50_any_number_of_equal_posts_at_once_are_one_run(client: TestClient, in_thread: bool) -> None:
    thread_id = client.post(f"{API}/threads").json()["id"] if in_thread else None

    def until_it_is_taken(number: int) -> httpx2.Response:
        # The last in a long row may be asked to come again, as everybody may who has waited for 5 s.
        return wait_for(lambda: answer if (answer := post(client, "k", thread_id)).status_code != 503 else None)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(until_it_is_taken, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    (run,) = all_runs(client)
    assert [answer.json() for answer in answers] == [run] * 20
    assert {answer.headers["location"] for answer in answers} == {f"{API}/runs/{run['id']}"}
    assert len(client.get(f"{API}/threads").json()["data"]) == 1
    assert len(client.get(f"{API}/threads/{run['thread_id']}/messages").json()["data"]) == 1


def test_a_key_sent_again_gets_the_run_as_it_is_now(client: TestClient, database: Database) -> None:
    run_id = accepted(client)
    begin(database, run_id)
    settle(database, run_id)
    again = post(client).json()
    assert (again["id"], again["status"], again["output_text"]) == (run_id, "succeeded", "done")


def test_posts_without_a_key_are_each_a_run(client: TestClient) -> None:
    assert len({accepted(client, None), accepted(client, None), accepted(client, "k")}) == 3


@ON_SQLITE
@pytest.mark.parametrize(
    "same",
    [
        b'{"metadata": {"b": 2, "a": 1}, "input": "hello"}',
        b'{"input":"hello","metadata":{"a":1,"b":2},"kind":"chat","agent":null}',
        b'{"input":"hel\\u006co","metadata":{"a":1,"b":2},"artifact_generation":true,"if_busy":"queue"}',
    ],
)
def test_bodies_that_say_the_same_are_the_same(client: TestClient, same: bytes) -> None:
    run_id = accepted(client, metadata={"a": 1, "b": 2})
    headers = {"idempotency-key": "k", "content-type": "application/json"}
    assert client.post(f"{API}/runs", content=same, headers=headers).json()["id"] == run_id


@pytest.mark.parametrize(
    "other",
    [{"input": "goodbye"}, {"kind": "background"}, {"metadata": {"a": 1}}, {"if_busy": "reject"}, {"max_cost_usd": 1}],
)
def test_a_key_with_another_body_is_refused(client: TestClient, other: dict[str, Any]) -> None:
    accepted(client)
    assert refusal(post(client, **other)) == (422, "idempotency_mismatch", "Idempotency-Key")
    assert len(all_runs(client)) == 1


def test_a_key_for_another_place_is_refused(client: TestClient) -> None:
    ours, theirs = (client.post(f"{API}/threads").json()["id"] for _ in range(2))
    accepted(client, "k", ours)
    for elsewhere in (theirs, None):
        assert refusal(post(client, "k", elsewhere)) == (422, "idempotency_mismatch", "Idempotency-Key")
    assert len(all_runs(client)) == 1


@ON_SQLITE
@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9", "a\tb", "a\x7f"])
def test_what_is_no_key_is_refused(client: TestClient, key: str) -> None:
    headers = {b"idempotency-key": key.encode("latin-1")}
    refused = client.post(f"{API}/runs", json={"input": "hello"}, headers=headers)
    assert refusal(refused) == (422, "invalid_request", "Idempotency-Key")
    assert all_runs(client) == []


@ON_SQLITE
@pytest.mark.parametrize("key", ["x", "x" * 255, 'a b"!~', "8e03978e-40d5-43e8-bc93-6894a57f9324"])
def test_printable_ascii_is_a_key(client: TestClient, key: str) -> None:
    assert accepted(client, key) == accepted(client, key)


def test_a_run_that_was_accepted_is_found_by_its_key_also_when_its_agent_cannot_run_any_more(
    settings: Settings, serve: Serve, database: Database, tmp_path: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text('[agents.fickle]\nadapter = "jsonl"\ncommand = ["cat"]\n')
    client = serve(settings.model_copy(update={"agents_file": agents, **PATIENT}))
    run_id = accepted(client, agent="fickle")
    gone = {"fickle": {"unavailable": "it is broken", "concurrency": None}}
    database.write(lambda db: leases.list_worker(db, Listed("wrk_1", "host", 1, {}, gone)))
    wait_for(lambda: post(client, None, agent="fickle").status_code == 422, what="the agent to be unavailable")
    assert accepted(client, agent="fickle") == run_id


def test_a_key_whose_run_was_deleted_runs_nothing_again(client: TestClient) -> None:
    run_id = accepted(client)
    thread_id = client.get(f"{API}/runs/{run_id}").json()["thread_id"]
    assert client.delete(f"{API}/threads/{thread_id}").status_code == 204
    assert refusal(post(client))[:2] == (409, "deleted")
    assert all_runs(client) == []


def test_a_busy_thread_takes_a_message_for_later_unless_it_is_told_otherwise(
    client: TestClient, database: Database
) -> None:
    first = post(client, None).json()
    begin(database, first["id"])
    thread_id = first["thread_id"]
    assert post(client, None, thread_id).status_code == 202
    assert post(client, None, thread_id, if_busy="queue").status_code == 202
    refused = post(client, None, thread_id, if_busy="reject")
    assert refusal(refused)[:2] == (409, "thread_busy")
    assert first["id"] in refused.json()["detail"]
    assert len(client.get(f"{API}/threads/{thread_id}/messages").json()["data"]) == 3


def test_a_thread_whose_runs_are_over_is_not_busy(client: TestClient, database: Database) -> None:
    first = post(client, None, if_busy="reject").json()
    begin(database, first["id"])
    settle(database, first["id"], RunStatus.FAILED)
    assert post(client, None, first["thread_id"], if_busy="reject").status_code == 202


def test_a_message_that_was_refused_may_be_sent_again_with_its_key(client: TestClient, database: Database) -> None:
    first = post(client, None).json()
    again = {"if_busy": "reject"}
    assert post(client, "k", first["thread_id"], **again).status_code == 409
    begin(database, first["id"])
    settle(database, first["id"])
    second = accepted(client, "k", first["thread_id"], **again)
    # Now the thread is busy with it, which is no reason to refuse it.
    assert accepted(client, "k", first["thread_id"], **again) == second


def test_interrupting_cancels_what_the_thread_has_and_runs_next(client: TestClient, database: Database) -> None:
    running = post(client, None).json()
    thread_id = running["thread_id"]
    waiting = accepted(client, None, thread_id)
    begin(database, running["id"])
    now = accepted(client, None, thread_id, if_busy="interrupt")
    found = {run["id"]: run for run in all_runs(client)}
    assert (found[running["id"]]["status"], found[waiting]["status"]) == ("running", "cancelled")
    assert found[running["id"]]["cancel_requested_at"]
    settle(database, running["id"])
    assert client.get(f"{API}/runs/{running['id']}").json()["status"] == "cancelled"
    begin(database, now)


def test_what_a_run_may_cost_and_whether_it_may_be_started_again_is_in_the_record(
    client: TestClient, database: Database
) -> None:
    run_id = accepted(client, None, max_cost_usd=0.25, on_worker_lost="retry")
    run = database.read(lambda db: runs.get(db, OWNER, run_id))
    assert (run.max_cost_usd, run.on_worker_lost) == (0.25, OnWorkerLost.RETRY)


def test_a_run_that_is_over_is_accepted_again(client: TestClient, database: Database) -> None:
    run_id = accepted(client, None, kind="background", metadata={"ticket": 7}, model="m")
    waiting = client.post(f"{API}/runs/{run_id}/retry")
    assert refusal(waiting)[:2] == (409, "not_terminal")
    begin(database, run_id)
    assert refusal(client.post(f"{API}/runs/{run_id}/retry"))[:2] == (409, "not_terminal")
    settle(database, run_id, RunStatus.FAILED)
    answer = client.post(f"{API}/runs/{run_id}/retry")
    assert answer.status_code == 202
    before, again = client.get(f"{API}/runs/{run_id}").json(), answer.json()
    assert again["id"] != run_id
    same = ("thread_id", "input", "agent", "model", "kind", "metadata")
    assert {name: again[name] for name in same} == {name: before[name] for name in same}
    assert (again["retry_of"], again["status"], before["retry_of"]) == (run_id, "queued", None)
    assert answer.headers["location"] == f"{API}/runs/{again['id']}"
    run = database.read(lambda db: runs.get(db, OWNER, again["id"]))
    assert types_of(database, run) == ["run.queued"]


def test_a_retry_with_a_key_is_accepted_once(client: TestClient, database: Database) -> None:
    run_id, other_id = accepted(client, None), accepted(client, None)
    for each in (run_id, other_id):
        begin(database, each)
        settle(database, each, RunStatus.FAILED)
    key = {"Idempotency-Key": "again"}
    first, second = (client.post(f"{API}/runs/{run_id}/retry", headers=key).json() for _ in range(2))
    assert (first["id"], first["retry_of"]) == (second["id"], run_id)
    other = client.post(f"{API}/runs/{other_id}/retry", headers=key)
    assert refusal(other)[:2] == (422, "idempotency_mismatch")


def test_an_owner_with_as_many_runs_waiting_as_may_is_told_to_come_back(
    settings: Settings, serve: Serve, database: Database
) -> None:
    client = serve(settings.model_copy(update={"queued_per_owner": 2}))
    over = accepted(client, None)
    begin(database, over)
    settle(database, over)
    waiting = [accepted(client, None) for _ in range(2)]
    body = {"input": "hello"}
    thread = client.get(f"{API}/runs/{waiting[0]}").json()["thread_id"]
    for path in ("runs", f"threads/{thread}/runs", f"runs/{over}/retry"):
        answer = client.post(f"{API}/{path}", json=body if not path.endswith("retry") else None)
        assert refusal(answer)[:2] == (429, "too_many_queued")
        assert answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    begin(database, waiting[0])
    assert client.post(f"{API}/runs", json=body).status_code == 202


@pytest.mark.usefixtures("patience")
def test_a_retry_is_hinted_at(client: TestClient, database: Database) -> None:
    database.write(
        lambda db: leases.list_worker(
            db, Listed("wrk_1", "host", 1, {"chat": 4}, {"demo": {"unavailable": None, "concurrency": None}})
        )
    )
    run_id = accepted(client, None)
    begin(database, run_id)
    settle(database, run_id)
    again = client.post(f"{API}/runs/{run_id}/retry").json()
    run = database.read(lambda db: runs.get(db, OWNER, again["id"]))
    wait_for(lambda: fresh(database, run).hinted_at, 60, what="a hint")


def test_a_retry_whose_agent_nobody_can_run_is_refused(settings: Settings, serve: Serve, database: Database) -> None:
    client = serve(settings.model_copy(update=PATIENT))
    run_id = accepted(client, None)
    begin(database, run_id)
    settle(database, run_id)
    gone = {"demo": {"unavailable": "it is broken", "concurrency": None}}
    database.write(lambda db: leases.list_worker(db, Listed("wrk_1", "host", 1, {}, gone)))
    assert refusal(client.post(f"{API}/runs/{run_id}/retry")) == (422, "agent_unavailable", "agent")
