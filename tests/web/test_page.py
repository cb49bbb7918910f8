"""The page is served, and may run nothing but itself."""

import posixpath
import re

import pytest
from starlette.testclient import TestClient

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)


def test_the_page_may_run_nothing_but_its_own_files_and_its_map(client: TestClient) -> None:
    headers = client.get("/").headers
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch("'self' 'sha256-[A-Za-z0-9+/]{43}='", rules["script-src"])
    for what in ("style-src", "connect-src", "font-src", "frame-src", "worker-src"):
        assert rules[what] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"if-none-match": headers["etag"]})
    assert (again.status_code, again.headers["content-security-policy"]) == (304, headers["content-security-policy"])


def test_the_page_and_its_parts_are_served(client: TestClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for part in re.findall(r'(?:src|href)="([^"#:]+)"', page.text):
        assert client.get("/" + part.lstrip("/")).status_code == 200, part


@pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "//etc/passwd", "/static/../app.py"])
def test_nothing_but_the_page_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def loaded_first(client: TestClient) -> dict[str, int]:
    """What the page loads before anything is asked of it, with the sizes in which it travels."""
    page = client.get("/").text
    mapped = dict(re.findall(r'"([\w@/-]+)": "\./(vendor/[\w/.-]+)"', page))
    todo = ["index.html", "net/worker.js", "vendor/figtree.woff2", *re.findall(r'(?:src|href)="([^"#:]+)"', page)]
    sizes: dict[str, int] = {}
    while todo:
        path = posixpath.normpath(todo.pop())
        if path in sizes:
            continue
        with client.stream("GET", f"/{path}") as answer:
            assert answer.status_code == 200, path
            sizes[path] = sum(map(len, answer.iter_raw()))
        if path.endswith(".js"):
            code = client.get(f"/{path}").text
            named = re.findall(r'(?:from|import)\s*"([^"\s]+)"', code)
            todo += [mapped.get(name) or posixpath.join(posixpath.dirname(path), name) for name in named]
    return sizes


def test_the_first_load_is_small(client: TestClient) -> None:
    sizes = loaded_first(client)
    assert {"app.js", "vendor/preact.js", "vendor/marked.js", "css/base.css"} <= sizes.keys()
    assert not {"vendor/katex/katex.js", "vendor/diff.js", "vendor/highlight/core.js"} & sizes.keys()
    assert sum(sizes.values()) < 120 * 1024, sorted(sizes.items(), key=lambda item: -item[1])[:12]
