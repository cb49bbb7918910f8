"""The log of an old run without the pieces of what it has as a whole, too; positions stay what they were.

A run that is over, and nothing else: what is shown of it is the same, for a text's `completed` event has all of it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, update

from longwick import events
from longwick.database import Database, Db, utc_now
from longwick.events import DELTAS, PAGE_BYTES, EventType
from longwick.kinds import TERMINAL
from longwick.models import Run, RunEvents

_WHOLE = {
    EventType.MESSAGE_COMPLETED: (EventType.MESSAGE_DELTA, "text"),
    EventType.REASONING_COMPLETED: (EventType.REASONING_DELTA, "text"),
    EventType.TOOL_STARTED: (EventType.TOOL_DELTA, "input"),
}
"""Which event has all that certain deltas have, and where: not where the text is too large for it."""

Block = tuple[str, str]
"""The type of a delta, and what it adds to."""


def due(database: Database, before: datetime, limit: int = 100) -> list[str]:
    """Some of the runs that were over by then and are not compacted yet, oldest first."""
    oldest = select(Run.id).where(*_due(before)).order_by(Run.finished_at).limit(limit)
    return list(database.read(lambda db: db.scalars(oldest).all()))


def count_due(db: Db, before: datetime) -> int:
    """How many such runs there are."""
    return db.scalar(select(func.count()).select_from(Run).where(*_due(before))) or 0


def _due(before: datetime) -> list[ColumnElement[bool]]:
    return [Run.compacted_at.is_(None), Run.finished_at < before, Run.status.in_(TERMINAL)]


def compact(database: Database, run_id: str, pause: Callable[[], None] = lambda: None) -> int:
    """Remove the deltas that are to spare from the log of a run that is over; how many those were. May be repeated."""
    whole = {block for line in _lines(database, run_id) if (block := _completed(line))}
    kept: frozenset[Block] = frozenset()
    removed, through = 0, 0
    while True:
        page = database.write(lambda db, at=through, kept=kept: _compact_page(db, run_id, at, whole, kept))  # type: ignore[misc]
        if page is None:
            return removed
        through, kept = page.through, page.kept
        removed += page.removed
        pause()


@dataclass(frozen=True, slots=True)
class _Page:
    through: int
    """How far the log is written anew now."""
    kept: frozenset[Block]
    """The thoughts whose first delta was met."""
    removed: int
    """How many events fewer there are."""


def _lines(database: Database, run_id: str) -> Iterator[str]:
    at = 0
    while batches := database.read(lambda db, at=at: events.read(db, run_id, at, enough_bytes=PAGE_BYTES)):  # type: ignore[misc]
        for batch in batches:
            yield from (line for _, line in batch.after(at))
        at = batches[-1].last_seq


def _compact_page(db: Db, run_id: str, after: int, whole: set[Block], kept: frozenset[Block]) -> _Page | None:
    """Write a page of the log anew; None at its end, which is noted."""
    batches = events.read(db, run_id, after, enough_bytes=PAGE_BYTES)
    over = update(Run).where(Run.id == run_id, Run.status.in_(TERMINAL)).execution_options(synchronize_session=False)
    if not batches:
        db.execute(over.values(compacted_at=utc_now()))
        return None
    removed, met = 0, set(kept)
    for batch in batches:
        lines = batch.body.split("\n")
        left = [line for line in lines if not _spare(line, whole, met)]
        removed += len(lines) - len(left)
        row = (RunEvents.run_id == run_id, RunEvents.last_seq == batch.last_seq)
        if not left:
            db.execute(delete(RunEvents).where(*row))
        elif len(left) < len(lines):
            db.execute(update(RunEvents).where(*row).values(body="\n".join(left)))
    if removed:
        db.execute(over.values(compacted_through=batches[-1].last_seq))
    return _Page(batches[-1].last_seq, frozenset(met), removed)


def _completed(line: str) -> Block | None:
    """The block of which this event has all."""
    if not any(f'"type":"{kind.value}"' in line for kind in _WHOLE):
        return None
    event = json.loads(line)
    delta, field = _WHOLE.get(event["type"], (None, ""))
    return (delta.value, event["data"][DELTAS[delta]]) if delta and event["data"].get(field) is not None else None


def _spare(line: str, whole: set[Block], met: set[Block]) -> bool:
    """Whether this is a delta of a whole text; the first of a thought tells when that began, and stays."""
    if '.delta"' not in line:
        return False
    event = json.loads(line)
    kind = event["type"]
    if kind not in DELTAS:
        return False
    block = (kind, event["data"][DELTAS[kind]])
    if kind == EventType.REASONING_DELTA and block not in met:
        met.add(block)
        return False
    return block in whole
