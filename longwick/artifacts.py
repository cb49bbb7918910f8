"""Files that agents save and users attach: versions by thread and name; their bytes are in storage."""

import mimetypes
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.dialects import postgresql, sqlite

from longwick import events, sessions, threads
from longwick.database import Db, announce, have_alone, utc_now
from longwick.errors import BadName, Invalid, NotFound, TooMany
from longwick.events import Event, EventType
from longwick.ids import new_id
from longwick.kinds import ArtifactType
from longwick.models import AgentSession, Artifact, Blob, Run, Thread
from longwick.paging import Page, page
from longwick.storage import Stored
from longwick.times import rfc3339

NAME_BYTES = 255
_MEDIA_TYPE = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,100}/[a-z0-9][a-z0-9!#$&^_.+-]{0,100}(; ?charset=[a-z0-9_-]{1,40})?"
)
_BIDI_CONTROLS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_name(name: str) -> str:
    """`name` as it may be listed: relative, without `..`, control or bidirectional control characters.

    Raises:
        BadName: it is not such a name; says why in words that a model can act on.
    """
    if not name or len(name.encode(errors="replace")) > NAME_BYTES:
        raise BadName(f"the name must have 1 to {NAME_BYTES} bytes")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _BIDI_CONTROLS for c in name):
        raise BadName("the name must have no control characters")
    if "\\" in name or name != name.strip():
        raise BadName("the name must have no backslash, and no space at its ends")
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise BadName("the name must be relative, like report.md or charts/sales.csv, without '..'")
    return name


def check_media_type(media_type: str | None, name: str, *, text: bool) -> str:
    """The media type that was given, or the one that the name suggests.

    Raises:
        Invalid: it is not of the form type/subtype.
    """
    if media_type:
        if not _MEDIA_TYPE.fullmatch(media_type.lower()):
            raise Invalid("media_type must look like text/markdown", param="media_type")
        return media_type.lower()
    guessed, encoding = mimetypes.guess_type(name)
    if guessed and not encoding:
        return guessed
    return "text/plain" if text and not encoding else "application/octet-stream"


def keep_blob(db: Db, *stored: Stored) -> None:
    """Note that bytes in storage belong to the record."""
    now = utc_now()
    # In one order, so that two who note the same do not wait for each other.
    noted = [
        {"sha256": sha256, "size": size, "created_at": now, "used_at": now}
        for sha256, size in sorted({each.sha256: each.size for each in stored}.items())
    ]
    db.execute(_NOTE_BLOB[db.get_bind().dialect.name], noted)


_NOTE_BLOB = {
    name: noted.on_conflict_do_update(index_elements=["sha256"], set_={"used_at": noted.excluded.used_at})
    for name, noted in (("sqlite", sqlite.insert(Blob)), ("postgresql", postgresql.insert(Blob)))
}


