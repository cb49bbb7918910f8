"""An agent's side of the MCP server: what it holds while its attempt lasts, and its ways to call."""

import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import anyio
import httpx2
import uvicorn
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, RequestParamsMeta, TextContent
from starlette.applications import Starlette
from waiting import wait_for

from longwick import runs, sessions, threads
from longwick.database import Database, Db
from longwick.runs import NewRun

LEGACY, MODERN = "2025-11-25", "2026-07-28"
MODES = ("legacy", MODERN)
"""The two eras of the protocol, as the package's client calls them: with a handshake, and without."""
CALL_SECONDS = 10.0
NO_CAS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here is https, and to load the CAs for every client takes longer than its calls."""


@dataclass(frozen=True)
class Agent:
    """One attempt of a run, with the token of its session."""

    url: str
    run_id: str
    thread_id: str
    attempt: int
    session_id: str
    token: str

    def call(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        mode: str = MODERN,
        meta: Mapping[str, Any] | None = None,
    ) -> CallToolResult:
        """Call a tool with the package's client, on a connection of its own."""

        async def call() -> CallToolResult:
            async with self.connected(mode) as client:
                return await client.call_tool(tool, dict(arguments or {}), meta=cast(RequestParamsMeta | None, meta))

        return anyio.run(call)

    @asynccontextmanager
    async def connected(self, mode: str) -> AsyncIterator[Client]:
        """A client of the package that has connected, by a handshake or without."""
        bearer = {"Authorization": f"Bearer {self.token}"}
        async with (
            httpx2.AsyncClient(headers=bearer, timeout=CALL_SECONDS, verify=NO_CAS) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=mode) as client,
        ):
            yield client

    def post(
        self, body: dict[str, Any] | bytes, headers: Mapping[str, str] | None = None, *, version: str = LEGACY
    ) -> httpx2.Response:
        """Send a body as it is, as a client of that version would; `headers` win over the usual ones."""
        usual = {"Authorization": f"Bearer {self.token}", **usual_headers(body, version)}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with httpx2.Client(headers={**usual, **(headers or {})}, timeout=CALL_SECONDS, verify=NO_CAS) as http:
            return http.post(self.url, content=content)


def said(answer: CallToolResult) -> str:
    """All text of an answer, as a model reads it."""
    assert all(isinstance(part, TextContent) for part in answer.content)
    return "\n".join(part.text for part in answer.content if isinstance(part, TextContent))


def request(method: str, params: Mapping[str, Any] | None = None, *, version: str = LEGACY) -> dict[str, Any]:
    """A JSON-RPC request as a client of that version writes it."""
    params = dict(params or {})
    if version == MODERN:
        envelope = {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params["_meta"] = {**params.get("_meta", {}), **envelope}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def usual_headers(body: dict[str, Any] | bytes, version: str) -> dict[str, str]:
    """What a client of that version sends beside its token."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": version,
    }
    if version == MODERN and isinstance(body, dict):
        headers["Mcp-Method"] = body["method"]
        if "name" in body["params"]:
            headers["Mcp-Name"] = body["params"]["name"]
    return headers


def start_run(database: Database, url: str, *, thread_id: str | None = None, lifetime_seconds: float = 60) -> Agent:
    """Accept and claim a run, in a thread of its own unless one is named, and open its session."""

    def work(db: Db) -> str:
        thread = threads.get(db, "local", thread_id) if thread_id else threads.create(db, "local")
        return runs.create(db, thread, NewRun(input="Write a report", agent="demo")).id

    return claim(database, url, database.write(work), lifetime_seconds=lifetime_seconds)


def claim(database: Database, url: str, run_id: str, *, lifetime_seconds: float = 60) -> Agent:
    """Begin the next attempt of a run that is queued."""

    def work(db: Db) -> Agent:
        run = runs.claim(db, run_id, "wrk_test", {})
        assert run is not None, "the run cannot be claimed"
        session = sessions.open_session(db, run, lifetime_seconds)
        return Agent(url, run.id, run.thread_id, run.attempt, session.id, session.token)

    return database.write(work)


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """The application behind a real server on loopback, in a thread; gives the URL of its `/mcp`."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listening],), name="mcp server")
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive(), what="the server")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server does not stop"
