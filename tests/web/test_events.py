"""The log of a run, a page at a time and as far as a cursor goes; test_stream.py has the streams that go on."""

import json
from typing import Any

import pytest
from scene import queued_run, running_run
from starlette.testclient import TestClient

from longwick import cancellation, events
from longwick.database import Database, Db
from longwick.events import Event, EventType, notice
from longwick.models import Run
from longwick.settings import Settings
from longwick.storage import FolderStorage
from longwick.values import inline_or_refer

SSE = {"accept": "text/event-stream"}
# What is the same whatever the record lives in.
ON_SQLITE = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)


def path(run: Run) -> str:
    return f"/api/v1/runs/{run.id}/events"


def with_notices(database: Database, count: int) -> Run:
    """A running run whose log has `count` notices in batches of three, after the two events of its start."""
    run = running_run(database)
    told = [notice("info", "count", str(n)) for n in range(count)]

    def append(db: Db) -> None:
        for first in range(0, count, 3):
            events.append(db, run.id, 1, told[first : first + 3])

    database.write(append)
    return run


def cancelled(database: Database) -> Run:
    run = queued_run(database)
    return database.write(lambda db: cancellation.request(db, run.owner, run.id))


def seqs(page: dict[str, Any]) -> list[int]:
    return [event["seq"] for event in page["data"]]


def test_the_log_is_read_a_page_at_a_time(client: TestClient, database: Database) -> None:
    run = with_notices(database, 8)
    page = client.get(path(run)).json()
    assert seqs(page) == list(range(1, 11))
    assert (page["first_id"], page["last_id"], page["has_more"]) == (1, 10, False)
    assert [event["data"]["message"] for event in page["data"][2:]] == [str(n) for n in range(8)]
    assert [event["type"] for event in page["data"][:3]] == ["run.queued", "run.started", "notice"]

    page = client.get(path(run), params={"after": 3, "limit": 5}).json()
    assert (seqs(page), page["last_id"], page["has_more"]) == ([4, 5, 6, 7, 8], 8, True)
    page = client.get(path(run), params={"after": 8, "limit": 5}).json()
    assert (seqs(page), page["has_more"]) == ([9, 10], False)
    end: dict[str, Any] = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert client.get(path(run), params={"after": 10}).json() == end


def test_a_page_may_span_many_batches(client: TestClient, database: Database) -> None:
    run = with_notices(database, 240)
    page = client.get(path(run), params={"limit": 1000}).json()
    assert (seqs(page), page["has_more"]) == (list(range(1, 243)), False)


def test_the_larger_of_two_cursors_wins(client: TestClient, database: Database) -> None:
    run = with_notices(database, 6)
    for after, header in ((2, "5"), (5, "2")):
        page = client.get(path(run), params={"after": after}, headers={"last-event-id": header}).json()
        assert seqs(page) == [6, 7, 8]
    assert seqs(client.get(path(run), headers={"last-event-id": "7"}).json()) == [8]


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
@pytest.mark.parametrize("cursor", ["-1", "x", "1.5", "", " 1", "1_0", "٣", "0x1", "1e3", "9" * 101, "1,2"])
@ON_SQLITE
def test_a_cursor_that_is_no_whole_number_is_refused(
    client: TestClient, database: Database, cursor: str, accept: str
) -> None:
    run = queued_run(database)
    refused = client.get(path(run), params={"after": cursor}, headers={"accept": accept})
    assert (refused.status_code, refused.json()["code"]) == (400, "bad_cursor")
    assert refused.json()["error"]["param"] == "after"
    if cursor.isascii():
        refused = client.get(path(run), headers={"accept": accept, "last-event-id": cursor})
        assert refused.status_code == 400 if cursor.strip() == cursor else 200


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
@pytest.mark.parametrize("cursor", ["2", "9" * 30])
def test_a_cursor_ahead_of_the_log_is_refused(client: TestClient, database: Database, cursor: str, accept: str) -> None:
    run = queued_run(database)
    refused = client.get(path(run), params={"after": cursor}, headers={"accept": accept})
    assert (refused.status_code, refused.json()["code"]) == (409, "cursor_ahead")


def test_a_stream_of_a_run_that_is_over_replays_and_ends(client: TestClient, database: Database) -> None:
    run = cancelled(database)
    with client.stream("GET", path(run), headers=SSE) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = answer.read().decode().split("\n\n")
    assert [frame.split("\n")[0] for frame in frames] == ["id: 1", "id: 2", ""]
    told = json.loads(frames[1].split("\n")[1].removeprefix("data: "))
    assert (told["seq"], told["type"]) == (2, "run.cancelled")


def test_there_is_nothing_to_stream_after_the_end(client: TestClient, database: Database) -> None:
    run = cancelled(database)
    for resume in ({"last-event-id": "2"}, {"last-event-id": "0"}):
        nothing = client.get(path(run), params={"after": 2}, headers={**SSE, **resume})
        assert (nothing.status_code, nothing.content) == (204, b"")
    # As a list it is just empty.
    assert client.get(path(run), params={"after": 2}).json()["data"] == []


@pytest.mark.parametrize(
    ("value", "media_type"), [("é" * 300_000, "text/plain; charset=utf-8"), (["x" * 300_000], "application/json")]
)
def test_a_value_too_large_for_the_log_is_fetched_by_its_event(
    client: TestClient, database: Database, settings: Settings, value: Any, media_type: str
) -> None:
    run = running_run(database)
    event = Event(EventType.TOOL_COMPLETED, {"tool_call_id": "1", "output": value, "is_error": False})
    small = inline_or_refer(database, FolderStorage(settings.data_dir / "blobs"), event)
    database.write(lambda db: events.append(db, run.id, 1, [notice("info", "before", ""), small]))
    [told] = client.get(path(run), params={"after": 3}).json()["data"]
    assert told["data"]["output"] is None
    answer = client.get(f"{path(run)}/{told['seq']}/value")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (answer.text if isinstance(value, str) else answer.json()) == value
    assert len(answer.content) == told["data"]["value"]["size"]
    for seq in ("3", "5", "0", "9" * 40, "x", "-1"):
        assert client.get(f"{path(run)}/{seq}/value").status_code == 404


@pytest.mark.parametrize(
    "forged",
    [
        {"sha256": "../../../../etc/passwd"},
        {"media_type": "text/html"},
        {"field": "cost"},
        {"size": -1},
        {"more": 1},
    ],
)
@ON_SQLITE
def test_a_reference_of_another_form_leads_nowhere(
    client: TestClient, database: Database, forged: dict[str, Any]
) -> None:
    """An agent says what is in its usage, and so could name what is not its own."""
    run = running_run(database)
    reference = {"field": "text", "sha256": "0" * 64, "size": 5, "media_type": "application/json", **forged}
    event = Event(EventType.USAGE_UPDATED, {"text": None, "value": reference})
    database.write(lambda db: events.append(db, run.id, 1, [event]))
    assert client.get(f"{path(run)}/3/value").status_code == 404
