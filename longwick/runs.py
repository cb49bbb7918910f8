"""The life of a run, from accepted to settled; docs/architecture.md draws it.

Every change of status goes through door two of the log (`events.transition`); each function is part of a unit of work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, delete, func, or_, select, update

from longwick import events, hints, limits, outcomes, sessions, spending, steering, threads, traces, transcript
from longwick.backlog import IS_FIRST_OF_THREAD
from longwick.database import Db, utc_now
from longwick.errors import Fenced, NotFound
from longwick.events import Event, EventType
from longwick.ids import new_id
from longwick.kinds import UNSETTLED, ApprovalStatus, OnWorkerLost, Role, RunKind, RunStatus
from longwick.limits import NO_LIMITS, Limits
from longwick.models import Approval, JsonObject, Lease, Run, Thread
from longwick.outcomes import Outcome
from longwick.paging import Page, page

MOST_ATTEMPTS = 3

# What every run needs is built once: to build a statement takes longer than to execute it.
_MARK_SPAWNED = (
    update(Run)
    .where(Run.id == bindparam("run"), Run.attempt == bindparam("of_attempt"), Run.status == RunStatus.RUNNING)
    .values(spawned_at=bindparam("now"))
    .returning(Run.id)
    .execution_options(synchronize_session=False)
)
_ASK_NO_MORE = (
    update(Approval)
    .where(Approval.run_id == bindparam("of_run"), Approval.status == ApprovalStatus.PENDING)
    .values(status=ApprovalStatus.EXPIRED, decided_at=bindparam("now"))
    .execution_options(synchronize_session=False)
)
_DROP_LEASE = delete(Lease).where(Lease.run_id == bindparam("run")).execution_options(synchronize_session=False)


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a caller asks for."""

    input: str
    agent: str
    model: str | None = None
    kind: RunKind = RunKind.CHAT
    artifact_generation: bool = True
    timeout_seconds: float | None = None
    idle_timeout_seconds: float | None = None
    max_cost_usd: float | None = None
    on_worker_lost: OnWorkerLost = OnWorkerLost.FAIL
    extra: JsonObject = field(default_factory=dict)
    retry_of: str | None = None
    follows: str | None = None


def create(db: Db, thread: Thread, new: NewRun, message_id: str | None = None) -> Run:
    """Accept a run: its message, its row and `run.queued`, together. The row is the outbox of its hint.

    With `message_id` that message of another turn becomes this one's.
    """
    run = Run(
        id=new_id("run"),
        thread_id=thread.id,
        owner=thread.owner,
        turn=threads.next_turn(db, thread, title=new.input),
        kind=new.kind,
        status=RunStatus.QUEUED,
        agent=new.agent,
        model=new.model,
        input=new.input,
        artifact_generation=new.artifact_generation,
        timeout_seconds=new.timeout_seconds,
        idle_timeout_seconds=new.idle_timeout_seconds,
        max_cost_usd=new.max_cost_usd,
        on_worker_lost=new.on_worker_lost,
        extra=new.extra,
        traceparent=traces.current(),
        retry_of=new.retry_of,
        follows=new.follows,
        attempt=0,
        last_seq=1,
        hints=0,
        created_at=utc_now(),
    )
    traces.note(run_id=run.id, thread_id=thread.id, kind=new.kind.value, agent=new.agent)
    db.add(run)
    db.flush()
    if message_id is None:
        threads.add_message(db, run, Role.USER, new.input)
    else:
        threads.move_message(db, message_id, run)
    events.start(db, run, Event(EventType.RUN_QUEUED, {"agent": new.agent, "kind": new.kind.value}))
    return run


def unsettled_of(db: Db, thread_id: str) -> Sequence[Run]:
    """The runs of a thread that are not over, in the order of their turns."""
    return db.scalars(select(Run).where(Run.thread_id == thread_id, Run.status.in_(UNSETTLED)).order_by(Run.turn)).all()


