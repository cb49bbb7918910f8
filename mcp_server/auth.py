"""Who calls: the bearer token of a request, looked up once as the session that it was given to.

Not the OAuth of the `mcp` package. Our tokens are issued by our own record, for this server alone, so there is no
audience to check and no authorization server that a CLI should be sent to; and a record that does not answer has to
say 503, which the package's middleware cannot.
"""

from contextlib import nullcontext
from contextvars import ContextVar

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from longwick import logs, sessions
from longwick.database import Database, Db
from longwick.errors import Fenced, Unavailable
from longwick.models import AgentSession

_current: ContextVar[AgentSession | None] = ContextVar("longwick_agent_session")


def current_session() -> AgentSession:
    """The session that the request at hand came with; also in the thread of a tool.

    Raises:
        Fenced: it has not begun: the CLI waits for its attempt yet.
    """
    session = _current.get()
    if session is None:
        raise Fenced("this session has not begun")
    return session


def current_traceparent() -> str | None:
    """The part of a trace that the request belongs to: by its session, and not by what its agent says."""
    session = _current.get()
    return session.traceparent if session else None


class RequireSession:
    """Lets a request through that bears the token of a live session, or of a CLI that waits for one.

    Any other is answered 401, whatever is wrong with its token, and 503 while the record cannot say.
    """

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self._app = app
        self._database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = _bearer_token(Headers(scope=scope))
        try:
            session, known = await to_thread.run_sync(self._authenticate, token)
        except Unavailable as error:
            await _refusal(503, error.code, error.detail, {"Retry-After": "1"})(scope, receive, send)
            return
        if not known:
            words = "the bearer token of a live session is required; a session ends with the attempt of its run"
            challenge = {"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{words}"'}
            await _refusal(401, "invalid_token", words, challenge)(scope, receive, send)
            return
        reset = _current.set(session)
        try:
            with logs.bound(run_id=session.run_id, attempt=session.attempt) if session else nullcontext():
                await self._app(scope, receive, send)
        finally:
            _current.reset(reset)

    def _authenticate(self, token: str) -> tuple[AgentSession | None, bool]:
        """The session of a token, if it has begun, and whether the token is known at all."""

        def look(db: Db) -> tuple[AgentSession | None, bool]:
            session = sessions.authenticate(db, token)
            return session, session is not None or sessions.is_held(db, token)

        return self._database.read(look) if token else (None, False)


def _bearer_token(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _refusal(status: int, code: str, words: str, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": code, "error_description": words}, status, headers)
