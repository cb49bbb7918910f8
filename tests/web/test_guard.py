"""The door: no other name, no page of another origin, no body without end."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from longwick.settings import Settings

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)

API = "/api/v1"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9999", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.8.9.10", "[::1]"]
)
def test_names_of_this_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "localhost:8000:1",
        "10.0.0.1:8000",
        "[::2]",
        "[",
        "",
        "localhost, evil.example",
    ],
)
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/threads", "/api/openapi.json", "/nothing"])
def test_other_names_are_not(client: TestClient, host: str, path: str) -> None:
    refused = client.get(path, headers={"host": host})
    assert (refused.status_code, refused.json()["code"]) == (421, "misdirected_request")
    assert refused.headers["content-type"] == "application/problem+json"


def test_two_hosts_are_none(client: TestClient) -> None:
    refused = client.get("/healthz", headers=[("host", "localhost"), ("host", "localhost")])
    assert refused.status_code == 421


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:8001",
        "http://localhost:8000",
        "http://127.0.0.1",
        "file://",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a4_a_page_of_another_origin_is_refused(client: TestClient, origin: str, method: str) -> None:
    refused = client.request(method, f"{API}/threads", headers={"origin": origin})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "access-control-allow-origin" not in refused.headers
    assert client.get(f"{API}/threads").json()["data"] == []


def test_a_second_origin_is_seen(client: TestClient) -> None:
    headers = [("origin", "http://127.0.0.1:8000"), ("origin", "http://evil.example")]
    assert client.post(f"{API}/threads", headers=headers).status_code == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "https://127.0.0.1:8000"])
def test_our_own_page_is_not(client: TestClient, origin: str) -> None:
    headers = {"origin": origin, "sec-fetch-site": "same-origin"}
    assert client.post(f"{API}/threads", headers=headers).status_code == 201


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a23_another_site_may_change_nothing(client: TestClient, site: str) -> None:
    assert client.post(f"{API}/threads", headers={"sec-fetch-site": site}).status_code == 403
    # Following a link from there is fine.
    assert client.get("/", headers={"sec-fetch-site": site}).status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a23_a_body_of_a_plain_form_is_refused(client: TestClient, media_type: str) -> None:
    """What a page of another origin may send without asking."""
    refused = client.post(f"{API}/runs", content=b'{"input": "hello"}', headers={"content-type": media_type})
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
    assert client.get(f"{API}/runs").json()["data"] == []


def test_a_body_over_the_limit_is_refused(client: TestClient, settings: Settings) -> None:
    refused = client.post(f"{API}/runs", json={"input": "x" * settings.body_bytes})
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


def test_a_body_that_does_not_say_its_length_is_counted(client: TestClient, settings: Settings) -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield b"x" * (settings.body_bytes // 4)

    refused = client.post(f"{API}/runs", content=chunks(), headers={"content-type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_body_up_to_the_limit_is_taken(client: TestClient, settings: Settings) -> None:
    whole = b'{"title":"t"}'.ljust(settings.body_bytes)
    assert client.post(f"{API}/threads", content=whole, headers={"content-type": "application/json"}).status_code == 201


@pytest.mark.parametrize("length", ["99999999999999999999999", "-1", "x"])
def test_a_length_that_is_none_is_refused(client: TestClient, length: str) -> None:
    refused = client.post(f"{API}/threads", headers={"content-length": length})
    assert refused.status_code == 413


def test_headers_over_the_limit_are_refused(client: TestClient) -> None:
    refused = client.get("/healthz", headers={"x-large": "x" * 32 * 1024})
    assert (refused.status_code, refused.json()["code"]) == (431, "request_header_fields_too_large")
    assert client.get("/healthz", headers={"x-large": "x" * 31 * 1024}).status_code == 200


def test_each_answer_has_an_id_of_its_own_that_nobody_outside_chose(client: TestClient) -> None:
    answers = [client.get("/healthz", headers={"x-request-id": "forged"}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert all(id_.startswith("req_") for id_ in ids)
    assert {answer.headers["request-id"] for answer in answers} == ids
    problem = client.get(f"{API}/nothing")
    assert problem.json()["request_id"] == problem.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/", "/healthz", f"{API}/runs", f"{API}/nothing"])
def test_every_answer_keeps_to_its_origin(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] in ("no-store", "no-cache")
