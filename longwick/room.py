"""How much there is room for: what an owner keeps, in all threads together."""

from sqlalchemy import func, select

from longwick.artifacts import Quota
from longwick.database import Db
from longwick.errors import TooMany
from longwick.models import Artifact, Thread


def check(db: Db, thread_id: str, size: int, most: Quota) -> None:
    """Make sure that the owner of a thread may keep so many bytes more.

    For a read: it takes a while, and it is no matter if some who ask at once all get the last of the room.

    Raises:
        TooMany: the owner has as much as an owner may.
    """
    owner = select(Thread.owner).where(Thread.id == thread_id).scalar_subquery()
    files, used = db.execute(
        select(func.count(), func.coalesce(func.sum(Artifact.size), 0))
        .join(Thread, Thread.id == Artifact.thread_id)
        .where(Thread.owner == owner, Thread.deleted_at.is_(None))
    ).one()
    if files >= most.files:
        raise TooMany(f"the user keeps {files} files, which is the limit", code="quota_exceeded")
    if used + size > most.size:
        raise TooMany(f"the user may keep {most.size} bytes, and keeps {used}", code="quota_exceeded")
