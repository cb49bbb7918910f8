"""The web application, put together in one place."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import Scope

from longwick import __version__, metrics, traces
from longwick.broadcast import Publisher
from longwick.database import Database
from longwick.errors import LongwickError
from longwick.limits import Limits
from longwick.queue import Dispatcher
from longwick.settings import Settings
from longwick.storage import storage_of
from web.agents import Agents
from web.callers import SAFE_METHODS, Callers
from web.checks import Check, Checks, mcp_answers, redis_answers
from web.feed import Feed
from web.guard import Guard
from web.hub import Hub
from web.lookout import Lookout
from web.openapi import described, operation_id
from web.page import page
from web.presence import Presence
from web.problems import problem
from web.routes import agents, approvals, artifacts, events, feed, files, health, runs, session, threads, tickets, usage
from web.throttle import Throttle
from web.traffic import Traffic
from web.upload import OVERHEAD_BYTES

# Routes run on up to 40 threads (anyio's default), each with a connection at most; the pool holds twice this size.
POOL_SIZE = 24
MCP_SECONDS = 1.0


def create_app(settings: Settings, bound: str = "") -> FastAPI:
    """The application; its parts start and stop with it, so it can be run once.

    It listens on the address `bound`, or else on the one of the settings.

    Raises:
        BadSetting: a setting cannot be used.
    """
    database = Database(settings.database, pool_size=POOL_SIZE)
    publisher = Publisher(settings.redis, database)

    def tell(announced: list[Any]) -> None:
        metrics.count(announced)
        publisher.publish(announced)

    database.after_commit = tell
    dispatcher = Dispatcher(database, settings.redis, Limits.usual(settings))
    lookout = Lookout(database, settings.lease_seconds)
    hub = Hub(settings.redis, database)
    metrics.watch_space(settings.data_dir)
    presence = Presence(database)
    callers = Callers(settings, database, presence, bound or settings.host)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(traces.end)
            stack.callback(database.dispose)
            stack.enter_context(publisher)
            stack.enter_context(dispatcher)
            stack.enter_context(lookout)
            await stack.enter_async_context(hub)
            await stack.enter_async_context(presence.looked_after())
            # What was accepted before a crash may not have been hinted at, or only in the record.
            dispatcher.start_over()
            yield

    app = FastAPI(
        title="Longwick",
        version=__version__,
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        telemetry=_telemetry(),
    )
    app.state.settings = settings
    app.state.database = database
    app.state.storage = storage_of(settings)
    app.state.dispatcher = dispatcher
    app.state.hub = hub
    app.state.presence = presence
    app.state.callers = callers
    app.state.throttle = Throttle()
    app.state.feed = Feed(hub, database)
    traffic = Traffic(settings.requests_per_second_per_owner, settings.streams_per_owner)
    app.state.traffic = traffic
    app.state.agents = Agents(settings, lookout)
    app.state.checks = Checks(
        record=Check(lookout.look),
        redis=Check(partial(redis_answers, settings.redis)),
        mcp=Check(partial(mcp_answers, settings.mcp_url, MCP_SECONDS)),
        unsettled=Check(partial(database.read, metrics.count_unsettled)),
    )

    app.add_middleware(
        Guard,
        host_names=settings.host_names,
        callers=callers,
        traffic=traffic,
        body_bytes=settings.body_bytes,
        upload_bytes=settings.artifact_bytes + OVERHEAD_BYTES,
    )
    for kind in (LongwickError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, problem)

    api = APIRouter(prefix="/api/v1")
    for routes in (session, tickets, agents, threads, files, runs, events, approvals, artifacts, feed, usage):
        api.include_router(routes.router)
    app.include_router(api)
    app.include_router(health.router)
    # Last, and not mounted: a mount would also take what a route refuses only for its method.
    app.router.default = page()
    app.openapi = partial(described, app)  # type: ignore[method-assign] # FastAPI's own way to extend it
    return app


def _telemetry() -> TelemetryConfig:
    """A span for each request that may change something, while anybody collects traces; and nothing else."""

    def exclude(scope: Scope) -> bool:
        # A query may have a ticket in it; nothing that changes anything takes one.
        return scope.get("method") in SAFE_METHODS or bool(scope.get("query_string"))

    provider = traces.provider()
    return {
        "tracing": provider is not None,
        "tracer_provider": provider,
        "exclude": exclude,
        "operation_spans": False,
        "metrics": False,
        "logs": False,
        "auto_configure": False,
    }
