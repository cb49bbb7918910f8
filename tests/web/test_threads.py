"""Threads and what is in them, as a client sees them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from scene import WORKER, new_thread
from starlette.testclient import TestClient

from longwick import runs
from longwick.database import Database
from longwick.models import RunStatus
from longwick.runs import Outcome

API = "/api/v1"


def ask(client: TestClient, thread_id: str, text: str) -> dict[str, Any]:
    answer = client.post(f"{API}/threads/{thread_id}/runs", json={"input": text})
    assert answer.status_code == 202, answer.text
    run: dict[str, Any] = answer.json()
    return run


def answer(database: Database, run_id: str, text: str, *, partial: bool = False) -> None:
    claimed = database.write(lambda db: runs.claim(db, run_id, WORKER, {}))
    assert claimed is not None
    outcome = Outcome(RunStatus.FAILED if partial else RunStatus.SUCCEEDED, text, partial=partial)
    assert database.write(lambda db: runs.settle(db, run_id, claimed.attempt, outcome))


def said(client: TestClient, thread_id: str, **query: str | int) -> list[tuple[str, str]]:
    page = client.get(f"{API}/threads/{thread_id}/messages", params=query).json()
    return [(message["role"], message["text"]) for message in page["data"]]


def pages(client: TestClient, path: str, limit: int) -> list[list[str]]:
    """The ids on each page of a list, as a client that follows `last_id` gets them."""
    found = []
    after: dict[str, str] = {}
    while True:
        page = client.get(path, params={"limit": limit, **after}).json()
        ids = [item["id"] for item in page["data"]]
        assert (page["object"], page["first_id"], page["last_id"]) == ("list", ids[0], ids[-1])
        found.append(ids)
        if not page["has_more"]:
            return found
        after = {"after": page["last_id"]}


def test_a_thread_is_made_and_can_be_looked_at(client: TestClient) -> None:
    asked = {"title": "Tides", "agent": "demo", "metadata": {"colour": ["sea", 1, None]}}
    made = client.post(f"{API}/threads", json=asked)
    assert made.status_code == 201
    thread = made.json()
    assert thread == {
        **asked,
        "id": thread["id"],
        "created_at": thread["created_at"],
        "updated_at": thread["created_at"],
        "active_run_id": None,
    }
    assert thread["id"].startswith("thr_")
    assert thread["created_at"].endswith("Z")
    assert client.get(made.headers["location"]).json() == thread


def test_a_thread_needs_no_body(client: TestClient) -> None:
    made = client.post(f"{API}/threads")
    assert made.status_code == 201
    assert (made.json()["title"], made.json()["agent"], made.json()["metadata"]) == ("", None, {})


def test_a_thread_is_not_made_for_an_agent_that_there_is_not(client: TestClient) -> None:
    refused = client.post(f"{API}/threads", json={"agent": "nobody"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_agent")
    assert refused.json()["error"]["param"] == "agent"
    assert client.get(f"{API}/threads").json()["data"] == []


def test_threads_are_listed_newest_first_a_page_at_a_time(client: TestClient, database: Database) -> None:
    made = [client.post(f"{API}/threads").json()["id"] for _ in range(5)]
    new_thread(database, owner="other")
    assert pages(client, f"{API}/threads", 2) == [made[:2:-1], made[2:0:-1], made[:1]]
    assert pages(client, f"{API}/threads", 5) == [made[::-1]]


def test_an_empty_list_has_no_cursors(client: TestClient) -> None:
    empty: dict[str, Any] = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert client.get(f"{API}/threads").json() == empty
    assert client.get(f"{API}/runs").json() == empty


def test_a_thread_tells_which_run_it_works_on(client: TestClient, database: Database) -> None:
    thread = client.post(f"{API}/threads").json()
    first, second = ask(client, thread["id"], "one"), ask(client, thread["id"], "two")
    assert client.get(f"{API}/threads/{thread['id']}").json()["active_run_id"] == first["id"]
    answer(database, first["id"], "done")
    assert client.get(f"{API}/threads").json()["data"][0]["active_run_id"] == second["id"]
    answer(database, second["id"], "done")
    assert client.get(f"{API}/threads/{thread['id']}").json()["active_run_id"] is None


def test_messages_stand_in_the_order_of_turns(client: TestClient, database: Database) -> None:
    thread_id = client.post(f"{API}/threads").json()["id"]
    # All is asked before anything is answered: by time alone the answers would come last.
    asked = [ask(client, thread_id, f"question {n}") for n in range(3)]
    for n, run in enumerate(asked):
        answer(database, run["id"], f"answer {n}", partial=n == 1)
    expected = [
        (role, f"{word} {n}") for n in range(3) for role, word in (("user", "question"), ("assistant", "answer"))
    ]
    assert said(client, thread_id) == expected
    messages = client.get(f"{API}/threads/{thread_id}/messages").json()["data"]
    assert [message["partial"] for message in messages] == [False, False, False, True, False, False]
    assert [message["run_id"] for message in messages[::2]] == [run["id"] for run in asked]
    assert [id_ for page in pages(client, f"{API}/threads/{thread_id}/messages", 4) for id_ in page] == [
        message["id"] for message in messages
    ]


def test_a_cursor_of_another_thread_is_refused(client: TestClient) -> None:
    ours, theirs = (client.post(f"{API}/threads").json()["id"] for _ in range(2))
    ask(client, theirs, "hello")
    elsewhere = client.get(f"{API}/threads/{theirs}/messages").json()["last_id"]
    refused = client.get(f"{API}/threads/{ours}/messages", params={"after": elsewhere})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_cursor")


def test_turns_of_one_thread_that_are_posted_at_once_are_all_kept(client: TestClient) -> None:
    thread_id = client.post(f"{API}/threads").json()["id"]
    with ThreadPoolExecutor(20) as pool:
        asked = list(pool.map(lambda n: ask(client, thread_id, f"question {n}"), range(20)))
    assert len({run["id"] for run in asked}) == 20
    assert sorted(said(client, thread_id)) == sorted(("user", run["input"]) for run in asked)


def test_an_untitled_thread_is_named_after_its_first_message(client: TestClient) -> None:
    thread_id = client.post(f"{API}/threads").json()["id"]
    ask(client, thread_id, "What are\nthe tides?")
    ask(client, thread_id, "And the moon?")
    assert client.get(f"{API}/threads/{thread_id}").json()["title"] == "What are the tides?"


@pytest.mark.parametrize("what", ["", "/messages", "/artifacts"])
def test_a_thread_that_is_not_there_is_not_found(client: TestClient, what: str) -> None:
    missing = client.get(f"{API}/threads/thr_{'0' * 26}{what}")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