def listed_blobs(db: Db, names: Sequence[str]) -> set[str]:
    """Which of these bytes belong to the record."""
    return set(db.scalars(select(Blob.sha256).where(Blob.sha256.in_(names))))


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a run may save, or an owner keep."""

    files: int
    size: int
    """In bytes, all files together."""


@dataclass(frozen=True, slots=True)
class Save:
    """A file that an agent wants to save, or a user to attach."""

    name: str
    media_type: str
    bytes: Stored
    call_id: str | None = None
    """The tool call, as the CLI names it: one that is repeated gets its first result."""


def saved_before(db: Db, session: AgentSession, wanted: Save, quota: Quota) -> Artifact | None:
    """What this run has saved already, where the same is wanted again; None where it is new and there is room for it.

    Ask it before the bytes are put into storage, so that a run over its quota fills no disk either.

    Raises:
        TooMany: the run has saved as much as it may.
    """
    same_name = select(Artifact).where(Artifact.run_id == session.run_id, Artifact.name == wanted.name)
    by_call = same_name.where(Artifact.call_id == wanted.call_id)
    newest = same_name.order_by(Artifact.version.desc()).limit(1)
    # Without an id of its own (some clients give one id to all that a piece of code saves), the newest bytes decide.
    repeatable = [by_call] if wanted.call_id else []
    if wanted.call_id is None or _is_taken(db, session, wanted.call_id):
        repeatable.append(newest)
    for before in map(db.scalar, repeatable):
        if before is not None and before.sha256 == wanted.bytes.sha256:
            return before
    files, used = db.execute(
        select(func.count(), func.coalesce(func.sum(Artifact.size), 0)).where(Artifact.run_id == session.run_id)
    ).one()
    if files >= quota.files:
        raise TooMany(f"this run has saved {files} files, which is its limit", code="quota_exceeded")
    if used + wanted.bytes.size > quota.size:
        raise TooMany(f"this run may save {quota.size} bytes, and has saved {used}", code="quota_exceeded")
    return None


def save(db: Db, session_id: str, wanted: Save, quota: Quota) -> Artifact:
    """List a new version of the thread's file, and tell it in the run's log; the bytes are in storage already.

    What this run has saved before is not saved again: the call gets the first result.

    Raises:
        Fenced: the session, or its attempt, is over.
        TooMany: the run has saved as much as it may.
    """
    session = sessions.check(db, session_id)
    # Taken before the look for a repetition, so that none can slip in between the two.
    version = _next_version(db, session.thread_id, wanted.name)
    call_id = wanted.call_id if wanted.call_id and not _is_taken(db, session, wanted.call_id) else None
    before = saved_before(db, session, wanted, quota)
    if before is not None:
        return before
    kind = ArtifactType.GENERATED_FILE
    artifact = _add(db, session.thread_id, kind, wanted, version, run_id=session.run_id, call_id=call_id)
    # Last, just before COMMIT: this locks the run's row, which the run's own events wait for.
    saved = Event(EventType.ARTIFACT_SAVED, {"artifact": to_json(artifact), "tool_call_id": wanted.call_id})
    events.append(db, session.run_id, session.attempt, [saved])
    return artifact


def attach(db: Db, owner: str, thread_id: str, wanted: Save) -> Artifact:
    """List a new version of the thread's file, from its user; the bytes are in storage already.

    Raises:
        NotFound: there is no such thread of this owner.
    """
    thread = threads.lock(db, owner, thread_id)
    artifact = _add(db, thread.id, ArtifactType.UPLOAD, wanted, _next_version(db, thread.id, wanted.name))
    threads.touch(db, thread.id)
    return artifact


def _next_version(db: Db, thread_id: str, name: str) -> int:
    """A version for a file; of two at once, the second waits for the first (and whatever slips by is run again)."""
    # Not the row of the thread or the run: those are locked the other way round by whoever settles the run.
    have_alone(db, f"{thread_id}/{name}")
    newest = select(func.max(Artifact.version)).where(Artifact.thread_id == thread_id, Artifact.name == name)
    return (db.scalar(newest) or 0) + 1


def _add(
    db: Db,
    thread_id: str,
    kind: ArtifactType,
    wanted: Save,
    version: int,
    *,
    run_id: str | None = None,
    call_id: str | None = None,
) -> Artifact:
    keep_blob(db, wanted.bytes)
    artifact = Artifact(
        id=new_id("art"),
        thread_id=thread_id,
        run_id=run_id,
        type=kind,
        name=wanted.name,
        version=version,
        media_type=wanted.media_type,
        size=wanted.bytes.size,
        sha256=wanted.bytes.sha256,
        call_id=call_id,
        created_at=utc_now(),
    )
    db.add(artifact)
    db.flush()
    announce(db, artifact)
    return artifact


def _is_taken(db: Db, session: AgentSession, call_id: str) -> bool:
    taken = select(Artifact.id).where(Artifact.run_id == session.run_id, Artifact.call_id == call_id)
    return db.scalar(taken) is not None


def to_json(artifact: Artifact) -> dict[str, Any]:
    """The artifact as the contract shows it."""
    return {
        "id": artifact.id,
        "thread_id": artifact.thread_id,
        "run_id": artifact.run_id,
        "type": artifact.type.value,
        "name": artifact.name,
        "version": artifact.version,
        "media_type": artifact.media_type,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "created_at": rfc3339(artifact.created_at),
    }


def get(db: Db, owner: str, artifact_id: str) -> Artifact:
    """An artifact of one of the owner's threads.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    artifact = db.scalar(
        select(Artifact)
        .join(Thread, Thread.id == Artifact.thread_id)
        .where(Artifact.id == artifact_id, Thread.owner == owner, Thread.deleted_at.is_(None))
    )
    if artifact is None:
        raise NotFound(f"no artifact {artifact_id}")
    return artifact


def of_thread(db: Db, thread_id: str, *, limit: int = 100, after: str | None = None) -> Page[Artifact]:
    """A page of a thread's artifacts, all versions, newest first."""
    return page(db, select(Artifact).where(Artifact.thread_id == thread_id), Artifact.id, limit, after, newest=True)


def of_run(db: Db, run: Run, *, limit: int = 100, after: str | None = None) -> Page[Artifact]:
    """A page of what a run saved, newest first."""
    return page(db, select(Artifact).where(Artifact.run_id == run.id), Artifact.id, limit, after, newest=True)


PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What models can look at."""


def pictures_of_turn(db: Db, run: Run, largest: int) -> Sequence[Artifact]:
    """The images, of at most so many bytes, that the user has attached for this turn: since the one before it."""
    before = select(func.max(Run.created_at)).where(Run.thread_id == run.thread_id, Run.turn < run.turn)
    since = db.scalar(before) or datetime.min.replace(tzinfo=UTC)
    wanted = select(Artifact).where(Artifact.thread_id == run.thread_id, Artifact.type == ArtifactType.UPLOAD)
    wanted = wanted.where(Artifact.media_type.in_(PICTURES), Artifact.size <= largest, Artifact.created_at > since)
    return db.scalars(wanted.order_by(Artifact.id)).all()


def newest_of_thread(db: Db, thread_id: str, *kinds: ArtifactType) -> Sequence[Artifact]:
    """The newest version of each of a thread's files, of these kinds or of all, the file that was saved last first."""
    newest = (
        select(Artifact.name, func.max(Artifact.version).label("version"))
        .where(Artifact.thread_id == thread_id, Artifact.type.in_(kinds or ArtifactType))
        .group_by(Artifact.name)
        .subquery()
    )
    return db.scalars(
        select(Artifact)
        .join(newest, and_(Artifact.name == newest.c.name, Artifact.version == newest.c.version))
        .where(Artifact.thread_id == thread_id)
        .order_by(Artifact.id.desc())
    ).all()


def find_version(db: Db, thread_id: str, name: str, version: int | None) -> Artifact:
    """A version of a thread's file, the newest unless one is named.

    Raises:
        NotFound: there is none.
    """
    wanted = select(Artifact).where(Artifact.thread_id == thread_id, Artifact.name == name)
    if version is not None:
        wanted = wanted.where(Artifact.version == version)
    artifact = db.scalar(wanted.order_by(Artifact.version.desc()).limit(1))
    if artifact is None:
        raise NotFound(f"no file {name!r}" + (f" with version {version}" if version else "") + " in this thread")
    return artifact
