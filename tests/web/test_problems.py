"""Bad input and bad luck: each is answered with a problem that says what to do, and nothing leaks."""

import logging
from pathlib import Path
from typing import Any

import pytest
from documented import Serve
from fastapi.routing import iter_route_contexts
from scene import queued_run
from starlette.testclient import TestClient

from longwick.database import Database
from longwick.settings import Settings

API = "/api/v1"
JSON = {"content-type": "application/json"}
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x", "status": "succeeded"}, "status"),
        ({"input": "x", "owner": "other"}, "owner"),
        ({"input": "x", "if_busy": "perhaps"}, "if_busy"),
        ({"input": "x", "if_busy": None}, "if_busy"),
        ({"input": "x", "on_worker_lost": "forget"}, "on_worker_lost"),
        ({"input": "x", "max_cost_usd": 0}, "max_cost_usd"),
        ({"input": "x", "max_cost_usd": "1"}, "max_cost_usd"),
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input"),
        ({"input": "x" * 1_000_001}, "input"),
        ({"input": "x", "agent": 5}, "agent"),
        ({"input": "x", "agent": ""}, "agent"),
        ({"input": "x", "agent": "x" * 201}, "agent"),
        ({"input": "x", "model": "x" * 201}, "model"),
        ({"input": "x", "model": "--version"}, "model"),
        ({"input": "x", "model": "a b"}, "model"),
        ({"input": "x", "kind": "urgent"}, "kind"),
        ({"input": "x", "kind": None}, "kind"),
        ({"input": "x", "artifact_generation": "yes"}, "artifact_generation"),
        ({"input": "x", "artifact_generation": 1}, "artifact_generation"),
        ({"input": "x", "timeout_seconds": 0}, "timeout_seconds"),
        ({"input": "x", "timeout_seconds": -1}, "timeout_seconds"),
        ({"input": "x", "timeout_seconds": "5"}, "timeout_seconds"),
        ({"input": "x", "timeout_seconds": True}, "timeout_seconds"),
        ({"input": "x", "idle_timeout_seconds": 604801}, "idle_timeout_seconds"),
        ({"input": "x", "metadata": []}, "metadata"),
        ({"input": "x", "metadata": "{}"}, "metadata"),
        ({"input": "x", "metadata": None}, "metadata"),
        ({"input": "x", "metadata": {"a": "x" * 16_384}}, "metadata"),
        ([], None),
        ("x", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_a_bad_body_is_refused_and_the_field_named(client: TestClient, body: Any, param: str | None) -> None:
    refused = client.post(f"{API}/runs", json=body)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "invalid_request"), refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert (problem["error"]["param"], problem["errors"][0]["param"]) == (param, param)
    assert problem["detail"].startswith(f"{param or 'the body'}: ")
    assert problem["error"]["message"] == problem["detail"]
    assert len(refused.content) < 2_000
    assert client.get(f"{API}/runs").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"", 422, "invalid_request"),
        (b'{"input": "\xff"}', 400, "bad_request"),
        (b'{"input": "x", "timeout_seconds": NaN}', 422, "invalid_request"),
        (b'{"input": "x", "timeout_seconds": 1e999}', 422, "invalid_request"),
        (b'{"input": "x", "metadata": {"a": NaN}}', 422, "invalid_request"),
        (b'{"input": "x", "metadata": {"a": -1e999}}', 422, "invalid_request"),
        (b'{"input": "x", "metadata": {"a": %s}}' % (b"1" * 5_000), 400, "bad_request"),
        (b'{"input": "x", "metadata": {"a": %s}}' % (b"[" * 40 + b"]" * 40), 422, "invalid_request"),
        (b'{"input": "x", "metadata": {"a": %s}}' % (b"[" * 900 + b"]" * 900), 422, "invalid_request"),
        (b"[" * 200_000, 400, "bad_request"),
    ],
)
@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_what_is_hardly_json_is_refused(client: TestClient, body: bytes, status: int, code: str) -> None:
    refused = client.post(f"{API}/runs", content=body, headers=JSON)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_all_wrong_fields_are_named_at_once(client: TestClient) -> None:
    problem = client.post(f"{API}/runs", json={"kind": 1, "extra": 1, "timeout_seconds": 0}).json()
    assert {wrong["param"] for wrong in problem["errors"]} == {"input", "kind", "extra", "timeout_seconds"}


def test_a_thousand_wrong_fields_make_no_large_answer(client: TestClient) -> None:
    refused = client.post(f"{API}/runs", json={f"{n}" * 300: n for n in range(1_000)})
    assert refused.status_code == 422
    assert len(refused.content) < 20_000


