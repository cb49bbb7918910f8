"""Bytes that the record lists and nothing in it names any more.

An artifact and a folder's state name theirs in columns. The files of a folder are named in a list that is in storage,
and values too large for the log in the log: these are read, once for all that may be unused.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, select, tuple_

from longwick.database import Database, Db
from longwick.errors import NotFound, StorageUnavailable
from longwick.events import PAGE_BYTES
from longwick.models import Artifact, Blob, RunEvents, WorkspaceState
from longwick.storage import Storage
from longwick.workspaces import read_manifest

AT_ONCE = 100_000
"""So many may be unused at a time: what is in memory is bounded, and the record is read once for so many."""
PAGE = 500
REMOVED_AT_ONCE = 100
_REFERENCE = re.compile(r'"sha256":"([0-9a-f]{64})"')


def unused(
    database: Database, storage: Storage, before: datetime, pause: Callable[[], None] = lambda: None
) -> Iterator[list[str]]:
    """The digests of bytes that nothing names, and nobody has listed since then; in groups.

    Raises:
        StorageUnavailable: it cannot be known which files are used.
    """
    after = ""
    while True:
        may_be = select(Blob.sha256).where(_forgotten(before), Blob.sha256 > after).order_by(Blob.sha256).limit(AT_ONCE)
        left = set(database.read(lambda db, may_be=may_be: db.scalars(may_be).all()))  # type: ignore[misc]
        if not left:
            return
        after = max(left)
        for named in (_in_folders(database, storage), _in_events(database)):
            for digests in named:
                left -= digests
                pause()
                if not left:
                    break
        found = sorted(left)
        yield from (found[first : first + REMOVED_AT_ONCE] for first in range(0, len(found), REMOVED_AT_ONCE))


def forget(db: Db, digests: list[str], before: datetime) -> int:
    """List these no more, but for those that somebody has listed again meanwhile; how many those were."""
    gone = delete(Blob).where(Blob.sha256.in_(digests), _forgotten(before)).returning(Blob.sha256)
    return len(db.scalars(gone.execution_options(synchronize_session=False)).all())


def _forgotten(before: datetime) -> ColumnElement[bool]:
    """Listed long ago for the last time, and in no column."""
    return (
        (func.coalesce(Blob.used_at, Blob.created_at) < before)
        & ~exists().where(Artifact.sha256 == Blob.sha256)
        & ~exists().where(WorkspaceState.manifest_sha256 == Blob.sha256)
    )


def _in_folders(database: Database, storage: Storage) -> Iterator[set[str]]:
    after = ""
    while True:
        page = select(WorkspaceState).where(WorkspaceState.id > after).order_by(WorkspaceState.id).limit(PAGE)
        states = database.read(lambda db, page=page: db.scalars(page).all())  # type: ignore[misc]
        if not states:
            return
        for state in states:
            try:
                yield {file.sha256 for file in read_manifest(storage, state).files.values()}
            except NotFound as error:
                # Where it went with its thread, it names nothing. Else this may be the wrong storage altogether.
                if database.read(lambda db, gone=state.id: db.get(WorkspaceState, gone)):  # type: ignore[misc]
                    raise StorageUnavailable(f"what {state.id} needs cannot be read: {error.detail}") from error
        after = states[-1].id


def _in_events(database: Database) -> Iterator[set[str]]:
    at = ("", 0)
    while page := database.read(lambda db, at=at: _of_events(db, at)):  # type: ignore[misc]
        digests, at = page
        yield digests


def _of_events(db: Db, after: tuple[str, int]) -> tuple[set[str], tuple[str, int]] | None:
    """What a page of the log names, and where the page ends; None where there is no more."""
    wanted = (
        select(RunEvents.run_id, RunEvents.last_seq, RunEvents.body)
        .where(tuple_(RunEvents.run_id, RunEvents.last_seq) > after)
        .order_by(RunEvents.run_id, RunEvents.last_seq)
        .limit(PAGE)
        .execution_options(yield_per=8)
    )
    digests: set[str] = set()
    at, size = None, 0
    with db.execute(wanted) as rows:
        for run, seq, body in rows:
            digests.update(_REFERENCE.findall(body))
            at, size = (run, seq), size + len(body)
            if size >= PAGE_BYTES:
                break
    return (digests, at) if at else None
