"""The append-only log of a run: its vocabulary, its two doors, and how it is read.

Doors: `append` is for the attempt that runs, `transition` for every change of a run's status, and of one that waits.
There is no third: nothing else writes `run_events`, `runs.last_seq` or `runs.status`. (What is over is compacted, and
removed when it is old: longwick/compaction.py, longwick/retention.py.)
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select, text, update

from longwick.database import Db, announce, utc_now
from longwick.errors import Fenced
from longwick.kinds import RunStatus
from longwick.models import JsonObject, Run, RunEvents

# In ASCII JSON a character takes up to six bytes, and a delta stays below 64 KiB.
DELTA_CHARACTERS = 10_000
PAGE_BYTES = 2**20
"""So much of a log is read, or written anew in one transaction, at a time; and what is over it of one batch."""

# The table, not the class: there are no objects for the ORM to keep, and it would read all rows before it gave one.
_TABLE = RunEvents.metadata.tables[RunEvents.__tablename__]


class EventType(StrEnum):
    """What can happen in a run; docs/events.md shows the data of each."""

    RUN_QUEUED = "run.queued"
    RUN_EDITED = "run.edited"
    RUN_STARTED = "run.started"
    RUN_ATTEMPT_LOST = "run.attempt_lost"
    RUN_WAITING = "run.waiting"
    MESSAGE_STARTED = "message.started"
    MESSAGE_DELTA = "message.delta"
    MESSAGE_COMPLETED = "message.completed"
    REASONING_DELTA = "reasoning.delta"
    REASONING_COMPLETED = "reasoning.completed"
    TOOL_DELTA = "tool.delta"
    TOOL_STARTED = "tool.started"
    TOOL_COMPLETED = "tool.completed"
    ARTIFACT_SAVED = "artifact.saved"
    INPUT_DELIVERED = "input.delivered"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_RESOLVED = "approval.resolved"
    PROGRESS = "progress"
    NOTICE = "notice"
    USAGE_UPDATED = "usage.updated"
    RUN_SUCCEEDED = "run.succeeded"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"


DELTAS = {
    EventType.MESSAGE_DELTA: "message_id",
    EventType.REASONING_DELTA: "reasoning_id",
    EventType.TOOL_DELTA: "tool_call_id",
}
"""Events that add a piece of text to a block, and which of their data names it."""
TERMINAL_EVENTS = {EventType.RUN_SUCCEEDED, EventType.RUN_FAILED, EventType.RUN_CANCELLED}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, before the log has given it a position."""

    type: EventType
    data: JsonObject
    at: datetime = field(default_factory=utc_now)

    def encoded_tail(self) -> str:
        """The event as ASCII JSON from `at` on; what comes before is known only when it is committed."""
        at = self.at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        data = json.dumps(self.data, separators=(",", ":"))
        return f'"at":"{at}Z","type":"{self.type.value}","data":{data}}}'


def notice(level: str, code: str, message: str) -> Event:
    """A word to the person who reads the log; `level` is info, warning or error."""
    return Event(EventType.NOTICE, {"level": level, "code": code, "message": message})


