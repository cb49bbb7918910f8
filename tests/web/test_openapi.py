"""The OpenAPI document says what there is. That answers keep to it is checked in all tests (tests/documented.py)."""

import json
import re
from typing import Any

import pytest
from documented import DOCUMENT
from starlette.testclient import TestClient

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, told) for path, found in document["paths"].items() for method, told in found.items()]


def test_it_is_the_same_with_any_settings(document: dict[str, Any]) -> None:
    assert document == DOCUMENT


def test_all_routes_are_there(document: dict[str, Any]) -> None:
    assert {f"{method.upper()} {path}" for method, path, _ in operations(document)} == {
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "POST /api/v1/session",
        "GET /api/v1/session",
        "DELETE /api/v1/session",
        "POST /api/v1/tickets",
        "GET /api/v1/agents",
        "POST /api/v1/threads",
        "GET /api/v1/threads",
        "GET /api/v1/threads/{thread_id}",
        "PATCH /api/v1/threads/{thread_id}",
        "DELETE /api/v1/threads/{thread_id}",
        "GET /api/v1/threads/{thread_id}/messages",
        "GET /api/v1/threads/{thread_id}/artifacts",
        "POST /api/v1/threads/{thread_id}/files",
        "GET /api/v1/threads/{thread_id}/artifacts.zip",
        "POST /api/v1/threads/{thread_id}/runs",
        "POST /api/v1/runs",
        "GET /api/v1/runs",
        "GET /api/v1/runs/{run_id}",
        "PATCH /api/v1/runs/{run_id}",
        "GET /api/v1/runs/{run_id}/events",
        "GET /api/v1/runs/{run_id}/events/{seq}/value",
        "POST /api/v1/runs/{run_id}/cancel",
        "POST /api/v1/runs/{run_id}/input",
        "POST /api/v1/runs/{run_id}/retry",
        "GET /api/v1/approvals",
        "POST /api/v1/approvals/{approval_id}",
        "GET /api/v1/runs/{run_id}/artifacts",
        "GET /api/v1/artifacts/{artifact_id}",
        "GET /api/v1/artifacts/{artifact_id}/content",
        "GET /api/v1/artifacts/{artifact_id}/preview",
        "POST /api/v1/threads/{thread_id}/restore",
        "POST /api/v1/threads/{thread_id}/read",
        "GET /api/v1/feed",
        "GET /api/v1/usage",
    }


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for _, path, told in operations(document):
        for status, answer in told["responses"].items():
            if status == "default" or (status >= "400" and path != "/readyz"):
                assert answer["content"] == PROBLEM, (path, status)
        # A ticket's run is in its body.
        assert ("404" in told["responses"]) == ("{" in path or path.endswith("/tickets"))
    assert "HTTPValidationError" not in json.dumps(document)


def test_every_answer_names_its_request_and_who_is_to_come_again_when_to_come_again(document: dict[str, Any]) -> None:
    for _, path, told in operations(document):
        for status, answer in told["responses"].items():
            assert "X-Request-Id" in answer["headers"]
            assert ("Retry-After" in answer["headers"]) == (status in ("429", "503")), path


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred == set(document["components"]["schemas"])


def test_every_operation_has_a_name_of_its_own_and_words(document: dict[str, Any]) -> None:
    named = [told["operationId"] for _, _, told in operations(document)]
    assert len(named) == len(set(named))
    assert all(told["description"] for _, _, told in operations(document))


def test_the_stream_is_told_of(document: dict[str, Any]) -> None:
    told = document["paths"]["/api/v1/runs/{run_id}/events"]["get"]
    assert set(told["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "content" not in told["responses"]["204"]
    assert {(parameter["in"], parameter["name"]) for parameter in told["parameters"]} == {
        ("path", "run_id"),
        ("query", "after"),
        ("query", "limit"),
        ("header", "last-event-id"),
    }


def test_a_body_with_other_fields_is_documented_as_refused(document: dict[str, Any]) -> None:
    for name in ("NewRun", "NewThread", "ThreadChange"):
        assert document["components"]["schemas"][name]["additionalProperties"] is False


def test_no_page_shows_the_document_with_scripts_from_elsewhere(client: TestClient) -> None:
    for path in ("/docs", "/redoc", "/api/docs"):
        assert client.get(path).status_code == 404
