"""What is removed when it is old, step by step, each in small transactions; nothing of a run that is not over."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, Table, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from longwick import artifacts, compaction, unused
from longwick.database import Database, Db, record_now, utc_now
from longwick.kinds import UNSETTLED
from longwick.models import (
    AgentSession,
    Base,
    Blob,
    Chore,
    IdempotencyKey,
    Run,
    RunEvents,
    SpareToken,
    Thread,
    WorkspaceState,
)
from longwick.settings import Settings
from longwick.storage import Storage
from longwick.submission import KEY_HOURS

GRACE = timedelta(days=1)
"""What is younger may be on its way to being used."""
AT_ONCE = 100
EVENTS_AT_ONCE = 200
Pause = Callable[[], None]
"""Called after each transaction, so that others have their turn; it may raise to end it all."""


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of what is removed: how much of it."""

    words: str
    removed: int


@dataclass(frozen=True, slots=True)
class Pruning:
    """A record and its storage, from which what is old is removed; `dry` only counts it."""

    database: Database
    storage: Storage
    settings: Settings
    dry: bool = False
    pause: Pause = lambda: None

    def rows(self) -> Iterator[Step]:
        """What is old in the record."""
        yield Step("threads that were deleted, or in which nothing happened for long", self._threads())
        yield Step("runs whose texts are there as a whole, too", self._deltas())
        for words, table, old in _OLD:
            yield Step(words, self._rows(table, old))

    def files(self) -> Iterator[Step]:
        """Which files nothing needs. What was listed until now goes from storage a day later."""
        # First, so that what is forgotten below goes with the next pass. A record that lists nothing is new, or the
        # wrong one, and what is in storage is not its to remove.
        if not self.dry and self.database.read(lambda db: db.scalar(select(Blob.sha256).limit(1))):
            listed = lambda names: self.database.read(lambda db: artifacts.listed_blobs(db, names))  # noqa: E731
            yield Step("files that nothing listed", self.storage.collect(listed))
        before = self.database.read(record_now) - GRACE
        forgotten = 0
        for digests in unused.unused(self.database, self.storage, before, self.pause):
            if self.dry:
                forgotten += len(digests)
            else:
                forgotten += self.database.write(lambda db, some=digests: unused.forget(db, some, before))  # type: ignore[misc]
                self.pause()
        yield Step("files that nothing names any more", forgotten)

    def _threads(self) -> int:
        removed = 0
        for found in self._pages(self._old_threads):
            for thread_id in found:
                removed += self.dry or remove_thread(self.database, self.settings, thread_id, self.pause)
        return removed

    def _old_threads(self, db: Db, after: str) -> list[str]:
        wanted = select(Thread.id).where(Thread.id > after, _may_go(db, self.settings))
        return list(db.scalars(wanted.order_by(Thread.id).limit(AT_ONCE)))

    def _pages(self, find: Callable[[Db, str], list[str]]) -> Iterator[list[str]]:
        after = ""
        while found := self.database.read(lambda db, after=after: find(db, after)):  # type: ignore[misc]
            yield found
            after = found[-1]

    def _deltas(self) -> int:
        days = self.settings.keep_deltas_days
        if not days:
            return 0
        before = self.database.read(record_now) - timedelta(days=days)
        if self.dry:
            return self.database.read(lambda db: compaction.count_due(db, before))
        compacted = 0
        while found := compaction.due(self.database, before):
            for run_id in found:
                compaction.compact(self.database, run_id, self.pause)
                compacted += 1
        return compacted

    def _rows(self, table: Any, old: Callable[[Db], Any]) -> int:
        if self.dry:
            return self.database.read(lambda db: db.scalar(select(func.count()).select_from(table).where(old(db)))) or 0
        removed = 0
        while some := self.database.write(lambda db: _delete_some(db, table, old(db))):
            removed += some
            self.pause()
        return removed


def remove_thread(database: Database, settings: Settings, thread_id: str, pause: Pause = lambda: None) -> bool:
    """Remove a thread with all that is in it, unless something happens in it; whether it is gone."""
    if not database.write(lambda db: _begin_to_remove(db, settings, thread_id)):
        return False
    pause()
    while run_id := database.read(lambda db: db.scalar(select(Run.id).where(Run.thread_id == thread_id).limit(1))):
        while database.write(lambda db, run_id=run_id: _remove_events(db, run_id)):  # type: ignore[misc]
            pause()
        database.write(lambda db, run_id=run_id: _remove(db, Run.__table__, run_id))  # type: ignore[misc]
        pause()
    database.write(lambda db: _remove(db, Thread.__table__, thread_id))
    return True


