import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import anyio
import httpx2
import pytest
from mcp_agent import CALL_SECONDS, LEGACY, MODERN, Agent, request, said, served, start_run, usual_headers
from processes import Launch, Process, free_port
from redis import Redis
from waiting import wait_for

from longwick.broadcast import decode, run_channel
from longwick.database import Database
from longwick.errors import BadSetting
from longwick.seals import find_key, opened
from longwick.settings import Settings
from mcp_server.app import BODY_BYTES, create_app

TOOLS = {"save_artifact", "list_artifacts", "read_artifact", "report_progress"}
VERSIONS = (LEGACY, MODERN)
PROMPT_SECONDS = 2.0

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"])


def site(url: str, path: str) -> httpx2.URL:
    return httpx2.URL(url).join(path)


# What a client meets when it connects.


def test_health_needs_no_token_and_no_record(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": "sqlite:////no/such/folder/record.db"})
    with served(create_app(nowhere)) as url:
        answer = httpx2.get(site(url, "/healthz"))
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("asked_for", ["auto", "legacy", MODERN])
def test_a_client_of_either_era_connects_and_finds_the_four_tools(agent: Agent, asked_for: str) -> None:
    async def look() -> None:
        async with agent.connected(asked_for) as client:
            listed = await client.list_tools()
            assert {tool.name for tool in listed.tools} == TOOLS
            assert all(tool.description and "\n    " not in tool.description for tool in listed.tools)
            assert all(tool.input_schema["additionalProperties"] is False for tool in listed.tools)
            assert client.server_info is None or client.server_info.name == "longwick"
            if asked_for != MODERN:  # which skips the question that would be answered with them
                assert client.instructions
                assert "save_artifact" in client.instructions

    anyio.run(look)


def test_no_session_is_kept_between_requests(agent: Agent) -> None:
    answer = agent.post(request("tools/call", {"name": "list_artifacts", "arguments": {}}))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert "mcp-session-id" not in answer.headers
    assert answer.json()["result"]["structuredContent"] == {"artifacts": [], "omitted": 0}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY])
def test_every_version_with_a_handshake_is_agreed_to(agent: Agent, version: str) -> None:
    hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    answer = agent.post(request("initialize", hello), version=version).json()["result"]
    assert answer["protocolVersion"] == version
    assert answer["serverInfo"]["name"] == "longwick"


def test_a_client_that_names_no_version_is_served(agent: Agent) -> None:
    headers = {"Authorization": f"Bearer {agent.token}", "Accept": "application/json, text/event-stream"}
    answer = httpx2.post(agent.url, json=request("tools/list"), headers=headers)
    assert {tool["name"] for tool in answer.json()["result"]["tools"]} == TOOLS


@pytest.mark.parametrize(("version", "status"), [(LEGACY, 200), (MODERN, 404)], ids=["with a handshake", "without one"])
def test_listening_is_refused_at_once(agent: Agent, version: str, status: int) -> None:
    listen = {"notifications": {"toolsListChanged": True}}
    began = time.monotonic()
    answer = agent.post(request("subscriptions/listen", listen, version=version), version=version)
    assert time.monotonic() - began < CALL_SECONDS
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == -32601


def test_nothing_is_offered_that_could_be_listened_to(agent: Agent) -> None:
    found = agent.post(request("server/discover", version=MODERN), version=MODERN).json()["result"]
    assert MODERN in found["supportedVersions"]
    assert not any(value for offer in found["capabilities"].values() for value in offer.values())


def test_a_client_that_was_refused_to_listen_goes_on_with_its_connection(agent: Agent) -> None:
    headers = {"Authorization": f"Bearer {agent.token}"}
    with httpx2.Client(headers=headers, timeout=CALL_SECONDS) as http:
        for method in ("server/discover", "subscriptions/listen", "prompts/list", "resources/list", "tools/list"):
            body = request(method, {"notifications": {}}, version=MODERN)
            last = http.post(agent.url, json=body, headers=usual_headers(body, MODERN))
    assert {tool["name"] for tool in last.json()["result"]["tools"]} == TOOLS


