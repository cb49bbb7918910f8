"""Files that agents save and users attach: versions by thread and name; their bytes are in storage."""

import mimetypes
import re
import unicodedata
from typing import Any

from sqlalchemy import func, select

from longwick import events, sessions
from longwick.database import Db, utc_now
from longwick.errors import BadName, Invalid, NotFound, TooMany
from longwick.events import Event, EventType
from longwick.ids import new_id
from longwick.models import AgentSession, Artifact, ArtifactType, Blob, Run, Thread
from longwick.paging import Page, page
from longwick.storage import Stored

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


def keep_blob(db: Db, stored: Stored) -> None:
    """Note that bytes in storage belong to the record."""
    if db.get(Blob, stored.sha256) is None:
        db.add(Blob(sha256=stored.sha256, size=stored.size, created_at=utc_now()))
        db.flush()


def save(
    db: Db,
    session_id: str,
    name: str,
    stored: Stored,
    *,
    media_type: str,
    call_id: str | None = None,
    most: int = 1000,
) -> Artifact:
    """List a new version of the thread's file `name`, and tell it in the run's log; the bytes are in storage already.

    A call that was made before (the same `call_id` in the same run) gets its first result. So does a file that this
    run saved last under this name with these bytes, when no call names it.

    Raises:
        Fenced: the session, or its attempt, is over.
        TooMany: the run has saved `most` artifacts.
    """
    session = sessions.check(db, session_id)
    before = _saved_before(db, session, name, stored, call_id)
    if before is not None:
        return before
    if (db.scalar(select(func.count()).where(Artifact.run_id == session.run_id)) or 0) >= most:
        raise TooMany(f"this run has saved {most} files, which is its limit", code="quota_exceeded")
    keep_blob(db, stored)
    newest = db.scalar(
        select(func.max(Artifact.version)).where(Artifact.thread_id == session.thread_id, Artifact.name == name)
    )
    artifact = Artifact(
        id=new_id("art"),
        thread_id=session.thread_id,
        run_id=session.run_id,
        type=ArtifactType.GENERATED_FILE,
        name=name,
        version=(newest or 0) + 1,
        media_type=media_type,
        size=stored.size,
        sha256=stored.sha256,
        call_id=call_id,
        created_at=utc_now(),
    )
    db.add(artifact)
    db.flush()
    # Last, just before COMMIT: this locks the run's row, which the run's own events wait for.
    saved = Event(EventType.ARTIFACT_SAVED, {"artifact": to_json(artifact), "tool_call_id": call_id})
    events.append(db, session.run_id, session.attempt, [saved])
    return artifact


def _saved_before(db: Db, session: AgentSession, name: str, stored: Stored, call_id: str | None) -> Artifact | None:
    of_run = select(Artifact).where(Artifact.run_id == session.run_id)
    if call_id is not None:
        return db.scalar(of_run.where(Artifact.call_id == call_id))
    newest = db.scalar(of_run.where(Artifact.name == name).order_by(Artifact.version.desc()).limit(1))
    return newest if newest is not None and newest.sha256 == stored.sha256 else None


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
        "created_at": artifact.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def get(db: Db, owner: str, artifact_id: str) -> Artifact:
    """An artifact of one of the owner's threads.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    artifact = db.scalar(
        select(Artifact)
        .join(Thread, Thread.id == Artifact.thread_id)
        .where(Artifact.id == artifact_id, Thread.owner == owner)
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
