"""The door of the tier: whom a request is for and from, how much it carries, and by which id it is known."""

import re

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longwick.errors import Forbidden, KeyInAddress, Unauthenticated
from longwick.ids import new_id
from longwick.logs import bound
from longwick.settings import is_loopback
from web.callers import SAFE_METHODS, SESSION, Caller, Callers
from web.problems import problem
from web.traffic import Traffic

HEADER_BYTES = 32 * 1024
# What every answer says unless its route says otherwise: nothing of ours belongs into another site's page.
ALWAYS = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
UPLOAD = re.compile(r"/api/v1/threads/[^/]+/files")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class Guard:
    """Middleware that answers whatever must not reach a route, and every error that no route foresaw."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host_names: frozenset[str],
        callers: Callers,
        traffic: Traffic,
        body_bytes: int,
        upload_bytes: int,
    ) -> None:
        self._app = app
        self._host_names = host_names
        self._callers = callers
        self._traffic = traffic
        self._body_bytes = body_bytes
        self._upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Never one from outside: it is what our log is searched by.
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        request = Request(scope)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in ALWAYS.items():
                    headers.setdefault(name, value)
                # Twice, for clients of the OpenAI and of the Anthropic kind.
                headers["x-request-id"] = headers["request-id"] = request_id
            await send(message)

        with bound(request_id=request_id):
            try:
                limit = self._limit(request)
                self._check(request, limit)
                scope["state"]["caller"] = await self._admit(request)
                await self._app(scope, self._limited(receive, limit), answer)
            except Exception as error:  # the outermost one of a request
                if started:
                    raise
                response = await problem(request, error)
                await response(scope, receive, answer)

    async def _admit(self, request: Request) -> Caller | None:
        """Who asks, if they do not ask too often; who is not let in, or is about to be, is counted by the address."""
        somebody = f"somebody at {self._callers.address(request)}"
        try:
            caller = await self._callers.admit(request)
        except (Unauthenticated, Forbidden, KeyInAddress):
            self._traffic.take(somebody)
            raise
        if caller is not None:
            self._traffic.take(caller.owner)
        elif request.scope["path"] == SESSION:
            self._traffic.take(somebody)
        return caller

    def _limit(self, request: Request) -> int:
        """The most bytes that the body may have: much only where it is not held in memory."""
        uploads = request.method == "POST" and UPLOAD.fullmatch(request.scope["path"])
        return self._upload_bytes if uploads else self._body_bytes

    def _check(self, request: Request, limit: int) -> None:
        """Raise what the head of a request alone is refused for."""
        if sum(len(name) + len(value) for name, value in request.headers.raw) > HEADER_BYTES:
            raise HTTPException(431, f"the headers are over the limit of {HEADER_BYTES} bytes")
        if not request.scope["path"].isprintable():
            # The patterns of routes end before a last line break, and the rule of who may come does not.
            raise HTTPException(404, "there is nothing here")
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            # A page whose name was made to point here (DNS rebinding) says its own name.
            raise HTTPException(421, "this server does not answer to that Host")
        own = {f"{scheme}://{hosts[0]}".lower() for scheme in ("http", "https")}
        if any(origin.lower() not in own for origin in request.headers.getlist("origin")):
            raise HTTPException(403, "a page of another origin may not use this server")
        site = request.headers.get("sec-fetch-site", "none")
        if request.method not in SAFE_METHODS and site not in ("same-origin", "none"):
            raise HTTPException(403, "a page of another site may not change anything here")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > limit:
            raise _too_large(limit)

    def _is_ours(self, host: str) -> bool:
        named = _HOST.fullmatch(host)
        if named is None:
            return False
        name = named[1].strip("[]").lower()
        return name in self._host_names or is_loopback(name)

    def _limited(self, receive: Receive, limit: int) -> Receive:
        """`receive` for a body whose length was not declared, which is counted as it comes."""
        size = 0

        async def receive_some() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise _too_large(limit)
            return message

        return receive_some


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is over the limit of {limit} bytes")
