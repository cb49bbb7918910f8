"""How the whole house stands: its workers, what waits, and what is at work, of all owners. For who runs it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from longwick.backlog import IS_FIRST_OF_THREAD
from longwick.database import Db, utc_now
from longwick.events import Batch, EventType
from longwick.kinds import RunStatus
from longwick.models import Lease, Run, RunEvents, Worker

MOST_RUNS = 200
HEAD_CHARACTERS = 200
"""So much of a batch says when its first event happened."""


@dataclass(frozen=True, slots=True)
class AtWork:
    """A worker, and how much of it is taken."""

    id: str
    host: str
    pid: int
    beat: int
    room: Mapping[str, int]
    agents: Sequence[str]
    runs: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Queue:
    """What one owner has waiting in a lane."""

    lane: str
    owner: str
    waiting: int
    next: int
    """Of them, those that wait for nothing but a worker."""
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class Going:
    """A run that is at work, or waits for somebody's decision."""

    id: str
    owner: str
    agent: str
    kind: str
    status: str
    attempt: int
    worker_id: str | None
    started_at: datetime | None
    last_at: datetime | None
    """When it last had something to say."""
    tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """All of it, at one moment."""

    at: datetime
    workers: Sequence[AtWork]
    queues: Sequence[Queue]
    runs: Sequence[Going]
    going: int
    """How many runs there are; of very many only some are in `runs`."""


@dataclass(slots=True)
class _Used:
    """What a run has used, and how far its log was read for that."""

    seq: int = 0
    said: dict[str, Any] = field(default_factory=dict)


class Watcher:
    """Looks again and again; what it has read of a log it does not read again."""

    def __init__(self) -> None:
        self._used: dict[str, _Used] = {}

    def look(self, db: Db) -> Standing:
        """How everything stands now."""
        active = Run.status.in_((RunStatus.RUNNING, RunStatus.WAITING))
        going = db.scalar(select(func.count()).select_from(Run).where(active)) or 0
        found = db.execute(
            select(Run.id, Run.owner, Run.agent, Run.kind, Run.status, Run.attempt, Run.worker_id, Run.started_at)
            .add_columns(Run.last_seq, func.substr(RunEvents.body, 1, HEAD_CHARACTERS).label("head"))
            .outerjoin(RunEvents, (RunEvents.run_id == Run.id) & (RunEvents.last_seq == Run.last_seq))
            .where(active)
            .order_by(Run.started_at, Run.id)
            .limit(MOST_RUNS)
        ).all()
        self._used = {row.id: self._used_by(db, row.id, row.last_seq) for row in found}
        runs = [
            Going(
                *(row.id, row.owner, row.agent, row.kind.value, row.status.value, row.attempt, row.worker_id),
                started_at=row.started_at,
                last_at=Batch(row.id, 0, 0, row.head.partition("\n")[0]).at if row.head else None,
                tokens=_tokens(self._used[row.id].said),
                cost_usd=_dollars(self._used[row.id].said),
            )
            for row in found
        ]
        return Standing(utc_now(), _workers(db), _queues(db), runs, going)

    def _used_by(self, db: Db, run_id: str, last_seq: int) -> _Used:
        known = self._used.get(run_id, _Used())
        body = db.scalar(
            select(RunEvents.body)
            .where(RunEvents.run_id == run_id, RunEvents.last_seq > known.seq, RunEvents.last_seq <= last_seq)
            .where(RunEvents.body.contains(f'"type":"{EventType.USAGE_UPDATED}"'))
            .order_by(RunEvents.last_seq.desc())
            .limit(1)
        )
        events = [json.loads(line) for line in (body or "").split("\n") if line]
        said = [event["data"] for event in events if event["type"] == EventType.USAGE_UPDATED]
        return _Used(last_seq, said[-1] if said else known.said)


def _workers(db: Db) -> list[AtWork]:
    held = {row[0]: row[1] for row in db.execute(select(Lease.worker_id, func.count()).group_by(Lease.worker_id))}
    return [
        AtWork(
            *(worker.id, worker.host, worker.pid, worker.beat, worker.capacity),
            agents=[name for name, about in worker.agents.items() if about["unavailable"] is None],
            runs=held.get(worker.id, 0),
            started_at=worker.started_at,
        )
        for worker in db.scalars(select(Worker).order_by(Worker.host, Worker.id))
    ]


def _queues(db: Db) -> list[Queue]:
    waiting = select(Run.kind, Run.owner, func.count(), func.min(Run.created_at)).where(Run.status == RunStatus.QUEUED)
    first = select(Run.kind, Run.owner, func.count()).where(Run.status == RunStatus.QUEUED, IS_FIRST_OF_THREAD)
    heads = {(row[0], row[1]): row[2] for row in db.execute(first.group_by(Run.kind, Run.owner))}
    rows = db.execute(waiting.group_by(Run.kind, Run.owner).order_by(func.min(Run.created_at)))
    return [Queue(kind.value, owner, count, heads.get((kind, owner), 0), at) for kind, owner, count, at in rows]


def _tokens(said: Mapping[str, Any]) -> int | None:
    """What came in and went out, if the agent has said a number."""
    counts = [said.get(name) for name in ("input_tokens", "output_tokens")]
    known = [count for count in counts if type(count) is int]
    return sum(known) if known else None


def _dollars(said: Mapping[str, Any]) -> float | None:
    cost = said.get("cost_usd")
    return float(cost) if type(cost) in (int, float) and cost is not None else None