_AT, _AT_CHARACTERS = ',"at":"', len("2026-11-22T13:22:49.494Z")


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive committed events of one run: `lines[i]` is an event as JSON text."""

    run_id: str
    first_seq: int
    last_seq: int
    body: str
    terminal: bool = False

    @property
    def at(self) -> datetime:
        """When its last event happened."""
        newest = self.body.rindex("\n") + 1 if "\n" in self.body else 0
        start = self.body.index(_AT, newest) + len(_AT)
        return datetime.fromisoformat(self.body[start : start + _AT_CHARACTERS])

    def after(self, seq: int) -> list[tuple[int, str]]:
        """(seq, JSON text) of each event past `seq`, in order."""
        if seq >= self.last_seq:
            return []
        # An event begins with its position, so that no reader needs to parse it.
        placed = ((int(line[7 : line.index(",", 7)]), line) for line in self.body.split("\n"))
        return [(at, line) for at, line in placed if at > seq]


@dataclass(frozen=True, slots=True)
class Append:
    """What one attempt asks the log to take, all or nothing; `batch` names the write for ever."""

    run_id: str
    attempt: int
    tails: Sequence[str]
    batch: str = field(default_factory=lambda: uuid.uuid4().hex)


# One statement is fence, sequence and row lock for the whole group. PostgreSQL first locks the runs in the order of
# their ids, as every statement that touches several runs does; SQLite has one writer at a time.
_FENCE = {
    "sqlite": text(
        """
        UPDATE runs SET last_seq = last_seq + g.n
        FROM (SELECT value ->> 'id' AS id, value ->> 'attempt' AS attempt, value ->> 'n' AS n
              FROM json_each(:asked)) AS g
        WHERE runs.id = g.id AND runs.attempt = g.attempt AND runs.status = 'running'
        RETURNING runs.id, runs.last_seq
        """
    ),
    "postgresql": text(
        """
        WITH g AS (SELECT * FROM jsonb_to_recordset(CAST(:asked AS jsonb)) AS g(id text, attempt int, n int)),
             locked AS (SELECT runs.id FROM runs JOIN g ON runs.id = g.id ORDER BY runs.id FOR NO KEY UPDATE OF runs)
        UPDATE runs SET last_seq = last_seq + g.n
        FROM g JOIN locked ON locked.id = g.id
        WHERE runs.id = g.id AND runs.attempt = g.attempt AND runs.status = 'running'
        RETURNING runs.id, runs.last_seq
        """
    ),
}


def append_group(db: Db, appends: Sequence[Append]) -> dict[str, Batch]:
    """Door one, for many runs at once: at most one `Append` a run.

    Returns the batch of each run that took it; a run that is missing there is fenced: its attempt is over.
    """
    asked = json.dumps([{"id": a.run_id, "attempt": a.attempt, "n": len(a.tails)} for a in appends])
    fence = _FENCE[db.get_bind().dialect.name]
    last_seqs: dict[str, int] = {row[0]: row[1] for row in db.execute(fence, {"asked": asked})}
    taken = [a for a in appends if a.run_id in last_seqs]
    batches = {a.run_id: _batch(a, last_seqs[a.run_id] - len(a.tails)) for a in taken}
    _store(db, taken, batches)
    return batches


def append(db: Db, run_id: str, attempt: int, events: Iterable[Event]) -> Batch:
    """Door one, for one run.

    Raises:
        Fenced: the attempt is no longer the run's, or the run is over.
    """
    batches = append_group(db, [Append(run_id, attempt, [event.encoded_tail() for event in events])])
    if run_id not in batches:
        raise Fenced(f"attempt {attempt} of {run_id} is over")
    return batches[run_id]


def transition(
    db: Db,
    run_id: str,
    *,
    seen: tuple[RunStatus, int],
    to: RunStatus,
    events: Sequence[Event],
    where: Iterable[Any] = (),
    **values: Any,
) -> Run | None:
    """Door two: the compare-and-set of a run's status, with the events that tell of it.

    The run must still have the status and attempt that were `seen`, and satisfy `where`; then it goes `to` the new
    status and takes `values`, and its log takes `events`. A terminal status and its event thus commit together, and
    nothing can follow them: every door asks for a status that is not terminal.

    Returns the run as it is now, or None when somebody else was first.
    """
    status, attempt = seen
    moved = db.scalar(
        update(Run)
        .where(Run.id == run_id, Run.status == status, Run.attempt == attempt, *where)
        .values(status=to, last_seq=Run.last_seq + len(events), **values)
        .returning(Run)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if moved is not None:
        taken = Append(run_id, moved.attempt, [event.encoded_tail() for event in events])
        _store(db, [taken], {run_id: _batch(taken, moved.last_seq - len(events), terminal=to.terminal)})
        if to.terminal:
            announce(db, moved)
    return moved


def start(db: Db, run: Run, event: Event) -> None:
    """Give a run that is being accepted its first event."""
    taken = Append(run.id, 0, [event.encoded_tail()])
    _store(db, [taken], {run.id: _batch(taken, 0)})


def append_again(db: Db, again: Append) -> Batch | None:
    """Door one, for a write that may be in the record already, as the answer to COMMIT was lost; None when fenced."""
    # The lost transaction may still be on its way to its end; the look comes after that, and not before.
    db.execute(select(Run.id).where(Run.id == again.run_id).with_for_update(key_share=True))
    row = db.scalar(select(RunEvents).where(RunEvents.run_id == again.run_id, RunEvents.batch == again.batch))
    if row is None:
        return append_group(db, [again]).get(again.run_id)
    known = Batch(again.run_id, row.first_seq, row.last_seq, row.body)
    # Nobody was told of it, for want of the answer.
    announce(db, known)
    return known


def read(db: Db, run_id: str, after: int, limit: int = 200, enough_bytes: int = 2**63) -> list[Batch]:
    """The next batches of a run that hold events past `after`: `limit` of them at most, and none past enough bytes."""
    batches = []
    size = 0
    wanted = (
        select(_TABLE.c.first_seq, _TABLE.c.last_seq, _TABLE.c.body)
        .where(_TABLE.c.run_id == run_id, _TABLE.c.last_seq > after)
        .order_by(_TABLE.c.last_seq)
        .limit(limit)
        # One, then a few at a time: a batch may have a megabyte.
        .execution_options(stream_results=True, max_row_buffer=32)
    )
    with db.execute(wanted) as rows:
        for first, last, body in rows:
            batches.append(Batch(run_id, first, last, body))
            size += len(body)
            if size >= enough_bytes:
                break
    return batches


def _batch(taken: Append, before: int, *, terminal: bool = False) -> Batch:
    head = f'"run_id":"{taken.run_id}","attempt":{taken.attempt},'
    lines = [f'{{"seq":{seq},{head}{tail}' for seq, tail in enumerate(taken.tails, before + 1)]
    return Batch(taken.run_id, before + 1, before + len(lines), "\n".join(lines), terminal)


_INSERT = insert(_TABLE)


def _store(db: Db, appends: Sequence[Append], batches: dict[str, Batch]) -> None:
    if not appends:
        return
    rows = [
        {
            "run_id": a.run_id,
            "last_seq": batches[a.run_id].last_seq,
            "first_seq": batches[a.run_id].first_seq,
            "attempt": a.attempt,
            "batch": a.batch,
            "body": batches[a.run_id].body,
        }
        for a in appends
    ]
    db.execute(_INSERT, rows)
    for a in appends:
        announce(db, batches[a.run_id])
