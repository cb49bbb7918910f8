"""API keys: made once and shown once, known by their digest afterwards.

A key reads `lwapi_ID_SECRET`: ID is what the record finds it by, and the last seven characters are a checksum, so that
a misspelt one is refused without asking the record, and a search for leaked secrets has something to match.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update

from longwick.database import Db, record_now
from longwick.entrance import ApiKey, SignIn, Ticket
from longwick.errors import Invalid, NotFound
from longwick.ids import ALPHABET, new_id
from longwick.kinds import Scope
from longwick.models import Thread
from longwick.text import clean

LOCAL = "local"
"""The owner of a server without keys: whoever is on its machine."""
FORM = re.compile(rf"lwapi_[{ALPHABET}]{{10}}_[{ALPHABET}]{{59}}")
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,199}")
USED_SECONDS = 60
"""How exact the time of last use is."""
_ID, _SECRET, _CHECKSUM = 10, 52, 7


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, with the text that is nowhere else."""

    key: ApiKey
    text: str = field(repr=False)


def create(
    db: Db, owner: str, *, name: str = "", scopes: Iterable[Scope] = (), lifetime: timedelta | None = None
) -> Made:
    """Make a key; without `scopes` it may read and write.

    Raises:
        Invalid: that can be no owner.
    """
    owner = checked_owner(owner)
    prefix = f"lwapi_{_random(_ID)}"
    text = f"{prefix}_{_random(_SECRET)}"
    text += _checksum(text)
    now = record_now(db)
    key = ApiKey(
        id=new_id("key"),
        owner=owner,
        name=clean(name)[:200],
        prefix=prefix,
        key_sha256=digest(text),
        scopes=" ".join(sorted(set(scopes) or {Scope.READ, Scope.WRITE})),
        created_at=now,
        expires_at=now + lifetime if lifetime else None,
        last_used_at=None,
        revoked_at=None,
    )
    db.add(key)
    db.flush()
    return Made(key, text)


def checked_owner(owner: str) -> str:
    """The name of an owner, if it can be one: it stands in logs, metrics of Celery and addresses.

    Raises:
        Invalid: it cannot.
    """
    if not OWNER.fullmatch(owner):
        raise Invalid(f"owner: {owner!r} is not a name of letters, digits and . _ @ + -, up to 200", param="owner")
    return owner


def list_keys(db: Db) -> Sequence[ApiKey]:
    """All keys that there are, revoked ones too, newest first."""
    return db.scalars(select(ApiKey).order_by(ApiKey.id.desc())).all()


def live_keys(db: Db) -> Sequence[ApiKey]:
    """Those that let somebody in now."""
    return db.scalars(select(ApiKey).where(is_live(record_now(db)))).all()


def revoke(db: Db, name: str) -> ApiKey:
    """Refuse a key, named by its id or prefix, from now on; may be repeated.

    Raises:
        NotFound: there is none.
    """
    key = _named(db, name)
    key.revoked_at = key.revoked_at or record_now(db)
    db.flush()
    return key


def remove(db: Db, name: str) -> ApiKey:
    """Forget a key altogether. A server on loopback without any is open to its machine again.

    Raises:
        NotFound: there is none.
    """
    key = _named(db, name)
    db.execute(delete(SignIn).where(SignIn.key_id == key.id))
    db.execute(delete(Ticket).where(Ticket.key_id == key.id))
    db.delete(key)
    db.flush()
    return key


def is_well_formed(text: str) -> bool:
    """Whether this can be a key: of its form, and with the checksum that belongs to it."""
    return FORM.fullmatch(text) is not None and _checksum(text[:-_CHECKSUM]) == text[-_CHECKSUM:]


def authenticate(db: Db, text: str) -> ApiKey | None:
    """The live key with this text; None when it is misspelt, unknown, revoked or expired."""
    if not is_well_formed(text):
        return None
    key = db.scalar(select(ApiKey).where(ApiKey.prefix == text.rpartition("_")[0], is_live(record_now(db))))
    known = key.key_sha256 if key else ""
    return key if hmac.compare_digest(known, digest(text)) else None


def is_live(now: datetime) -> ColumnElement[bool]:
    """The condition for a key to be good."""
    return ApiKey.revoked_at.is_(None) & or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now)


def scopes_of(key: ApiKey) -> frozenset[Scope]:
    """What a key may do."""
    return frozenset(Scope(scope) for scope in key.scopes.split())


def used(db: Db, key_ids: Iterable[str]) -> None:
    """Note that these keys were just used; at most once a minute for each."""
    now = record_now(db)
    before = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - timedelta(seconds=USED_SECONDS))
    db.execute(update(ApiKey).where(ApiKey.id.in_(sorted(key_ids)), before).values(last_used_at=now))


def any_there(db: Db) -> bool:
    """Whether there is any key, a revoked one too: from the first on, nobody gets in without."""
    return bool(db.scalar(select(exists().select_from(ApiKey))))


def owners(db: Db) -> set[str]:
    """All who can get in by a key, and all who have threads here."""
    now = record_now(db)
    with_key = set(db.scalars(select(ApiKey.owner).where(is_live(now)).distinct()))
    # From one to the next over the index: the table has many threads, and few owners.
    each = select(func.min(Thread.owner).label("owner")).cte("each", recursive=True)
    further = select(func.min(Thread.owner)).where(Thread.owner > each.c.owner).scalar_subquery()
    each = each.union_all(select(further).where(each.c.owner.is_not(None)))
    with_threads = set(db.scalars(select(each.c.owner).where(each.c.owner.is_not(None))))
    return with_key | with_threads


def digest(text: str) -> str:
    """What the record keeps of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def _named(db: Db, name: str) -> ApiKey:
    key = db.scalar(select(ApiKey).where(or_(ApiKey.id == name, ApiKey.prefix == name)).with_for_update())
    if key is None:
        raise NotFound(f"no key {name}: `longwick keys list` shows them by id and prefix")
    return key


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    rest = zlib.crc32(text.encode())
    return "".join(ALPHABET[rest >> shift & 31] for shift in range(5 * _CHECKSUM - 5, -1, -5))
