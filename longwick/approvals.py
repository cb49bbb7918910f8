"""Tools that need somebody's leave: asked for by an attempt, decided from anywhere.

A decision that its attempt still waits for is told to it; where the run was parked meanwhile, it goes on with another.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, select, update

from longwick import events, runs, threads
from longwick.database import Db, announce, utc_now
from longwick.errors import Conflict, NotFound
from longwick.events import Event, EventType
from longwick.ids import new_id
from longwick.kinds import ApprovalStatus, RunStatus
from longwick.models import Approval, JsonObject, Run, RunEvents, Thread
from longwick.news import News
from longwick.paging import Page, page
from longwick.times import rfc3339

AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about the use of a tool."""

    approval_id: str
    tool: str
    input: JsonObject
    allowed: bool
    words: str = ""
    """What the agent is told of a denial."""

    @classmethod
    def of(cls, approval: Approval) -> "Decision":
        """What an approval that is not pending any more has come to."""
        words = {
            ApprovalStatus.DENIED: f"The user does not allow it. {approval.message or ''}".strip(),
            ApprovalStatus.EXPIRED: "Nobody has answered in time, so it is not allowed.",
        }
        allowed = approval.status is ApprovalStatus.ALLOWED
        return cls(approval.id, approval.tool, approval.input, allowed, words.get(approval.status, ""))


def request(db: Db, run: Run, tool: str, given: JsonObject, seconds: float) -> Approval:
    """Ask for leave, for so long; told in the run's log.

    Raises:
        Fenced: the attempt is over.
    """
    now = utc_now()
    approval = Approval(
        id=new_id("apr"),
        run_id=run.id,
        attempt=run.attempt,
        tool=tool,
        input=given,
        status=ApprovalStatus.PENDING,
        created_at=now,
        expires_at=now + timedelta(seconds=seconds),
    )
    events.append(db, run.id, run.attempt, [Event(EventType.APPROVAL_REQUESTED, {"approval": to_json(approval)})])
    db.add(approval)
    db.flush()
    return approval


def decide(db: Db, owner: str, approval_id: str, allowed: bool, message: str | None = None) -> Approval:
    """Allow or deny; the run is told, or goes on if it was parked.

    Raises:
        NotFound: there is no such approval of this owner.
        Conflict: it is decided already (`already_decided`).
    """
    status = ApprovalStatus.ALLOWED if allowed else ApprovalStatus.DENIED
    approval = _settle(db, get(db, owner, approval_id), status, message)
    if approval is None:
        now = get(db, owner, approval_id)
        raise Conflict(f"this approval is {now.status.value} already", code="already_decided")
    return approval


def any_due(db: Db) -> bool:
    """Whether there is something that nobody has decided in time."""
    return db.scalar(_DUE.limit(1), {"now": utc_now()}) is not None


def expire_due(db: Db) -> None:
    """Deny what nobody has decided in time."""
    for approval in db.scalars(_DUE.limit(AT_ONCE), {"now": utc_now()}).all():
        _settle(db, approval, ApprovalStatus.EXPIRED, None)


_DUE = (
    select(Approval)
    .where(Approval.status == ApprovalStatus.PENDING, Approval.expires_at < bindparam("now"))
    .order_by(Approval.run_id)
)


def get(db: Db, owner: str, approval_id: str) -> Approval:
    """An approval of this owner.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    wanted = select(Approval).join(Run, Run.id == Approval.run_id).join(Thread, Thread.id == Run.thread_id)
    approval = db.scalar(
        wanted.where(Approval.id == approval_id, Run.owner == owner, Thread.deleted_at.is_(None)).execution_options(
            populate_existing=True
        )
    )
    if approval is None:
        raise NotFound(f"no approval {approval_id}")
    return approval


def list_approvals(
    db: Db, owner: str, *, statuses: Sequence[ApprovalStatus] = (), limit: int = 100, after: str | None = None
) -> Page[Approval]:
    """The owner's approvals, newest first."""
    wanted = select(Approval).join(Run, Run.id == Approval.run_id).join(Thread, Thread.id == Run.thread_id)
    wanted = wanted.where(Run.owner == owner, Thread.deleted_at.is_(None))
    if statuses:
        wanted = wanted.where(Approval.status.in_(statuses))
    return page(db, wanted, Approval.id, limit, after, newest=True)


