"""What a right to come in is exchanged for: a sign-in, which a browser keeps, and a ticket, which opens one stream.

Neither outlives the key that it came from.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select

from longwick import keys
from longwick.database import Db, record_now
from longwick.entrance import ApiKey, SignIn, Ticket
from longwick.keys import LOCAL, digest, is_live

SIGN_IN = timedelta(days=14)
TICKET = timedelta(seconds=60)
MOST_SIGN_INS = 100
"""Of one key; with one more the oldest ends."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What somebody's right to be here hangs on; on nothing of ours where a proxy has named them."""

    key_id: str | None = None
    """Or `local`: on there being no keys."""
    sign_in: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """A new secret, which is nowhere else, and when it ends."""

    token: str = field(repr=False)
    expires_at: datetime


def sign_in(db: Db, key_text: str, before: str | None = None) -> tuple[ApiKey, Given] | None:
    """A new sign-in for who shows a key, in place of the one that a browser had `before`; None for a bad key."""
    key = keys.authenticate(db, key_text)
    if key is None:
        return None
    now = record_now(db)
    db.execute(delete(SignIn).where(or_(SignIn.expires_at <= now, SignIn.token_sha256 == digest(before or ""))))
    newest = select(SignIn.token_sha256).where(SignIn.key_id == key.id).order_by(SignIn.created_at.desc())
    kept = newest.limit(MOST_SIGN_INS - 1)
    db.execute(delete(SignIn).where(SignIn.key_id == key.id, SignIn.token_sha256.not_in(kept)))
    given = Given(_token(), min(now + SIGN_IN, key.expires_at or now + SIGN_IN))
    row = SignIn(token_sha256=digest(given.token), key_id=key.id, created_at=now, expires_at=given.expires_at)
    db.add(row)
    db.flush()
    return key, given


def find_signed_in(db: Db, token: str) -> ApiKey | None:
    """The key behind a sign-in; None when either is over."""
    now = record_now(db)
    found = select(ApiKey).join(SignIn, SignIn.key_id == ApiKey.id)
    return db.scalar(found.where(SignIn.token_sha256 == digest(token), SignIn.expires_at > now, is_live(now)))


def sign_out(db: Db, sign_in: str) -> None:
    """End a sign-in, named by its digest."""
    db.execute(delete(SignIn).where(SignIn.token_sha256 == sign_in))


def ticket(db: Db, owner: str, path: str, hold: Hold) -> Given:
    """A ticket for the stream at `path`, for whoever is let in by `hold`."""
    now = record_now(db)
    db.execute(delete(Ticket).where(Ticket.expires_at <= now))
    given = Given(_token(), now + TICKET)
    db.add(
        Ticket(
            token_sha256=digest(given.token),
            owner=owner,
            path=path,
            key_id=hold.key_id,
            sign_in=hold.sign_in,
            expires_at=given.expires_at,
        )
    )
    db.flush()
    return given


def is_ticket(db: Db, token: str, path: str) -> bool:
    """Whether it is a ticket for `path`: to be asked before anything is written for a stranger."""
    named = (Ticket.token_sha256 == digest(token), Ticket.path == path, Ticket.expires_at > record_now(db))
    return db.scalar(select(Ticket.path).where(*named)) is not None


def use_ticket(db: Db, token: str, path: str) -> tuple[str, Hold] | None:
    """The owner whom a ticket for `path` lets in, and what that hangs on; it is worth nothing afterwards."""
    taken = db.execute(
        delete(Ticket)
        .where(Ticket.token_sha256 == digest(token), Ticket.path == path, Ticket.expires_at > record_now(db))
        .returning(Ticket.owner, Ticket.key_id, Ticket.sign_in)
    ).one_or_none()
    if taken is None:
        return None
    owner, hold = taken.owner, Hold(taken.key_id, taken.sign_in)
    return None if fallen(db, {hold}) else (owner, hold)


def fallen(db: Db, holds: Iterable[Hold]) -> set[Hold]:
    """Those of them that hold no more: the key was revoked or is over, or the sign-in is."""
    holds = set(holds)
    now = record_now(db)
    live_keys: set[str | None] = {None}
    if named := sorted({hold.key_id for hold in holds if hold.key_id}):
        if LOCAL in named and not keys.any_there(db):
            live_keys.add(LOCAL)
        live_keys.update(db.scalars(select(ApiKey.id).where(ApiKey.id.in_(named), is_live(now))))
    live_sign_ins: set[str | None] = {None}
    if named := sorted({hold.sign_in for hold in holds if hold.sign_in}):
        there = select(SignIn.token_sha256).where(SignIn.token_sha256.in_(named), SignIn.expires_at > now)
        live_sign_ins.update(db.scalars(there))
    return {hold for hold in holds if hold.key_id not in live_keys or hold.sign_in not in live_sign_ins}


def _token() -> str:
    return secrets.token_urlsafe(32)
