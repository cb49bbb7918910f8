"""What every operation of the OpenAPI document does with what does not belong into it."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from documented import DOCUMENT
from scene import queued_run
from starlette.testclient import TestClient

from longwick.database import Database

OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]
FORBIDDEN: dict[str, Any] = {
    "id": "run_1",
    "owner": "somebody",
    "status": "succeeded",
    "attempt": 9,
    "output_text": "x",
    "cost_usd": 0,
    "created_at": "2026-01-01T00:00:00Z",
    "is_admin": True,
    "scopes": ["admin"],
    "__proto__": {"polluted": True},
    "constructor": {},
}
INJECTED = [
    "' OR '1'='1",
    "x' UNION SELECT token_sha256 FROM agent_sessions --",
    "'; DROP TABLE runs; --",
    "%",
    "_",
    "\\",
    '"*',
    "NEAR(a b)",
    "$.input",
    "{}",
    "a:*&!b",
    "\N{FULLWIDTH APOSTROPHE}",
]


def wanted_body(operation: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the JSON object that an operation takes."""
    sent = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if sent is None:
        return None
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][sent["schema"]["$ref"].rpartition("/")[2]]
    return found


TAKING = [(method, path) for method, path, operation in OPERATIONS if wanted_body(operation)]


@pytest.fixture
def ids(database: Database) -> dict[str, str]:
    """Values for the parameters of paths: a thread and a run of the caller's, and what can be none."""
    run = queued_run(database)
    ids = {"thread_id": run.thread_id, "run_id": run.id, "approval_id": f"apr_{'0' * 26}", "seq": "1"}
    names = {name for _, path, _ in OPERATIONS for name in re.findall(r"\{(\w+)\}", path)}
    return {name: ids.get(name, f"{name[:3]}_{'0' * 26}") for name in names}


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a41_no_body_sets_what_a_client_may_not(client: TestClient, ids: dict[str, str]) -> None:
    before = client.get(f"/api/v1/runs/{ids['run_id']}").json()
    assert len(TAKING) > 5
    for method, path, operation in OPERATIONS:
        schema = wanted_body(operation)
        for name, value in FORBIDDEN.items() if schema else ():
            if schema and name in schema["properties"]:
                continue
            refused = client.request(method, path.format(**ids), json={name: value})
            assert refused.status_code == 422, (method, path, name, refused.text)
            assert name in [wrong["param"] for wrong in refused.json()["errors"]], (method, path, refused.text)
    assert client.get(f"/api/v1/runs/{ids['run_id']}").json() == before


def test_a41_the_document_says_so() -> None:
    for method, path, operation in OPERATIONS:
        schema = wanted_body(operation)
        assert schema is None or schema["additionalProperties"] is False, (method, path)


def test_a42_what_is_searched_for_and_sorted_by_is_text_to_the_record(client: TestClient, ids: dict[str, str]) -> None:
    asked = 0
    for method, path, operation in OPERATIONS:
        for parameter in operation.get("parameters", ()):
            for value in INJECTED:
                if parameter["in"] == "query" and method == "get":
                    answer = client.get(path.format(**ids), params={parameter["name"]: value})
                elif parameter["in"] == "path":
                    injected = {**ids, parameter["name"]: quote(value, safe="")}
                    answer = client.request(method, path.format(**injected), json={})
                    assert answer.status_code in (404, 415, 422), (method, path, value, answer.text)
                else:
                    continue
                asked += 1
                assert answer.status_code < 500, (method, path, parameter["name"], value, answer.text)
                if parameter["name"] == "q":
                    assert answer.json()["data"] == [], value
    assert asked > 300
    assert [run["id"] for run in client.get("/api/v1/runs").json()["data"]] == [ids["run_id"]]
