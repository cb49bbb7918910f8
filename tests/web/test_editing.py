"""Editing a run that waits, over HTTP; what it comes to, and who is faster, is in tests/longwick/test_editing.py."""

from typing import Any

import httpx2
import pytest
from scene import WORKER
from starlette.testclient import TestClient

from longwick import overview, runs
from longwick.database import Database

API = "/api/v1"
NOBODY = f"run_{'0' * 26}"


@pytest.fixture
def queue(client: TestClient) -> list[str]:
    """The ids of three runs of a thread."""
    thread = client.post(f"{API}/threads").json()["id"]
    return [client.post(f"{API}/threads/{thread}/runs", json={"input": text}).json()["id"] for text in "abc"]


def change(client: TestClient, run_id: str, **asked: Any) -> httpx2.Response:
    return client.patch(f"{API}/runs/{run_id}", json=asked)


def asked(client: TestClient, run_id: str) -> list[str]:
    thread = client.get(f"{API}/runs/{run_id}").json()["thread_id"]
    return [message["text"] for message in client.get(f"{API}/threads/{thread}/messages").json()["data"]]


def refusal(answer: httpx2.Response) -> tuple[int, str, str | None]:
    problem = answer.json()
    return answer.status_code, problem["code"], problem["error"]["param"]


def test_a_run_that_waits_is_edited(client: TestClient, queue: list[str]) -> None:
    first, second, third = queue
    answer = change(client, second, input="B\0")
    assert (answer.status_code, answer.json()["input"], answer.json()["turn"]) == (200, "B�", 2)
    assert answer.json() == client.get(f"{API}/runs/{second}").json()
    assert change(client, third, before=first).json()["turn"] == 1
    assert asked(client, first) == ["c", "a", "B�"]
    assert change(client, third, before=None).json()["turn"] == 3
    assert change(client, first, input="A", before=third).json()["input"] == "A"
    assert asked(client, first) == ["B�", "A", "c"]
    before = client.get(f"{API}/runs/{first}").json()
    assert change(client, first).json() == before


def test_an_edit_of_a_thread_is_told_in_its_feed(client: TestClient, queue: list[str], database: Database) -> None:
    seen = database.read(lambda db: overview.glances(db, "local"))
    change(client, queue[0], input="A")
    edited = database.read(lambda db: overview.glances(db, "local"))
    assert {run_id for run_id in seen if seen[run_id] != edited[run_id]} == {queue[0]}
    change(client, queue[2], before=queue[1])
    moved = database.read(lambda db: overview.glances(db, "local"))
    assert {run_id for run_id in seen if edited[run_id] != moved[run_id]} == {queue[1], queue[2]}


def test_one_that_was_started_is_not(client: TestClient, queue: list[str], database: Database) -> None:
    assert database.write(lambda db: runs.claim(db, queue[0], WORKER, {}))
    assert refusal(change(client, queue[0], input="A")) == (409, "not_queued", None)
    assert refusal(change(client, queue[1], before=queue[0])) == (409, "not_queued", None)
    assert asked(client, queue[0]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": "x" * 1_000_001}, "input"),
        ({"before": 5}, "before"),
        ({"before": "the first"}, "before"),
        ({"before": NOBODY}, "before"),
        ({"turn": 1}, "turn"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    client: TestClient, queue: list[str], wanted: dict[str, object], param: str
) -> None:
    status, _, named = refusal(change(client, queue[0], **wanted))
    assert (status, named) == (422, param)
    assert asked(client, queue[0]) == ["a", "b", "c"]


def test_nobodys_run_is_not_found(client: TestClient) -> None:
    for run_id in (NOBODY, "run_1"):
        assert refusal(change(client, run_id, input="x")) == (404, "not_found", None)
