"""Threads and what is in them, as a client sees them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from scene import WORKER, new_thread
from starlette.testclient import TestClient

from longwick import runs, sessions, threads
from longwick.database import Database, Db
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.settings import Settings

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
        "unread": False,
        "excerpt": None,
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


def test_a_thread_gets_another_title_and_other_metadata(client: TestClient) -> None:
    thread = client.post(f"{API}/threads", json={"title": "Tides", "metadata": {"a": 1, "b": 2}}).json()
    path = f"{API}/threads/{thread['id']}"
    changed = client.patch(path, json={"title": "Moon"}).json()
    assert (changed["title"], changed["metadata"]) == ("Moon", {"a": 1, "b": 2})
    assert changed["updated_at"] >= thread["updated_at"]
    changed = client.patch(path, json={"metadata": {"c": 3}}).json()
    assert (changed["title"], changed["metadata"]) == ("Moon", {"c": 3})
    assert client.patch(path, json={}).json()["title"] == "Moon"
    assert client.get(path).json()["metadata"] == {"c": 3}


def test_a_thread_that_loses_its_title_is_named_after_its_next_message(client: TestClient) -> None:
    thread_id = client.post(f"{API}/threads", json={"title": "Tides"}).json()["id"]
    assert client.patch(f"{API}/threads/{thread_id}", json={"title": ""}).json()["title"] == ""
    run = ask(client, thread_id, "What of the moon?")
    found = client.get(f"{API}/threads/{thread_id}").json()
    assert (found["title"], found["active_run_id"]) == ("What of the moon?", run["id"])
    assert client.patch(f"{API}/threads/{thread_id}", json={}).json()["active_run_id"] == run["id"]


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"title": None}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": 5}, "title"),
        ({"metadata": None}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": "x" * 16_384}}, "metadata"),
        ({"agent": "demo"}, "agent"),
        ({"id": "x"}, "id"),
        ([], None),
    ],
)
def test_a_change_that_cannot_be_is_refused(client: TestClient, body: Any, param: str | None) -> None:
    thread_id = client.post(f"{API}/threads").json()["id"]
    refused = client.patch(f"{API}/threads/{thread_id}", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert refused.json()["error"]["param"] == param


def test_threads_are_found_by_a_part_of_their_title(client: TestClient) -> None:
    titles = ["The tides", "Low TIDE", "The moon", "100% moon", "a_b"]
    made = {title: client.post(f"{API}/threads", json={"title": title}).json()["id"] for title in titles}

    def found(q: str) -> list[str]:
        return [thread["id"] for thread in client.get(f"{API}/threads", params={"q": q}).json()["data"]]

    assert found("tide") == [made["Low TIDE"], made["The tides"]]
    assert found("%") == [made["100% moon"]]
    assert found("_") == [made["a_b"]]
    assert found("sun") == []
    assert found("\0") == []
    assert len(found("")) == 5
    query: dict[str, str | int] = {"q": "moon", "limit": 1}
    first = client.get(f"{API}/threads", params=query).json()
    assert (first["last_id"], first["has_more"]) == (made["100% moon"], True)
    rest = client.get(f"{API}/threads", params={**query, "after": first["last_id"]}).json()
    assert (rest["last_id"], rest["has_more"]) == (made["The moon"], False)


def test_a_deleted_thread_is_gone_with_all_that_is_in_it(
    client: TestClient, database: Database, settings: Settings
) -> None:
    kept = ask(client, client.post(f"{API}/threads").json()["id"], "stay")
    thread_id = client.post(f"{API}/threads", json={"title": "Gone"}).json()["id"]
    running, waiting = ask(client, thread_id, "one"), ask(client, thread_id, "two")
    claimed = database.write(lambda db: runs.claim(db, running["id"], WORKER, {}))
    assert claimed is not None
    session = database.write(lambda db: sessions.open_session(db, claimed, 60))
    file = client.post(f"{API}/threads/{thread_id}/files", files={"file": ("a.txt", b"hello")}).json()

    assert client.delete(f"{API}/threads/{thread_id}").status_code == 204

    paths = [f"threads/{thread_id}{what}" for what in ("", "/messages", "/artifacts", "/artifacts.zip")]
    paths += [f"runs/{run['id']}{what}" for run in (running, waiting) for what in ("", "/events", "/artifacts")]
    paths += [f"artifacts/{file['id']}", f"artifacts/{file['id']}/content"]
    for path in paths:
        assert client.get(f"{API}/{path}").status_code == 404, path
    for path in (f"runs/{running['id']}/cancel", f"runs/{waiting['id']}/retry"):
        assert client.post(f"{API}/{path}").status_code == 404, path
    assert client.post(f"{API}/threads/{thread_id}/runs", json={"input": "more"}).status_code == 404
    refused = client.post(f"{API}/threads/{thread_id}/files", files={"file": ("b.txt", b"more")})
    assert refused.status_code == 404
    assert client.patch(f"{API}/threads/{thread_id}", json={"title": "x"}).status_code == 404
    assert client.delete(f"{API}/threads/{thread_id}").status_code == 404
    assert [run["id"] for run in client.get(f"{API}/runs").json()["data"]] == [kept["id"]]
    assert [thread["id"] for thread in client.get(f"{API}/threads").json()["data"]] == [kept["thread_id"]]
    assert client.get(f"{API}/runs", params={"thread_id": thread_id}).json()["data"] == []

    # Nothing of it runs on: what waited is over, what runs is asked to end, and its tools are refused already.
    found = database.read(lambda db: {run_id: db.get_one(Run, run_id) for run_id in (running["id"], waiting["id"])})
    assert found[waiting["id"]].status is RunStatus.CANCELLED
    assert found[running["id"]].cancel_requested_at is not None
    assert database.read(lambda db: sessions.authenticate(db, session.token)) is None
    ended = database.write(lambda db: runs.settle(db, claimed.id, 1, Outcome(RunStatus.SUCCEEDED, "late")))
    assert ended is not None
    assert ended.status is RunStatus.CANCELLED
    assert client.get(f"{API}/threads/{thread_id}/messages").status_code == 404


def test_a_thread_can_be_deleted_by_many_at_once(client: TestClient) -> None:
    thread_id = client.post(f"{API}/threads").json()["id"]
    for _ in range(3):
        ask(client, thread_id, "hello")
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda n: client.delete(f"{API}/threads/{thread_id}").status_code, range(8)))
    assert sorted(statuses) == [204] + [404] * 7


def test_a_deleted_thread_is_brought_back_with_all_that_was_in_it(client: TestClient) -> None:
    run = client.post(f"{API}/runs", json={"input": "What of the moon?"}).json()
    thread = f"{API}/threads/{run['thread_id']}"
    assert client.delete(thread).status_code == 204
    assert client.get(thread).status_code == 404

    for _ in range(2):
        answer = client.post(f"{thread}/restore")
        assert (answer.status_code, answer.json()["title"]) == (200, "What of the moon?")
    assert [message["text"] for message in client.get(f"{thread}/messages").json()["data"]] == ["What of the moon?"]
    assert client.get(f"{API}/runs/{run['id']}").json()["status"] == "cancelled"
    assert client.post(f"{API}/threads/thr_{'0' * 26}/restore").status_code == 404


def test_a_thread_is_unread_from_the_end_of_a_run_until_it_was_seen(client: TestClient, database: Database) -> None:
    run = client.post(f"{API}/runs", json={"input": "hello"}).json()
    thread = f"{API}/threads/{run['thread_id']}"
    assert client.get(thread).json()["unread"] is False
    claimed = database.write(lambda db: runs.claim(db, run["id"], WORKER, {}))
    assert claimed is not None
    database.write(lambda db: runs.settle(db, run["id"], 1, Outcome(RunStatus.SUCCEEDED, "hello")))
    assert client.get(f"{API}/threads").json()["data"][0]["unread"] is True
    assert client.post(f"{thread}/read").status_code == 204
    assert client.get(thread).json()["unread"] is False


def test_threads_are_listed_by_what_happened_last_page_by_page(client: TestClient) -> None:
    ids = [client.post(f"{API}/runs", json={"input": f"n{n}"}).json()["thread_id"] for n in range(4)]
    ask(client, ids[1], "again")
    expected = [ids[1], ids[3], ids[2], ids[0]]
    found: list[str] = []
    while len(found) < 4:
        after = {"after": found[-1]} if found else {}
        page = client.get(f"{API}/threads", params={"order": "updated", "limit": 1, **after}).json()
        found += [thread["id"] for thread in page["data"]]
        assert page["has_more"] is (len(found) < 4)
    assert found == expected
    missing = client.get(f"{API}/threads", params={"order": "updated", "after": f"thr_{'0' * 26}"})
    assert (missing.status_code, missing.json()["code"]) == (400, "bad_cursor")


def test_a_search_looks_into_messages_and_says_where(client: TestClient) -> None:
    thread_id = client.post(f"{API}/runs", json={"input": "Of the lighthouse at the cape"}).json()["thread_id"]
    client.patch(f"{API}/threads/{thread_id}", json={"title": "Coasts"})
    client.post(f"{API}/runs", json={"input": "Of the moon"})
    [found] = client.get(f"{API}/threads", params={"q": "cape lightho"}).json()["data"]
    assert found["id"] == thread_id
    assert "lighthouse at the cape" in found["excerpt"]
    [by_title] = client.get(f"{API}/threads", params={"q": "oast"}).json()["data"]
    assert (by_title["id"], by_title["excerpt"]) == (thread_id, None)


def test_a_branch_is_told_what_it_follows_and_nothing_else(client: TestClient, database: Database) -> None:
    first = client.post(f"{API}/runs", json={"input": "one"}).json()
    thread = f"{API}/threads/{first['thread_id']}/runs"
    ask(client, first["thread_id"], "two")
    branch = client.post(thread, json={"input": "three", "follows": first["id"]}).json()
    after = client.post(thread, json={"input": "four"}).json()
    anew = client.post(thread, json={"input": "five", "follows": "nothing"}).json()
    assert branch["follows"] == first["id"]

    def told(run: dict[str, Any]) -> list[str]:
        def read(db: Db) -> list[str]:
            return [text for _, text in threads.history(db, runs.get(db, "local", run["id"]))]

        return database.read(read)

    assert [told(branch), told(after), told(anew)] == [["one"], ["one", "three"], []]
    client.post(f"{API}/runs/{anew['id']}/cancel")
    again = client.post(f"{API}/runs/{anew['id']}/retry").json()
    assert (again["follows"], told(again)) == ("nothing", [])


def test_a_run_follows_a_run_of_its_own_thread_only(client: TestClient) -> None:
    elsewhere = client.post(f"{API}/runs", json={"input": "one"}).json()
    thread_id = client.post(f"{API}/threads").json()["id"]
    for path in (f"{API}/threads/{thread_id}/runs", f"{API}/runs"):
        answer = client.post(path, json={"input": "two", "follows": elsewhere["id"]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "follows")