def decided(db: Db, ids: Sequence[str]) -> list[Decision]:
    """Of these, what has been decided."""
    found = db.scalars(select(Approval).where(Approval.id.in_(ids), Approval.status != ApprovalStatus.PENDING))
    return [Decision.of(approval) for approval in found]


def runs_decided(db: Db, ids: Sequence[str]) -> set[str]:
    """The runs for which something of this is decided."""
    wanted = select(Approval.run_id).where(Approval.id.in_(ids), Approval.status != ApprovalStatus.PENDING)
    return set(db.scalars(wanted))


def of_parked(db: Db, run: Run) -> list[Decision]:
    """What was decided for the attempt before this one, if that was parked to wait for it.

    Of an attempt that was lost, what was allowed may have been done: it is asked for again.
    """
    found = db.scalars(
        select(Approval)
        .where(Approval.run_id == run.id, Approval.attempt == run.attempt - 1)
        .where(Approval.status != ApprovalStatus.PENDING)
        .order_by(Approval.id)
    ).all()
    return [Decision.of(approval) for approval in found] if found and _was_parked(db, run) else []


def _was_parked(db: Db, run: Run) -> bool:
    """Whether the attempt before this one was parked, and not lost."""
    bodies = select(RunEvents.first_seq, RunEvents.last_seq, RunEvents.body).where(
        RunEvents.run_id == run.id, RunEvents.attempt == run.attempt - 1
    )
    lines = (line for row in db.execute(bodies) for _, line in events.Batch(run.id, *row).after(0))
    return any(json.loads(line)["type"] == EventType.RUN_WAITING for line in lines)


def park(db: Db, run_id: str, attempt: int, closing: Sequence[Event]) -> Run | None:
    """End an attempt that waits for a decision: the run goes on with another one when it is there.

    Returns None when the attempt had ended before, or somebody wants it cancelled.
    """
    # The run first, as everybody does who decides.
    db.execute(select(Run.id).where(Run.id == run_id).with_for_update(key_share=True))
    pending = db.scalars(
        select(Approval).where(Approval.run_id == run_id, Approval.status == ApprovalStatus.PENDING)
    ).all()
    waiting = [Event(EventType.RUN_WAITING, {"approval": to_json(approval)}) for approval in pending]
    return runs.park(
        db,
        run_id,
        attempt,
        RunStatus.WAITING if pending else RunStatus.QUEUED,
        [*closing, *(waiting or [Event(EventType.RUN_WAITING, {"approval": None})])],
    )


def to_json(approval: Approval) -> JsonObject:
    """An approval as the API shows it."""
    return {
        "id": approval.id,
        "run_id": approval.run_id,
        "tool": approval.tool,
        "input": approval.input,
        "status": approval.status.value,
        "created_at": rfc3339(approval.created_at),
        "expires_at": rfc3339(approval.expires_at),
        "decided_at": rfc3339(approval.decided_at) if approval.decided_at else None,
        "message": approval.message,
    }


def _settle(db: Db, approval: Approval, status: ApprovalStatus, message: str | None) -> Approval | None:
    """Write down what became of it, and have its run go on; None where somebody else was first."""
    locked = select(Run).where(Run.id == approval.run_id).with_for_update(key_share=True)
    run = db.scalars(locked.execution_options(populate_existing=True)).one()
    settled = db.scalar(
        update(Approval)
        .where(Approval.id == approval.id, Approval.status == ApprovalStatus.PENDING)
        .values(status=status, message=message, decided_at=utc_now())
        .returning(Approval)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if settled is None:
        return None
    resolved = Event(EventType.APPROVAL_RESOLVED, {"approval": to_json(settled)})
    if run.status is RunStatus.RUNNING and run.attempt == settled.attempt:
        events.append(db, run.id, run.attempt, [resolved])
        announce(db, News(run.id))
    elif run.status is RunStatus.WAITING:
        _go_on(db, run, resolved)
    return settled


def _go_on(db: Db, run: Run, resolved: Event) -> None:
    """Queue a parked run, once nothing of it is undecided."""
    pending = select(Approval.id).where(Approval.run_id == run.id, Approval.status == ApprovalStatus.PENDING)
    to = RunStatus.WAITING if db.scalar(pending.limit(1)) else RunStatus.QUEUED
    seen = (RunStatus.WAITING, run.attempt)
    events.transition(db, run.id, seen=seen, to=to, events=[resolved], hinted_at=None, hints=0)
    threads.touch(db, run.thread_id)
