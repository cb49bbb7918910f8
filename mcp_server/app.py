"""The MCP server as an ASGI application, put together in one place.

Stateless and with JSON answers: any replica serves any request, and a client that hangs up cuts no save in half.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from mcp.server import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from longwick import __version__, metrics, traces
from longwick.broadcast import Publisher
from longwick.database import Database
from longwick.errors import BadSetting
from longwick.settings import Settings
from longwick.storage import Storage, storage_of
from mcp_server.auth import RequireSession
from mcp_server.tools import Tools

BODY_BYTES = 32 * 2**20

INSTRUCTIONS = """\
Longwick shows the user a chat. Files that you only write to disk are not shown there and are lost when your turn ends.
Hand over every file that the user should have with save_artifact: the whole content, under a short relative name.
Saving under a name again makes its next version. Before you change a file of an earlier turn, or one that the user
attached, read it: list_artifacts names them all, read_artifact gives their content. In long work, tell the user now
and then how far you are with report_progress."""


def create_app(settings: Settings, storage: Storage | None = None) -> Starlette:
    """The server for these settings; its files go to `storage`, else to where the settings say.

    Raises:
        BadSetting: `LONGWICK_MCP_URL` is not a URL, or the database is none that the record can live in.
    """
    database = Database(settings.database)
    publisher = Publisher(settings.redis, database)

    def tell(announced: list[Any]) -> None:
        metrics.count(announced)
        publisher.publish(announced)

    database.after_commit = tell
    metrics.watch_space(settings.data_dir)
    tools = Tools(settings, database, storage or storage_of(settings))
    # Without `subscriptions` a client that asks to listen is told at once that there is nothing to listen to.
    server = MCPServer(
        "longwick", version=__version__, instructions=INSTRUCTIONS, tools=tools.offered(), subscriptions=False
    )
    # Called for the session manager that it makes; its application has no place for our checks.
    server.streamable_http_app(
        stateless_http=True,
        json_response=True,
        max_request_body_size=BODY_BYTES,
        transport_security=_security(settings.mcp_url),
    )
    endpoint = StreamableHTTPASGIApp(server.session_manager)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with publisher:
            async with server.session_manager.run():
                yield
        database.dispose()
        traces.end()

    return Starlette(
        routes=[
            # A GET would open a stream that is held for as long as its CLI lives and never says anything.
            Route("/mcp", RequireSession(endpoint, database), methods=["POST"]),
            Route("/healthz", healthz),
            Route("/metrics", scraped),
        ],
        lifespan=lifespan,
    )


async def healthz(request: Request) -> JSONResponse:
    """Whether this process answers; whether the record does is the web tier's `/readyz` to say."""
    return JSONResponse({"status": "ok"})


async def scraped(request: Request) -> Response:
    """Prometheus's text; there is nothing in it that only some may see."""
    return Response(metrics.exposition(), headers={"content-type": metrics.CONTENT_TYPE})


def _security(mcp_url: str) -> TransportSecuritySettings:
    """Only the names that agents are given for this server, so that no web page reaches it by a name of its own."""
    try:
        host = urlsplit(mcp_url).hostname
    except ValueError:
        host = None
    if not host:
        raise BadSetting(f"LONGWICK_MCP_URL: {mcp_url!r} is not a URL like http://127.0.0.1:8001/mcp")
    names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
    hosts = [pattern for name in sorted(names) for pattern in (name, f"{name}:*")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=[])