def get(db: Db, owner: str, run_id: str) -> Run:
    """A run of this owner.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    run = db.scalar(
        select(Run)
        .join(Thread, Thread.id == Run.thread_id)
        .where(Run.id == run_id, Run.owner == owner, Thread.deleted_at.is_(None))
    )
    if run is None:
        raise NotFound(f"no run {run_id}")
    return run


def list_runs(
    db: Db,
    owner: str,
    *,
    statuses: Sequence[RunStatus] = (),
    kind: RunKind | None = None,
    thread_id: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Page[Run]:
    """The owner's runs, newest first."""
    wanted = select(Run).join(Thread, Thread.id == Run.thread_id).where(Run.owner == owner, Thread.deleted_at.is_(None))
    if statuses:
        wanted = wanted.where(Run.status.in_(statuses))
    if kind:
        wanted = wanted.where(Run.kind == kind)
    if thread_id:
        wanted = wanted.where(Run.thread_id == thread_id)
    return page(db, wanted, Run.id, limit, after, newest=True)


def claim(
    db: Db, run_id: str, worker_id: str, started: Mapping[str, JsonObject], usual: Limits = NO_LIMITS
) -> Run | None:
    """Make a queued run this worker's: the next attempt, with its lease.

    Only the first unsettled run of its thread, none that somebody wants cancelled, and none of an owner who has as
    much at work as may be. Returns None where the hint should be dropped; hints may be late or doubled. `started` has,
    by agent, what `run.started` tells of it.
    """
    columns = (Run.status, Run.attempt, Run.turn, Run.agent, Run.model, Run.owner)
    seen = db.execute(select(*columns).where(Run.id == run_id)).one_or_none()
    if seen is None or seen.status is not RunStatus.QUEUED:
        return None
    if not limits.may_start(db, seen.owner, usual):
        # It waits on, and is hinted at again once its owner has room.
        hints.forget(db, run_id)
        return None
    attempt = seen.attempt + 1
    about = {name: value for name, value in started.get(seen.agent, {}).items() if name != "model" or not seen.model}
    run = events.transition(
        db,
        run_id,
        seen=(RunStatus.QUEUED, seen.attempt),
        to=RunStatus.RUNNING,
        events=[
            Event(
                EventType.RUN_STARTED,
                {"attempt": attempt, "agent": seen.agent, "model": seen.model, "cli_version": None, **about},
            )
        ],
        # Having waited for an edit, this sees who is first as it was before, and the run's own turn as it is now.
        where=[Run.cancel_requested_at.is_(None), IS_FIRST_OF_THREAD, Run.turn == seen.turn],
        attempt=attempt,
        worker_id=worker_id,
        spawned_at=None,
        started_at=func.coalesce(Run.started_at, utc_now()),
    )
    if run is not None:
        db.add(Lease(run_id=run_id, attempt=run.attempt, worker_id=worker_id, beat=0))
        db.flush()
    return run


def mark_spawned(db: Db, run: Run) -> None:
    """Note, before it happens, that the attempt's CLI is started: from here on the run is never started again.

    Raises:
        Fenced: the attempt is over.
    """
    if db.scalar(_MARK_SPAWNED, {"run": run.id, "of_attempt": run.attempt, "now": utc_now()}) is None:
        raise Fenced(f"attempt {run.attempt} of {run.id} is over")


