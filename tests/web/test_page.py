"""The page is served, and may run nothing but itself."""

import re

import pytest
from starlette.testclient import TestClient

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)

POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


def test_the_page_and_its_parts_are_served(client: TestClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for part in re.findall(r'(?:src|href)="([^"#:]+)"', page.text):
        assert client.get("/" + part.lstrip("/")).status_code == 200, part


def test_the_page_may_run_nothing_but_itself(client: TestClient) -> None:
    headers = client.get("/").headers
    assert headers["content-security-policy"] == POLICY
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"if-none-match": headers["etag"]})
    assert (again.status_code, again.headers["content-security-policy"]) == (304, POLICY)


@pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "//etc/passwd", "/static/../app.py"])
def test_nothing_but_the_page_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
