"""The gateway: where CLIs have models asked. They hold a pass; the provider's key is put in here.

It lives in a thread of the worker with an event loop of its own, and listens on loopback; a sandbox reaches it through
the door of its attempt (worker/door.py). What comes back is handed on as it comes, byte for byte.
"""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self

import httpx2
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from longwick import metrics, traces
from longwick.heads import bounded
from longwick.places import Place
from longwick.profiles import Profile
from longwick.providers import Name
from worker import relay
from worker.passes import Pass, Refused
from worker.relay import Request, Room
from worker.usage import Tokens, UsageReader

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
BACKLOG = 2048
STOP_SECONDS = 5
KEEP_ALIVE_SECONDS = 3600
"""A CLI keeps its connections as long as it likes; they end with it."""
LARGE_BYTES = 256 * 2**10
"""A request of more is read beside the loop, in which all wait for all."""
TIMEOUT = httpx2.Timeout(None, connect=10.0, write=120.0)
"""How long an answer may take is the CLI's to say, and the run's."""
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=60.0)


@dataclass(frozen=True, slots=True)
class Route:
    """A request of a CLI that is passed on."""

    provider: Name
    path: str
    """Under the provider's base URL."""
    method: str = "POST"
    asks: bool = True
    """Whether it names the model that it is about."""
    costs: bool = True
    """Whether its answer is paid for."""


ROUTES = {
    "/anthropic/v1/messages": Route("anthropic", "/v1/messages"),
    "/anthropic/v1/messages/count_tokens": Route("anthropic", "/v1/messages/count_tokens", costs=False),
    "/anthropic/v1/models": Route("anthropic", "/v1/models", "GET", asks=False, costs=False),
    "/openai/v1/responses": Route("openai", "/responses"),
    "/openai/v1/chat/completions": Route("openai", "/chat/completions"),
    "/openai/v1/models": Route("openai", "/models", "GET", asks=False, costs=False),
}