def settle(db: Db, run_id: str, attempt: int, outcome: Outcome, closing: Sequence[Event] = ()) -> Run | None:
    """End a running run: its last events, its answer as a message, its session and its lease, together.

    A run that somebody wants cancelled ends `cancelled`, whatever its agent made of it.
    Returns None when the attempt had ended before; the first one wins.
    """
    seen = db.execute(
        select(Run.cancel_requested_at, Run.created_at, Run.started_at, Run.cost_usd)
        .where(Run.id == run_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    if seen is None:
        return None
    if attempt > 1 and not outcome.text and outcome.status is not RunStatus.SUCCEEDED:
        # It failed before it knew what earlier attempts have shown.
        shown = transcript.of_run(db, run_id)
        why = {"error_code": outcome.error_code, "error_message": outcome.error_message}
        outcome = outcomes.cut_short(outcome.status, shown, **why)
    if seen.cancel_requested_at is not None:
        outcome = Outcome(
            RunStatus.CANCELLED, outcome.text, outcome.partial, usage=outcome.usage, cost_usd=outcome.cost_usd
        )
    now = utc_now()
    # Whoever started it may have had another clock.
    duration_ms = max(0, int((now - (seen.started_at or seen.created_at)).total_seconds() * 1000))
    run = events.transition(
        db,
        run_id,
        seen=(RunStatus.RUNNING, attempt),
        to=outcome.status,
        events=[*closing, outcomes.terminal_event(outcome, duration_ms)],
        output_text=outcome.text or None,
        error_code=outcome.error_code,
        error_message=outcome.error_message,
        usage=outcome.usage,
        cost_usd=outcome.cost_usd,
        finished_at=now,
    )
    if run is None:
        return None
    if outcome.text:
        threads.add_message(db, run, Role.ASSISTANT, outcome.text, partial=outcome.partial)
    release(db, run)
    if run.status is not RunStatus.CANCELLED:
        _ask_in_turn(db, run)
    spending.note(db, run, seen.cost_usd)
    return run


def _ask_in_turn(db: Db, run: Run) -> None:
    """Queue what was said to a run and did not reach its agent before it was over."""
    for given in steering.undelivered(db, run.id):
        new = NewRun(given.text, run.agent, run.model, run.kind)
        create(db, db.get_one(Thread, run.thread_id), new, given.message_id)


def requeue(db: Db, run_id: str, attempt: int, reason: str, closing: Sequence[Event] = ()) -> Run | None:
    """Give a run back to the queue, its next attempt to come: one whose CLI never started, or may be started again.

    Returns None when it was ended before, or somebody wants it cancelled.
    """
    told = [*closing, Event(EventType.RUN_ATTEMPT_LOST, {"attempt": attempt, "reason": reason})]
    may = [
        or_(Run.spawned_at.is_(None), Run.on_worker_lost == OnWorkerLost.RETRY),
        Run.attempt - Run.waits < MOST_ATTEMPTS,
    ]
    return _end_attempt(db, run_id, attempt, RunStatus.QUEUED, told, may)


def park(db: Db, run_id: str, attempt: int, to: RunStatus, told: Sequence[Event]) -> Run | None:
    """End an attempt whose run is to go on with another one: `to` tells whether now, or once something is decided.

    Returns None when it was ended before, or somebody wants it cancelled.
    """
    return _end_attempt(db, run_id, attempt, to, told, [], waits=Run.waits + 1)


def _end_attempt(
    db: Db, run_id: str, attempt: int, to: RunStatus, told: Sequence[Event], may: Sequence[Any], **values: Any
) -> Run | None:
    noted, cost = spending.so_far(db, run_id)
    values |= {"worker_id": None, "hinted_at": None, "hints": 0, "cost_usd": cost}
    ended = events.transition(
        db,
        run_id,
        seen=(RunStatus.RUNNING, attempt),
        to=to,
        events=told,
        where=[*may, Run.cancel_requested_at.is_(None)],
        **values,
    )
    if ended is not None:
        release(db, ended)
        spending.note(db, ended, noted)
    return ended


def release(db: Db, run: Run) -> None:
    """Let go of what an attempt held, and of what it has asked, unless its run waits for that."""
    if run.status is not RunStatus.WAITING:
        db.execute(_ASK_NO_MORE, {"of_run": run.id, "now": utc_now()})
    sessions.close_sessions(db, run.id)
    db.execute(_DROP_LEASE, {"run": run.id})
    threads.touch(db, run.thread_id)
