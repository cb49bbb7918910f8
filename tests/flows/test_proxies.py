"""Longwick behind nginx and Caddy with the settings of `deploy/`: two hosts, each with web and an MCP server."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from hosting import ROOT, Proxy, Site, over, submit
from postgres import Postgres
from stack import Json, check_whole, frames
from waiting import wait_for

from longwick import keys
from longwick.database import Database
from longwick.valkey import Valkey
from web.stream import HEARTBEAT_SECONDS

STREAM = {"accept": "text/event-stream"}
MANY = 20
"""More than the six connections that a browser opens to a site."""


@pytest.fixture(scope="module")
def site(
    postgres: Postgres, migrated_template: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Two hosts behind nginx."""
    told = {"LONGWICK_PUBLIC_HOSTS": "longwick.example.com", "LONGWICK_PROXY_SOURCES": "127.0.0.0/8"}
    folder = tmp_path_factory.mktemp("site")
    with (
        postgres.database(migrated_template) as url,
        Site("nginx", folder, url, valkey.url, **told).running() as site,
    ):
        yield site


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One of the two, before the same hosts."""
    if request.param == "nginx":
        yield site.proxy
        return
    with Proxy("caddy", tmp_path_factory.mktemp("caddy"), site.hosts) as caddy:
        yield caddy


@pytest.fixture
def http(proxy: Proxy) -> Iterator[httpx2.Client]:
    with proxy.client(http2=False) as http:
        yield http


def test_each_event_comes_at_once(proxy: Proxy, http: httpx2.Client, tmp_path: Path) -> None:
    gates = [tmp_path / f"gate-{number}" for number in range(3)]
    run = submit(http, "; ".join(f"say 1 0; wait {gate}" for gate in gates))
    with proxy.client() as browser, browser.stream("GET", f"/api/v1/runs/{run['id']}/events", headers=STREAM) as answer:
        assert answer.http_version == "HTTP/2"
        waiting = iter(gates)
        events = []
        for _, event in frames(answer.iter_lines()):
            events.append(event)
            if event["type"] == "message.delta":
                # What it says next, it says only because this came.
                next(waiting).touch()
    check_whole(events)


def test_more_streams_than_a_browser_has_connections_go_over_one(proxy: Proxy, http: httpx2.Client) -> None:
    runs = [submit(http, "say 3 0.05") for _ in range(MANY)]
    opened = set()

    async def read_all() -> list[list[Json]]:
        one = httpx2.Limits(max_connections=1)
        together = asyncio.Barrier(MANY)
        async with httpx2.AsyncClient(
            base_url=proxy.url, http2=True, verify=proxy.trusted, limits=one, timeout=20, trust_env=False
        ) as browser:

            async def read(run: Json) -> list[Json]:
                async with browser.stream("GET", f"/api/v1/runs/{run['id']}/events", headers=STREAM) as answer:
                    opened.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
                    # All are open before any is read.
                    await together.wait()
                    lines = [line async for line in answer.aiter_lines()]
                return [event for _, event in frames(iter(lines))]

            return await asyncio.gather(*(read(run) for run in runs))

    for events in asyncio.run(read_all()):
        check_whole(events)
    assert len(opened) == 1


def test_a_reload_breaks_no_stream(proxy: Proxy, http: httpx2.Client, tmp_path: Path) -> None:
    run = submit(http, f"say 1 0; wait {tmp_path / 'gate'}; say 3 0")
    with http.stream("GET", f"/api/v1/runs/{run['id']}/events", headers=STREAM) as answer:
        events = []
        for _, event in frames(answer.iter_lines()):
            events.append(event)
            if event["type"] == "message.delta" and not (tmp_path / "gate").exists():
                proxy.reload()
                with proxy.client() as another:
                    assert another.get("/readyz").status_code == 200
                (tmp_path / "gate").touch()
    check_whole(events)


def test_an_upload_goes_through_while_it_comes(site: Site, proxy: Proxy, http: httpx2.Client) -> None:
    thread = http.post("/api/v1/threads", json={}).json()["id"]
    kept = b"x" * 2**20
    head = b'--edge\r\ncontent-disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    before = sum_of_files(site.blobs)

    def body() -> Iterator[bytes]:
        yield head + kept
        # It is with Longwick already, while half of it is still to come.
        wait_for(lambda: sum_of_files(site.blobs) - before >= len(kept) // 2, what="the first half to be there")
        yield kept + b"\r\n--edge--\r\n"

    typed = {"content-type": "multipart/form-data; boundary=edge"}
    saved = http.post(f"/api/v1/threads/{thread}/files", content=body(), headers=typed)
    assert (saved.status_code, saved.json()["size"]) == (201, 2 * len(kept))

    path = f"/api/v1/artifacts/{saved.json()['id']}/content"
    part = http.get(path, headers={"range": "bytes=1000000-1000009"})
    assert (part.status_code, part.content) == (206, b"x" * 10)
    assert part.headers["content-range"] == f"bytes 1000000-1000009/{2 * len(kept)}"
    whole = http.get(path)
    assert whole.content == kept * 2
    assert http.get(path, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


def sum_of_files(folder: Path) -> int:
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size if path.is_file() else 0
    return found


def test_longwick_itself_says_what_is_too_large(http: httpx2.Client) -> None:
    refused = http.post("/api/v1/runs", json={"input": "x" * 2**21})
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


def test_pages_of_other_names_and_origins_get_nothing(proxy: Proxy, http: httpx2.Client) -> None:
    with proxy.client() as browser:
        own = browser.post("/api/v1/threads", json={}, headers={"origin": proxy.url})
        assert own.status_code == 201
        foreign = browser.post("/api/v1/threads", json={}, headers={"origin": "https://evil.example"})
        assert (foreign.status_code, foreign.json()["code"]) == (403, "forbidden")
    named = http.get("/api/v1/threads", headers={"host": "evil.example"})
    if proxy.kind == "nginx":
        assert (named.status_code, named.json()["code"]) == (421, "misdirected_request")
    else:
        # Caddy has no such site, and says nothing.
        assert named.content == b""


@contextlib.contextmanager
def a_key(site: Site) -> Iterator[str]:
    """A key of the owner that all the others are; when it is gone, who comes without one is let in again."""
    record = Database(site.record_url)
    made = record.write(lambda db: keys.create(db, "local"))
    try:
        yield made.text
    finally:
        record.write(lambda db: keys.revoke(db, made.key.id))
        record.write(lambda db: keys.remove(db, made.key.id))
        record.dispose()
        for host in site.hosts:
            wait_for(lambda url=host.url: httpx2.get(f"{url}/api/v1/threads", trust_env=False).status_code == 200)  # type: ignore[misc]


def test_the_public_name_wants_a_key_and_its_own_page_may_write(site: Site) -> None:
    with site.proxy.client(http2=False) as http:
        named = {"host": "longwick.example.com", "origin": "https://longwick.example.com"}
        assert http.post("/api/v1/threads", json={}, headers=named).status_code == 401
        with a_key(site) as key:
            shown = {**named, "authorization": f"Bearer {key}"}
            assert http.post("/api/v1/threads", json={}, headers=shown).status_code == 201


def test_metrics_are_not_for_everybody(http: httpx2.Client) -> None:
    assert http.get("/metrics").status_code == 404


def test_agents_reach_the_tools_through_it(proxy: Proxy) -> None:
    refused = httpx2.post(proxy.mcp_url, json={}, trust_env=False)
    assert (refused.status_code, refused.headers["www-authenticate"].split()[0]) == (401, "Bearer")
    metrics = httpx2.get(proxy.mcp_url.replace("/mcp", "/metrics"), trust_env=False)
    assert metrics.status_code == 404


def test_an_agent_saves_a_file_through_it(site: Site) -> None:
    with site.proxy.client() as http:
        run = submit(http, "save a.txt")
        assert over(http, run)["status"] == "succeeded"
        saved = http.get(f"/api/v1/runs/{run['id']}/artifacts").json()["data"]
        assert [each["name"] for each in saved] == ["a.txt"]


def test_plain_http_is_sent_to_https(site: Site) -> None:
    (port,) = re.findall(r"listen 127.0.0.1:(\d+);\n", (site.proxy.folder / "nginx.conf").read_text())[:1]
    sent = httpx2.get(f"http://127.0.0.1:{port}/a?b=c", headers={"host": "longwick.example.com"}, trust_env=False)
    assert (sent.status_code, sent.headers["location"]) == (308, "https://longwick.example.com/a?b=c")


def test_a_silent_stream_outlives_the_patience_of_the_proxy(site: Site, tmp_path: Path) -> None:
    """With all times a tenth of what they are."""
    settings = (ROOT / "deploy" / "nginx.conf").read_text()
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", settings)
    assert int(patience) >= 4 * HEARTBEAT_SECONDS
    host = site.host("127.0.0.4")
    quick = f"import web.stream; web.stream.HEARTBEAT_SECONDS = {HEARTBEAT_SECONDS / 10}"
    host.programs["web"] = ["-c", f"{quick}; from web.__main__ import main; main()"]
    host.start("web")
    impatient = {f"proxy_read_timeout {patience}s": f"proxy_read_timeout {int(patience) // 10}s"}
    try:
        with Proxy("nginx", tmp_path, [host, host], impatient) as proxy, proxy.client() as browser:
            run = submit(browser, f"say 1 0; wait {tmp_path / 'gate'}; say 1 0")
            with browser.stream("GET", f"/api/v1/runs/{run['id']}/events", headers=STREAM) as answer:
                lines = []
                for line in answer.iter_lines():
                    lines.append(line)
                    # The proxy has lost its patience twice by then.
                    if lines.count(": ping") == 9:
                        (tmp_path / "gate").touch()
            check_whole([event for _, event in frames(iter(lines))])
    finally:
        host.end()


def test_a_web_process_that_goes_is_not_missed(site: Site, proxy: Proxy, tmp_path: Path) -> None:
    host = site.hosts[0]
    with proxy.client(http2=False) as http:
        host.stop("web")
        try:
            runs = [submit(http, "say 1 0") for _ in range(4)]
            assert {over(http, run)["status"] for run in runs} == {"succeeded"}
        finally:
            host.start("web")


def test_a_sign_in_over_https_is_for_https_alone_whatever_the_client_says(site: Site, proxy: Proxy) -> None:
    with a_key(site) as key:
        with proxy.client(http2=False) as http:
            claims = {"x-forwarded-proto": "http", "x-forwarded-for": "203.0.113.7"}
            signed_in = http.post("/api/v1/session", json={"key": key}, headers=claims)
            assert (signed_in.status_code, signed_in.json()["owner"]) == (200, "local")
            assert "; secure" in signed_in.headers["set-cookie"].lower()
            assert signed_in.headers["set-cookie"].startswith("__Host-")
            assert http.get("/api/v1/threads").status_code == 200
        with proxy.client(http2=False) as stranger:
            # A web process may have looked for keys a moment before there was one.
            wait_for(lambda: stranger.get("/api/v1/threads").status_code == 401, what="a stranger to be refused")