# What is refused, and how.


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_any_method_but_post_is_refused(agent: Agent, method: str) -> None:
    for version in VERSIONS:
        headers = {
            "Authorization": f"Bearer {agent.token}",
            "Accept": "text/event-stream",
            "MCP-Protocol-Version": version,
        }
        answer = httpx2.request(method, agent.url, headers=headers, timeout=CALL_SECONDS)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/", "/sse", "/messages/", "/mcp/more", "/docs"])
def test_nothing_is_served_elsewhere(url: str, path: str) -> None:
    assert httpx2.get(site(url, path)).status_code == 404
    assert httpx2.post(site(url, path), json={}).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a2_a_foreign_host_is_refused(agent: Agent, host: str) -> None:
    for version in VERSIONS:
        answer = agent.post(request("tools/list", version=version), {"Host": host}, version=version)
        assert answer.status_code == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null", "http://127.0.0.1"]
)
def test_a3_a_web_page_is_refused(agent: Agent, origin: str) -> None:
    for version in VERSIONS:
        answer = agent.post(request("tools/list", version=version), {"Origin": origin}, version=version)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("mcp_url", "hosts"),
    [
        ("http://mcp.internal:8001/mcp", ["mcp.internal", "mcp.internal:8001", "mcp.internal:443", "localhost:1"]),
        ("https://tools.example/longwick/mcp", ["tools.example", "tools.example:443", "127.0.0.1"]),
        ("http://[fd00::7]:8001/mcp", ["[fd00::7]:8001", "[fd00::7]", "[::1]:8001"]),
    ],
)
def test_the_server_answers_to_the_name_that_agents_are_given(
    database: Database, settings: Settings, mcp_url: str, hosts: list[str]
) -> None:
    with served(create_app(settings.model_copy(update={"mcp_url": mcp_url}))) as url:
        agent = start_run(database, url)
        assert {agent.post(request("tools/list"), {"Host": host}).status_code for host in hosts} == {200}
        assert agent.post(request("tools/list"), {"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("mcp_url", ["", "mcp.internal:8001", "/mcp", "http://[::1/mcp"])
def test_an_address_that_is_none_is_refused_at_start(settings: Settings, mcp_url: str) -> None:
    with pytest.raises(BadSetting, match="LONGWICK_MCP_URL"):
        create_app(settings.model_copy(update={"mcp_url": mcp_url}))


def test_a10_a_body_over_the_limit_is_refused(agent: Agent) -> None:
    for version in VERSIONS:
        arguments = {"name": "a", "content": ""}
        call = request("tools/call", {"name": "save_artifact", "arguments": arguments}, version=version)
        arguments["content"] = "x" * (BODY_BYTES - len(json.dumps(call)) + 1)
        assert agent.post(call, version=version).status_code == 413


def test_a10_a_body_over_the_limit_is_refused_also_when_its_length_is_not_told(agent: Agent) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(BODY_BYTES // 2**20 + 1):
            yield b" " * 2**20

    headers = {"Authorization": f"Bearer {agent.token}", "Content-Type": "application/json"}
    assert httpx2.post(agent.url, content=chunks(), headers=headers, timeout=CALL_SECONDS).status_code == 413


def test_a_body_at_the_limit_is_read(agent: Agent) -> None:
    listing = json.dumps(request("tools/list")).encode()
    assert agent.post(listing.ljust(BODY_BYTES)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 200_000, b'{"a":' * 200_000, b"[]", b"1" * 10_000],
    ids=["empty", "cut", "no text", "deep list", "deep object", "batch", "long number"],
)
def test_a10_a_body_that_is_no_request_is_refused(agent: Agent, body: bytes) -> None:
    for version in VERSIONS:
        answer = agent.post(body, version=version)
        assert answer.status_code == 400
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a10_a_body_of_another_kind_is_refused(agent: Agent, media_type: str) -> None:
    for version in VERSIONS:
        answer = agent.post(request("tools/list", version=version), {"Content-Type": media_type}, version=version)
        assert answer.status_code in (400, 415)
        assert "save_artifact" not in answer.text


def test_an_unknown_tool_is_a_tool_error(agent: Agent, mode: str) -> None:
    answer = agent.call("rm_rf", {"path": "/"}, mode=mode)
    assert answer.is_error
    assert "rm_rf" in said(answer)


# Live copies: the record comes first, Redis is told afterwards.


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis may be slow to answer, on a busy machine."""
    monkeypatch.setattr("longwick.broadcast.TIMEOUT_SECONDS", 10.0)


@pytest.mark.usefixtures("patient")
def test_what_was_saved_is_told_to_who_watches_the_run(agent: Agent, database: Database, redis_url: str) -> None:
    channel = run_channel(agent.run_id)
    with Redis.from_url(redis_url) as client, closing(client.pubsub(ignore_subscribe_messages=True)) as watch:
        watch.subscribe(channel)
        wait_for(lambda: client.pubsub_numsub(channel)[0][1] == 1, what="the subscription")
        agent.call("save_artifact", {"name": "report.md", "content": "# Report"})
        message = wait_for(lambda: watch.get_message(timeout=0.1), what="the live copy")
    [(seq, line)] = decode(agent.run_id, opened(database.read(find_key), channel, message["data"])).after(0)
    assert seq == 3
    assert json.loads(line)["type"] == "artifact.saved"


def test_without_redis_a_save_is_as_quick_and_as_durable(database: Database, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # which takes connections and never answers
        frozen = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with served(create_app(settings.model_copy(update={"redis_url": frozen}))) as url:
            agent = start_run(database, url)
            began = time.monotonic()
            for number in range(5):
                assert not agent.call("save_artifact", {"name": f"{number}.md", "content": "x"}).is_error
            assert time.monotonic() - began < 5 * PROMPT_SECONDS
            files = agent.call("list_artifacts").structured_content
    assert files
    assert len(files["artifacts"]) == 5


# The command.


@pytest.fixture
def start(launch: Launch, settings: Settings) -> Callable[..., Process]:
    """Run the command with these settings and the given arguments."""

    def start(*args: str, **env: str) -> Process:
        return launch([sys.executable, "-P", "-m", "mcp_server", *args], env={**settings.child_environ(), **env})

    return start


def answers(url: str) -> bool:
    try:
        return httpx2.get(site(url, "/healthz"), timeout=PROMPT_SECONDS).status_code == 200
    except httpx2.TransportError:
        return False


def test_the_command_serves_on_its_port_until_it_is_told_to_stop(
    start: Callable[..., Process], database: Database
) -> None:
    port = free_port()
    process = start("--port", str(port))
    url = f"http://127.0.0.1:{port}/mcp"
    wait_for(lambda: answers(url), seconds=20, what="the server")
    agent = start_run(database, url)
    assert not agent.call("save_artifact", {"name": "report.md", "content": "# Report"}).is_error
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"POST /mcp HTTP/1.1\r\n")
        process.send(signal.SIGTERM)
        process.wait(30)
    assert "Traceback" not in process.output
    assert agent.token not in process.output
    assert [json.loads(line)["tier"] for line in process.output.splitlines()]


def test_the_command_takes_over_a_listening_socket(run_server: Callable[[], tuple[Process, str]]) -> None:
    """Who calls before the server is up waits in the socket's queue, and is not refused."""
    _, url = run_server()
    assert httpx2.get(site(url, "/healthz"), timeout=20).status_code == 200


def test_a_descriptor_that_is_no_socket_is_told_in_words(start: Callable[..., Process]) -> None:
    process = start("--fd", "99")
    assert process.wait(20) == 2
    assert process.output.strip().splitlines()[-1] == "longwick: --fd 99 is not an open socket"


def test_a_port_that_is_taken_is_told_in_words(start: Callable[..., Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("--port", str(taken.getsockname()[1]))
        assert process.wait(20) == 2
    assert process.output.strip().splitlines()[-1].startswith("longwick: cannot listen on 127.0.0.1:")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LONGWICK_MCP_URL", "nowhere"),
        ("LONGWICK_DATABASE_URL", "mysql://db/longwick"),
        ("LONGWICK_MCP_PORT", "8001"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_in_words(start: Callable[..., Process], name: str, value: str) -> None:
    process = start("--port", "0", **{name: value})
    assert process.wait(20) == 2
    assert process.output.strip().splitlines()[-1].startswith("longwick: ")
    assert name in process.output
    assert "Traceback" not in process.output