def test_a_full_problem(client: TestClient) -> None:
    refused = client.post(f"{API}/runs", json={"input": "hello", "agent": "nobody"})
    problem = refused.json()
    detail = "agent: there is no agent 'nobody', only demo, claude, codex, claude-coding, codex-coding"
    assert problem == {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": detail,
        "instance": f"{API}/runs",
        "code": "unknown_agent",
        "request_id": refused.headers["x-request-id"],
        "error": {"message": detail, "type": "invalid_request_error", "param": "agent", "code": "unknown_agent"},
        "errors": [],
    }


def test_text_that_no_engine_stores_is_stored_readable(client: TestClient) -> None:
    body = rb'{"input": "a\u0000b \ud83d c \ud83d\ude00", "metadata": {"k\u0000": ["\udc00"]}}'
    accepted = client.post(f"{API}/runs", content=body, headers=JSON)
    assert accepted.status_code == 202
    for run in (accepted.json(), client.get(accepted.headers["location"]).json()):
        assert run["input"] == f"a{REPLACEMENT}b {REPLACEMENT} c 😀"
        assert run["metadata"] == {f"k{REPLACEMENT}": [REPLACEMENT]}
    [message] = client.get(f"{API}/threads/{run['thread_id']}/messages").json()["data"]
    assert message["text"] == run["input"]


@pytest.mark.parametrize("body", [rb'{"input": "x", "agent": "\ud800\u0000"}', rb'{"input": "x", "\ud800\u0000": 1}'])
def test_text_that_is_none_is_shown_readable_in_a_problem(client: TestClient, body: bytes) -> None:
    refused = client.post(f"{API}/runs", content=body, headers=JSON)
    assert refused.status_code == 422
    assert REPLACEMENT * 2 in refused.json()["detail"]


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("after=x", 400, "after"),
        ("after=thr_0", 400, "after"),
        ("after=msg_" + "0" * 26, 400, "after"),
        ("after=run_" + "0" * 26 + "%00", 400, "after"),
        ("limit=0", 422, "limit"),
        ("limit=1001", 422, "limit"),
        ("limit=x", 422, "limit"),
        ("limit=" + "9" * 5_000, 422, "limit"),
        ("status=done", 422, "status"),
        ("status=queued,done", 422, "status"),
        ("kind=%00", 422, "kind"),
        ("thread_id=%00", 422, "thread_id"),
        ("thread_id=run_" + "0" * 26, 422, "thread_id"),
    ],
)
def test_a_bad_query_is_refused_and_the_parameter_named(
    client: TestClient, query: str, status: int, param: str
) -> None:
    refused = client.get(f"{API}/runs?{query}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    "id_", ["x", "run_", "run_" + "0" * 25, "run_" + "u" * 26, "thr_" + "0" * 26, "%00", "%ff", "run_" + "0" * 5_000]
)
def test_an_id_that_can_be_none_is_not_found(client: TestClient, id_: str) -> None:
    missing = client.get(f"{API}/runs/{id_}")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


def test_every_route_of_the_application_is_in_that_document(client: TestClient) -> None:
    routes = iter_route_contexts(client.app.routes)  # type: ignore[attr-defined] # the type of any ASGI application
    hidden = {route.path for route in routes if not route.include_in_schema and route.methods != {"HEAD"}}
    assert hidden == {"/api/openapi.json"}


def test_a43_what_the_database_says_is_for_the_log_alone(
    client: TestClient, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    run = queued_run(database)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE runs RENAME COLUMN kind TO secret_name")
    with caplog.at_level(logging.WARNING):
        answer = client.get(f"{API}/runs/{run.id}")
    assert answer.status_code in (500, 503)
    assert not any(word in answer.text for word in ("kind", "SELECT", "Traceback", "sqlalchemy"))
    assert "runs.kind" in caplog.text


def test_a43_a_fault_of_ours_is_logged_under_the_id_that_the_caller_got(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr("longwick.threads.list_threads", fail)
    answer = client.get(f"{API}/threads")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["error"]["type"]) == (500, "internal_error", "server_error")
    assert problem["request_id"] in problem["detail"]
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text


def test_a_record_that_does_not_answer_is_said_to_be_away(
    tmp_path: Path, serve: Serve, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    gone = f"postgresql://user:hunter2@127.0.0.1:{closed_port}/gone"
    client = serve(
        Settings.from_environ({}, data_dir=tmp_path, database_url=gone, redis_url=f"redis://127.0.0.1:{closed_port}/0")
    )
    for answer in (client.get(f"{API}/threads"), client.post(f"{API}/runs", json={"input": "hello"})):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert "hunter2" not in answer.text
        assert str(closed_port) not in answer.text
    assert "Connection refused" in caplog.text


def test_a_path_and_a_method_that_there_are_not(client: TestClient) -> None:
    for method in ("GET", "POST", "DELETE"):
        missing = client.request(method, f"{API}/nothing")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    for path, methods in (("/agents", "GET"), ("/threads", "GET, POST"), ("/runs/x/cancel", "POST")):
        refused = client.delete(API + path)
        assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
        assert refused.headers["allow"] == methods
