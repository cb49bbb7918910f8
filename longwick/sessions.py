"""An attempt's right to call the MCP server: opened before its CLI starts, closed when the attempt is over."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Select, bindparam, delete, select, update

from longwick.database import Db, record_now, utc_now
from longwick.errors import Fenced
from longwick.ids import new_id
from longwick.kinds import RunStatus
from longwick.models import AgentSession, Run, SpareToken


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session, with the token that is nowhere else: the record has a digest of it."""

    id: str
    token: str = field(repr=False)


def new_token() -> str:
    """A token that nobody can guess."""
    return f"lwk_{secrets.token_urlsafe(32)}"


def hold_token(db: Db, token: str, lifetime_seconds: float) -> None:
    """Let a CLI that waits for its attempt reach the MCP server with this token, and do nothing there."""
    now = record_now(db)
    db.execute(delete(SpareToken).where(SpareToken.expires_at < now))
    db.add(SpareToken(token_sha256=_digest(token), expires_at=now + timedelta(seconds=lifetime_seconds)))


def is_held(db: Db, token: str) -> bool:
    """Whether the token is that of a CLI that waits for its attempt."""
    spare = select(SpareToken.token_sha256).where(SpareToken.token_sha256 == _digest(token))
    return db.scalar(spare.where(SpareToken.expires_at > record_now(db))) is not None


def open_session(
    db: Db, run: Run, lifetime_seconds: float, token: str | None = None, traceparent: str | None = None
) -> Opened:
    """Register a session for the run's attempt, with the token of a CLI that has waited for it or with a new one."""
    session_id = new_id("ses")
    if token is None:
        token = new_token()
    else:
        db.execute(delete(SpareToken).where(SpareToken.token_sha256 == _digest(token)))
    now = record_now(db)
    db.add(
        AgentSession(
            id=session_id,
            run_id=run.id,
            attempt=run.attempt,
            thread_id=run.thread_id,
            token_sha256=_digest(token),
            traceparent=traceparent,
            created_at=now,
            expires_at=now + timedelta(seconds=lifetime_seconds),
            closed_at=None,
        )
    )
    db.flush()
    return Opened(session_id, token)


def authenticate(db: Db, token: str) -> AgentSession | None:
    """The live session of a token; None when it is unknown, closed or expired, or its attempt is over."""
    return db.scalar(_live(db).where(AgentSession.token_sha256 == _digest(token)))


def check(db: Db, session_id: str) -> AgentSession:
    """The session, if it is live still; to be asked inside the transaction of each write.

    Raises:
        Fenced: it is not.
    """
    session = db.scalar(_live(db).where(AgentSession.id == session_id))
    if session is None:
        raise Fenced("this session is over: its run has ended, was cancelled or goes on in another attempt")
    return session


def close_sessions(db: Db, run_id: str) -> None:
    """Close every session of a run."""
    db.execute(_CLOSE, {"of_run": run_id, "now": utc_now()})


def _live(db: Db) -> Select[AgentSession]:
    return (
        select(AgentSession)
        .join(Run, Run.id == AgentSession.run_id)
        .where(
            AgentSession.closed_at.is_(None),
            AgentSession.expires_at > record_now(db),
            Run.status == RunStatus.RUNNING,
            Run.attempt == AgentSession.attempt,
        )
    )


_CLOSE = (
    update(AgentSession)
    .where(AgentSession.run_id == bindparam("of_run"), AgentSession.closed_at.is_(None))
    .values(closed_at=bindparam("now"))
    .execution_options(synchronize_session=False)
)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