class Gateway:
    """Enter it to start its thread. Its methods are called from any other."""

    def __init__(self, mcp_url: str) -> None:
        self._mcp_url = mcp_url
        self._passes: dict[str, Pass] = {}
        self._streams: dict[str, set[asyncio.Task[Any]]] = {}
        """Token -> the requests that are being answered."""
        self._listening = socket.create_server((HOST, 0), backlog=BACKLOG)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self.loop: asyncio.AbstractEventLoop
        self.place: Place = self._listening.getsockname()
        self.url = f"http://{HOST}:{self.place[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_SECONDS)

    @contextmanager
    def issued(self, profile: Profile) -> Iterator[Pass]:
        """A pass for a CLI of this profile; afterwards it is worth nothing, and what is still answered is cut off."""
        made = self.issue(profile)
        try:
            yield made
        finally:
            self.revoke(made)

    def issue(self, profile: Profile) -> Pass:
        """A pass that somebody will `revoke`."""
        made = Pass(profile)
        self._passes[made.token] = made
        return made

    def revoke(self, which: Pass) -> None:
        """End a pass."""
        self._passes.pop(which.token, None)

        def cut() -> None:
            for stream in self._streams.pop(which.token, ()):
                stream.cancel()

        self.loop.call_soon_threadsafe(cut)

    def protocol(self, room: Room | None = None) -> asyncio.Protocol:
        """What answers a connection; those of a sandbox come from one room."""
        # As uvicorn.Server does; which protocol class it is, only the configuration knows.
        make: Any = self._config.http_protocol_class
        made: asyncio.Protocol = make(config=self._config, server_state=self._state, app_state={"room": room or Room()})
        return made

    def _run(self) -> None:
        self._config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http=bounded(HttpToolsProtocol),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._config.load()
        # An answer that a provider breaks off is broken off here: what it calls an error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._state = ServerState()
        with asyncio.Runner(loop_factory=self._config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(self._new_client())
            server = await self.loop.create_server(self.protocol, sock=self._listening)
            self._started.set()
            await self._stop.wait()
            server.close()
            for task in self._state.tasks:
                task.cancel()
            await asyncio.gather(*self._state.tasks, return_exceptions=True)

    def _new_client(self) -> httpx2.AsyncClient:
        # The runs of all owners share it: what one is given to keep, the next would send.
        no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=()))
        # Whatever proxy leads to the providers, our own tools are near.
        near = {self._mcp_url.rpartition("/")[0]: httpx2.AsyncHTTPTransport(limits=LIMITS)}
        return httpx2.AsyncClient(timeout=TIMEOUT, limits=LIMITS, cookies=no_cookies, mounts=near)

    async def _answer(self, scope: Any, receive: relay.Receive, send: relay.Send) -> None:
        """One request, as ASGI has it."""
        request = Request(scope, receive, send)
        try:
            if request.path == "/mcp":
                await self._tools(request)
            else:
                await self._models(request)
        except asyncio.CancelledError:
            # What is on its way back already stays unfinished.
            await request.refuse(401, "authentication_error", "the run is over")
        except (relay.Unreadable, httpx2.InvalidURL) as error:
            await request.refuse(400, "invalid_request_error", str(error))
        except relay.TooLarge as error:
            await request.refuse(413, "request_too_large", str(error))
        except relay.Gone:
            pass
        except Exception:
            log.exception("a request could not be answered")
            await request.refuse(500, "internal_error", "the gateway failed")
        finally:
            request.let_go()

    async def _tools(self, request: Request) -> None:
        """Pass on a call of our tools; the MCP server itself looks at its token."""
        headers = relay.request_headers(request.headers, keep_authorization=True)
        out = self._client.build_request(
            request.method, self._mcp_url, headers=headers, content=await request.body() or None
        )
        try:
            await request.relay(self._client, out)
        except httpx2.TransportError as error:
            await request.refuse(502, "mcp_unavailable", f"the tools cannot be reached ({type(error).__name__})")

    async def _models(self, request: Request) -> None:
        route = ROUTES.get(request.path)
        if route is None or request.method != route.method:
            await request.refuse(404, "not_found", f"the gateway has no {request.method} {request.path}")
            return
        given = self._passes.get(request.token)
        if given is None or not given.run_id:
            await request.refuse(401, "authentication_error", "this token is of no run that is at work")
            return
        if given.profile.asks != route.provider:
            await request.refuse(403, "permission_error", f"this agent has nothing to do with {route.provider}")
            return
        task = asyncio.current_task()
        assert task is not None
        streams = self._streams.setdefault(given.token, set())
        streams.add(task)
        try:
            with traces.span("gateway", parent=given.traceparent, provider=route.provider, path=route.path):
                await self._ask(request, route, given)
        finally:
            streams.discard(task)

    async def _ask(self, request: Request, route: Route, given: Pass) -> None:
        """Have the provider answer, as far as the pass covers it."""
        began = time.monotonic()
        upstream = given.profile.upstream
        if upstream is None:
            await request.refuse(503, "api_error", f"the worker has no key of {route.provider}")
            return
        body = await request.body()
        model = ""
        if route.asks:
            tell_usage = route.path == "/chat/completions"
            read = partial(relay.asked, body, encoding=request.header("content-encoding"), tell_usage=tell_usage)
            if len(body) > LARGE_BYTES:
                async with request.room.reading:
                    model, body = await asyncio.to_thread(read)
            else:
                model, body = read()
        try:
            given.check(model if route.asks else None)
        except Refused as refused:
            metrics.GATEWAY_REQUESTS.labels(route.provider, "refused").inc()
            await request.refuse(403, "permission_error", refused.words)
            return
        headers = relay.request_headers(request.headers, beta=upstream.beta)
        headers.update(upstream.headers)
        url = upstream.base_url + route.path + request.query
        out = self._client.build_request(request.method, url, headers=headers, content=body or None)

        def used(more: Tokens) -> None:
            given.count(route.provider, model, more)
            for kind, count in more.items():
                metrics.GATEWAY_TOKENS.labels(route.provider, kind.removesuffix("_tokens")).inc(max(0, count))

        def began_to_answer(response: httpx2.Response) -> UsageReader | None:
            metrics.GATEWAY_REQUESTS.labels(route.provider, str(response.status_code)).inc()
            traces.note(model=model, http_status=response.status_code)
            metrics.GATEWAY_FIRST_BYTE_SECONDS.labels(route.provider).observe(time.monotonic() - began)
            if not (route.costs and response.is_success):
                return None
            return UsageReader(used, streamed=relay.is_stream(response), asked=len(body))

        try:
            await request.relay(self._client, out, began_to_answer)
        except httpx2.TransportError as error:
            metrics.GATEWAY_REQUESTS.labels(route.provider, "unreachable").inc()
            log.warning("%s could not be reached: %s", route.provider, type(error).__name__)
            await request.refuse(502, "api_error", f"the provider cannot be reached ({type(error).__name__})")
