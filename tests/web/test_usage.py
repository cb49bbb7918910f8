"""What a caller may have, how much of it is used, and what is said to one who asks for more."""

import pytest
from documented import Serve
from scene import NOON, OWNER, new_thread, queued_run, running_run
from starlette.testclient import TestClient

from longwick import keys, limits, runs, spending
from longwick.database import Database
from longwick.errors import TooMany
from longwick.kinds import RunStatus
from longwick.outcomes import Outcome
from longwick.settings import Settings
from web.traffic import Traffic

API = "/api/v1"
ON_SQLITE = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "record_now", lambda db: NOON)


def test_the_caller_sees_what_is_used_of_what(settings: Settings, serve: Serve, database: Database) -> None:
    client = serve(settings.model_copy(update={"running_per_owner": 4, "spend_usd_per_owner_per_day": 2.5}))
    database.write(lambda db: limits.make_exception(db, OWNER, {"queued": 7}))
    ended = running_run(database)
    used = Outcome(RunStatus.SUCCEEDED, "Done.", usage={"input_tokens": 30, "output_tokens": 12}, cost_usd=0.5)
    database.write(lambda db: runs.settle(db, ended.id, 1, used))
    running_run(database)
    for thread in (new_thread(database), new_thread(database), new_thread(database, "somebody else")):
        queued_run(database, thread)
    thread_id = client.get(f"{API}/threads").json()["data"][0]["id"]
    client.post(f"{API}/threads/{thread_id}/files", files={"file": ("a.txt", b"12345")})
    told = client.get(f"{API}/usage").json()
    assert told.pop("resets_at").endswith("T00:00:00.000Z")
    assert told.pop("requests_per_second") == {"used": 0.3, "limit": 200}
    assert told == {
        "running": {"used": 1, "limit": 4},
        "queued": {"used": 2, "limit": 7},
        "artifacts": {"used": 1, "limit": 100_000},
        "artifact_bytes": {"used": 5, "limit": 100 * 2**30},
        "spend_usd_today": {"used": 0.5, "limit": 2.5},
        "tokens_today": {"input": 30, "output": 12},
        "streams": {"used": 0, "limit": 1000},
    }


def test_one_who_has_spent_the_day_is_told_when_the_next_begins(
    settings: Settings, serve: Serve, database: Database
) -> None:
    client = serve(settings.model_copy(update={"spend_usd_per_owner_per_day": 1}))
    ended = running_run(database)
    database.write(lambda db: runs.settle(db, ended.id, 1, Outcome(RunStatus.FAILED, cost_usd=1.5)))
    for path in ("runs", f"threads/{ended.thread_id}/runs", f"runs/{ended.id}/retry"):
        answer = client.post(f"{API}/{path}", json=None if path.endswith("retry") else {"input": "hello"})
        assert (answer.status_code, answer.json()["code"]) == (429, "budget_exceeded")
        assert answer.headers["retry-after"] == str(12 * 3600)
        assert "00:00 UTC" in answer.json()["detail"]
    assert client.get(f"{API}/usage").json()["spend_usd_today"] == {"used": 1.5, "limit": 1}


def serve_at_once(serve: Serve, settings: Settings) -> TestClient:
    """A client of a server that takes two requests of everybody, for which no time passes."""
    client = serve(settings.model_copy(update={"requests_per_second_per_owner": 0.5}))
    client.app.state.traffic._clock = lambda: 0.0  # type: ignore[attr-defined]
    return client


@ON_SQLITE
def test_a39_one_who_asks_too_often_is_told_to_wait(settings: Settings, serve: Serve) -> None:
    client = serve_at_once(serve, settings)
    answers = [client.get(f"{API}/usage") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[-1].json()["code"] == "too_many_requests"
    assert answers[-1].headers["retry-after"] == "1"
    # Whoever looks after the server is not the owner's.
    assert client.get("/healthz").status_code == 200


@ON_SQLITE
def test_a39_one_whom_nobody_knows_is_counted_by_address_and_takes_nothing_from_others(
    settings: Settings, serve: Serve, database: Database
) -> None:
    client = serve_at_once(serve, settings)
    made = database.write(lambda db: keys.create(db, OWNER))
    guesses = [client.get(f"{API}/runs", headers={"authorization": "Bearer guessed"}) for _ in range(4)]
    assert [answer.status_code for answer in guesses] == [401, 401, 429, 429]
    assert guesses[-1].headers["retry-after"]
    assert client.get(f"{API}/runs", headers={"authorization": f"Bearer {made.text}"}).status_code == 200


@ON_SQLITE
def test_a39_one_with_too_many_streams_open_gets_no_more(
    settings: Settings, serve: Serve, database: Database, client: TestClient
) -> None:
    client = serve(settings.model_copy(update={"streams_per_owner": 3}))
    run = running_run(database)
    database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED, "Done.")))
    traffic: Traffic = client.app.state.traffic  # type: ignore[attr-defined]
    closers = [traffic.open_stream(OWNER) for _ in range(3)]
    wanted = {"accept": "text/event-stream"}
    for path in (f"runs/{run.id}/events", "feed"):
        answer = client.get(f"{API}/{path}", headers=wanted)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
        assert answer.headers["retry-after"] == "5"
    closers.pop()()
    for _ in range(5):
        # Each gives its place back when it ends.
        assert client.get(f"{API}/runs/{run.id}/events", headers=wanted).status_code == 200
    assert client.get(f"{API}/usage").json()["streams"] == {"used": 2, "limit": 3}


def test_requests_pass_at_their_rate_after_a_burst() -> None:
    now = [0.0]
    traffic = Traffic(2, 0, clock=lambda: now[0])
    for _ in range(10):
        traffic.take("me")
    with pytest.raises(TooMany) as refused:
        traffic.take("me")
    assert refused.value.retry_after == 0.5
    traffic.take("somebody else")
    now[0] += 0.5
    traffic.take("me")
    with pytest.raises(TooMany):
        traffic.take("me")
    assert traffic.seen("me") == (1.3, 0)
    now[0] += 60
    assert traffic.seen("me") == (0, 0)
    for _ in range(10):
        traffic.take("me")


def test_a39_ten_thousand_who_ask_once_are_not_remembered_for_ever() -> None:
    traffic = Traffic(1, 1, clock=lambda: 0.0)
    close = traffic.open_stream("first")
    for number in range(10_500):
        traffic.take(f"owner {number}")
    assert len(traffic._asking) <= 10_001
    # Whoever has a stream open is known as long as it is.
    assert traffic.seen("first")[1] == 1
    close()
    assert traffic.seen("first")[1] == 0
