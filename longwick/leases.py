"""Who answers for a run: leases that beat, and what becomes of a run whose lease stands still."""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import delete, select, text, update

from longwick import metrics, outcomes, runs, seams, traces, transcript
from longwick.database import Database, Db, utc_now
from longwick.events import Event, EventType
from longwick.kinds import OnWorkerLost, RunStatus
from longwick.models import JsonObject, Lease, Run, Worker
from longwick.runs import MOST_ATTEMPTS

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as it was seen."""

    run_id: str
    attempt: int
    worker_id: str
    beat: int


class Watch(Generic[K]):
    """Tells which beats have stood still for too long, by one clock that nobody can set: this process's own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[K, float] = {}

    def standing_still(self, beats: Iterable[K], seconds: float) -> list[K]:
        """Of the beats (who, and at which count) that there are now, those that were the same all this time."""
        now = self._clock()
        self._since = {beat: self._since.get(beat, now) for beat in beats}
        return [beat for beat, since in self._since.items() if now - since >= seconds]


@dataclass(frozen=True, slots=True)
class Listed:
    """A worker as the list of workers has it."""

    id: str
    host: str
    pid: int
    capacity: Mapping[str, int]
    """Lane -> how many runs may be outstanding, hinted or running, on its account."""
    agents: JsonObject


def list_worker(db: Db, listed: Listed) -> None:
    """Put a worker on the list, or change what the list says of it, so that runs are dispatched on its account."""
    worker = db.get(Worker, listed.id) or Worker(id=listed.id, beat=0, started_at=utc_now())
    worker.host, worker.pid = listed.host, listed.pid
    worker.capacity, worker.agents = dict(listed.capacity), listed.agents
    db.add(worker)
    db.flush()


def retire_worker(db: Db, worker_id: str) -> None:
    """Take a worker off the list."""
    db.execute(delete(Worker).where(Worker.id == worker_id))


def living_workers(db: Db) -> Sequence[Worker]:
    """All workers on the list; one that died is on it until a sweeper has watched it for a lease."""
    return db.scalars(select(Worker)).all()


_BEAT = {
    "sqlite": text(
        """
        UPDATE leases SET beat = beat + 1, cost_usd = coalesce(h.cost, leases.cost_usd)
        FROM (SELECT value ->> 'id' AS id, value ->> 'attempt' AS attempt, value ->> 'cost' AS cost
              FROM json_each(:held)) AS h
        WHERE leases.run_id = h.id AND leases.attempt = h.attempt
        RETURNING leases.run_id
        """
    ),
    "postgresql": text(
        """
        WITH h AS (SELECT * FROM jsonb_to_recordset(CAST(:held AS jsonb)) AS h(id text, attempt int, cost float)),
             locked AS (SELECT l.run_id, h.cost FROM leases AS l JOIN h ON l.run_id = h.id AND l.attempt = h.attempt
                        ORDER BY l.run_id FOR UPDATE OF l)
        UPDATE leases SET beat = beat + 1, cost_usd = coalesce(locked.cost, leases.cost_usd)
        FROM locked WHERE leases.run_id = locked.run_id RETURNING leases.run_id
        """
    ),
}


def beat(
    db: Db, listed: Listed, held: Sequence[tuple[str, int]], costs: Mapping[str, float | None] | None = None
) -> set[str]:
    """Show that a worker lives, and renew the leases of the (run id, attempt) that it `held`; note what they `cost`.

    Returns the runs whose leases were renewed; an attempt that is missing there is over.
    """
    lives = update(Worker).where(Worker.id == listed.id).values(beat=Worker.beat + 1).returning(Worker.id)
    if db.scalar(lives.execution_options(synchronize_session=False)) is None:
        # It was silent for so long that a sweeper took it off.
        list_worker(db, listed)
    known = costs or {}
    asked = json.dumps([{"id": run_id, "attempt": attempt, "cost": known.get(run_id)} for run_id, attempt in held])
    return set(db.scalars(_BEAT[db.get_bind().dialect.name], {"held": asked})) if held else set()


def cancel_wishes(db: Db, run_ids: Sequence[str]) -> set[str]:
    """Which of these running runs somebody wants cancelled."""
    return set(db.scalars(select(Run.id).where(Run.id.in_(run_ids), Run.cancel_requested_at.is_not(None))))


def all_held(db: Db, worker_id: str | None = None) -> list[Held]:
    """The leases there are, of one worker or of all."""
    wanted = select(Lease.run_id, Lease.attempt, Lease.worker_id, Lease.beat)
    if worker_id is not None:
        wanted = wanted.where(Lease.worker_id == worker_id)
    return [Held(*row) for row in db.execute(wanted)]


def recover(database: Database, held: Held, reason: str) -> Run | None:
    """End an attempt whose worker is lost; None when it shows a sign of life after all.

    A CLI that was never started is started again, by whoever comes first, a few times at most. One that was started
    is not, unless its caller has said that it may: an agent's turn is not idempotent, and saying so beats doing it
    twice. All it showed is kept.
    """
    run, shown = database.read(lambda db: (db.get(Run, held.run_id), transcript.of_run(db, held.run_id)))
    if run is None or run.attempt != held.attempt or run.status is not RunStatus.RUNNING:
        database.write(lambda db: _drop(db, held))
        return None

    def end(db: Db) -> Run | None:
        now = db.execute(
            select(Run.last_seq, Run.spawned_at, Run.cancel_requested_at, Run.waits)
            .where(Run.id == held.run_id)
            .with_for_update(key_share=True)
        ).one()
        if now.last_seq != run.last_seq or not _drop(db, held):
            return None
        again = now.spawned_at is None or run.on_worker_lost is OnWorkerLost.RETRY
        if again and now.cancel_requested_at is None and held.attempt - now.waits < MOST_ATTEMPTS:
            return runs.requeue(db, held.run_id, held.attempt, reason, shown.close(partial=True))
        if now.spawned_at is None:
            lost = outcomes.cut_short(
                RunStatus.FAILED,
                shown,
                error_code="lost_too_often",
                error_message=f"{held.attempt} workers were lost, one after the other, before the agent could start.",
            )
        else:
            lost = outcomes.cut_short(
                RunStatus.FAILED,
                shown,
                error_code="worker_lost",
                error_message="The worker that ran the agent was lost. What the agent had done until then is kept; "
                "retry to have it start over.",
            )
        told = Event(EventType.RUN_ATTEMPT_LOST, {"attempt": held.attempt, "reason": reason})
        return runs.settle(db, held.run_id, held.attempt, lost, [*shown.close(partial=True), told])

    seams.passed("recovering")
    ended = database.write(end)
    if ended is not None:
        # The attempt's own span was lost with its worker.
        since = run.started_at or run.created_at
        traces.passed("attempt lost", since, parent=run.traceparent, attempt=held.attempt, became=ended.status.value)
        metrics.LEASES_LOST.labels(ended.status).inc()
    return ended


def _drop(db: Db, held: Held) -> bool:
    """Take the lease away, if it has not beaten since it was seen."""
    dropped = db.scalar(
        delete(Lease)
        .where(Lease.run_id == held.run_id, Lease.attempt == held.attempt, Lease.beat == held.beat)
        .returning(Lease.run_id)
        .execution_options(synchronize_session=False)
    )
    return dropped is not None
