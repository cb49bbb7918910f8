"""How much there is room for: what an owner keeps, in all threads together."""

from dataclasses import dataclass

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import aliased

from longwick.database import Db
from longwick.errors import TooMany
from longwick.limits import Limits, of_owner
from longwick.models import Artifact, Thread, WorkspaceState

FULL_SECONDS = 60
"""When whoever keeps too much may try again: once something was deleted."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What an owner keeps: artifacts, and bytes of these and of the folders that follow their threads."""

    artifacts: int
    size: int
    deleted_size: int
    """Bytes of artifacts of threads that were deleted and can be brought back."""


_OWNED = (Thread.owner == bindparam("owner"), Thread.deleted_at.is_(None))
_FILES = (
    select(
        func.count().filter(Thread.deleted_at.is_(None)),
        func.coalesce(func.sum(Artifact.size).filter(Thread.deleted_at.is_(None)), 0),
        func.coalesce(func.sum(Artifact.size).filter(Thread.deleted_at.is_not(None)), 0),
    )
    .select_from(Artifact)
    .join(Thread, Thread.id == Artifact.thread_id)
    .where(Thread.owner == bindparam("owner"), Thread.removed_at.is_(None))
)
_later = aliased(WorkspaceState)
_FOLDERS = (
    select(func.coalesce(func.sum(WorkspaceState.size), 0))
    .join(Thread, Thread.id == WorkspaceState.thread_id)
    .where(
        *_OWNED,
        # Of an earlier state nothing but what has changed since is kept beside the newest.
        ~select(_later.id)
        .where(_later.thread_id == WorkspaceState.thread_id, _later.version > WorkspaceState.version)
        .exists(),
        WorkspaceState.thread_id != bindparam("but_of"),
    )
)


def kept(db: Db, owner: str, *, but_folder_of: str = "") -> Kept:
    """What an owner keeps, without the folder of one thread."""
    files, size, deleted_size = db.execute(_FILES, {"owner": owner}).one()
    folders = db.scalar(_FOLDERS, {"owner": owner, "but_of": but_folder_of}) or 0
    return Kept(files, size + folders, deleted_size)


def check(db: Db, thread_id: str, size: int, usual: Limits) -> None:
    """Make sure that the owner of a thread may keep one more file of so many bytes.

    For a read: it takes a while, and it is no matter if some who ask at once all get the last of the room.

    Raises:
        TooMany: the owner has as much as an owner may (`quota_exceeded`).
    """
    owner = db.get_one(Thread, thread_id).owner
    most, now = of_owner(db, owner, usual), kept(db, owner)
    if most.artifacts and now.artifacts >= most.artifacts:
        raise TooMany(
            f"the user keeps {now.artifacts} files, which is the limit; a thread that is deleted makes room",
            code="quota_exceeded",
            retry_after=FULL_SECONDS,
        )
    _check_size(most, now, size)


def check_folder(db: Db, thread_id: str, size: int, usual: Limits) -> None:
    """Make sure that the owner of a thread may keep its folder, with so many bytes in place of what it had.

    Raises:
        TooMany: the owner has as much as an owner may (`quota_exceeded`).
    """
    owner = db.get_one(Thread, thread_id).owner
    _check_size(of_owner(db, owner, usual), kept(db, owner, but_folder_of=thread_id), size)


def _check_size(most: Limits, now: Kept, size: int) -> None:
    if most.artifact_bytes and now.size + size > most.artifact_bytes:
        raise TooMany(
            f"the user may keep {most.artifact_bytes} bytes, and keeps {now.size}; a thread that is deleted makes room",
            code="quota_exceeded",
            retry_after=FULL_SECONDS,
        )
    # Deleting makes room, but not again and again: what is deleted still lies there.
    if most.artifact_bytes and now.size + now.deleted_size + size > 2 * most.artifact_bytes:
        raise TooMany(
            f"{now.deleted_size} bytes of deleted threads are still there, until they can no longer be brought back",
            code="quota_exceeded",
            retry_after=FULL_SECONDS,
        )