def _may_go(db: Db, settings: Settings) -> Any:
    """Whether a thread is one that is going, was deleted long ago, or has been silent for long."""
    now = record_now(db)
    may: list[Any] = [Thread.removed_at.is_not(None)]
    if settings.keep_deleted_days:
        may.append(Thread.deleted_at < now - timedelta(days=settings.keep_deleted_days))
    if settings.keep_threads_days:
        may.append(Thread.updated_at < now - timedelta(days=settings.keep_threads_days))
    return or_(*may) & ~exists().where(Run.thread_id == Thread.id, Run.status.in_(UNSETTLED))


def _begin_to_remove(db: Db, settings: Settings, thread_id: str) -> bool:
    # Whoever wants to run, attach or restore something here waits for this row, and then finds it deleted; and what
    # they have done before is seen by the second statement.
    db.execute(select(Thread.id).where(Thread.id == thread_id).with_for_update())
    goes = update(Thread).where(Thread.id == thread_id, _may_go(db, settings)).returning(Thread.id)
    now = utc_now()
    gone = goes.values(removed_at=now, deleted_at=func.coalesce(Thread.deleted_at, now))
    return db.scalar(gone.execution_options(synchronize_session=False)) is not None


def _remove_events(db: Db, run_id: str) -> int:
    seqs = select(RunEvents.last_seq).where(RunEvents.run_id == run_id).order_by(RunEvents.last_seq)
    found = db.scalars(seqs.limit(EVENTS_AT_ONCE)).all()
    if found:
        db.execute(delete(RunEvents).where(RunEvents.run_id == run_id, RunEvents.last_seq <= found[-1]))
    return len(found)


def _remove(db: Db, table: Any, row_id: str) -> None:
    """Remove a row, and before it all that name it."""
    for column in _naming(table):
        db.execute(delete(column.table).where(column == row_id))
    db.execute(delete(table).where(table.c.id == row_id))


def _naming(table: Table) -> Sequence[Column[Any]]:
    """The columns that name rows of a table; those first whose rows are named by no other of them."""
    return [
        column
        for other in reversed(Base.metadata.sorted_tables)
        for column in other.columns
        if any(key.column.table is table for key in column.foreign_keys)
    ]


def _old_state(db: Db) -> Any:
    """A state of a folder that is not the newest, of a thread in which nothing runs or waits."""
    newer = aliased(WorkspaceState)
    return (
        (WorkspaceState.created_at < record_now(db) - GRACE)
        & exists().where(newer.thread_id == WorkspaceState.thread_id, newer.version > WorkspaceState.version)
        & ~exists().where(Run.thread_id == WorkspaceState.thread_id, Run.status.in_(UNSETTLED))
    )


def _old_session(db: Db) -> Any:
    return AgentSession.closed_at < record_now(db) - GRACE


def _old_key(db: Db) -> Any:
    return IdempotencyKey.created_at < record_now(db) - timedelta(hours=KEY_HOURS) - GRACE


def _old_token(db: Db) -> Any:
    return SpareToken.expires_at < record_now(db)


_OLD: list[tuple[str, Any, Callable[[Db], Any]]] = [
    ("states of folders that newer ones follow", WorkspaceState, _old_state),
    ("sessions of agents that are over", AgentSession, _old_session),
    ("keys of requests that may be forgotten", IdempotencyKey, _old_key),
    ("tokens that nobody took", SpareToken, _old_token),
]


def _delete_some(db: Db, table: Any, old: Any) -> int:
    keys = list(table.__table__.primary_key.columns)
    found = db.execute(select(*keys).where(old).order_by(*keys).limit(AT_ONCE).with_for_update(skip_locked=True)).all()
    for row in found:
        db.execute(delete(table.__table__).where(*(key == value for key, value in zip(keys, row, strict=True))))
    return len(found)


def claim(db: Db, name: str, seconds: float) -> bool:
    """Whether it is this process that does something now that one of all does every so many seconds."""
    now = record_now(db)
    mine = update(Chore).where(Chore.name == name, Chore.begun_at < now - timedelta(seconds=seconds))
    if db.scalar(mine.values(begun_at=now).returning(Chore.name).execution_options(synchronize_session=False)):
        return True
    if db.get(Chore, name) is None:
        # Of several at once all but one fail here, start again, and find it.
        db.execute(insert(Chore).values(name=name, begun_at=now))
        return True
    return False


def go_on(db: Db, name: str) -> None:
    """Keep what was claimed from being claimed again while it is being done."""
    db.execute(update(Chore).where(Chore.name == name).values(begun_at=record_now(db)))
