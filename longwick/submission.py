"""Submitting a run: once for each idempotency key, and to a busy thread as its caller wants."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete, select, tuple_

from longwick import backlog, branches, cancellation, runs, spending, steering, threads, traces
from longwick.database import Db, record_now
from longwick.errors import Conflict, Invalid, NotFound, TooMany
from longwick.limits import NO_LIMITS, Limits, of_owner
from longwick.models import IdempotencyKey, Run, Thread
from longwick.runs import NewRun

KEY_HOURS = 24
FORGOTTEN_AT_ONCE = 100
QUEUE_FULL_SECONDS = 5


class IfBusy(StrEnum):
    """What to do with a message to a thread whose last run is not over."""

    QUEUE = "queue"
    REJECT = "reject"
    INTERRUPT = "interrupt"
    STEER = "steer"


@dataclass(frozen=True, slots=True)
class Once:
    """A caller's promise that a submission with this key is the same one; `body` is all that it says."""

    key: str
    body: bytes

    @property
    def digest(self) -> str:
        """What the record keeps of the body."""
        return hashlib.sha256(self.body).hexdigest()


def submit(
    db: Db,
    owner: str,
    new: NewRun,
    *,
    thread_id: str | None = None,
    agent_of_thread: str | None = None,
    if_busy: IfBusy = IfBusy.QUEUE,
    once: Once | None = None,
    usual: Limits = NO_LIMITS,
    can_steer: Callable[[str], bool] = lambda agent: False,
) -> Run:
    """Accept a run, in a thread or (without one) in a new thread; a repeated submission gets the run it made.

    Raises:
        NotFound: there is no such thread of this owner.
        Conflict: the thread is busy, and the caller wants to be told (`thread_busy`).
        Invalid: the key was used for something else (`idempotency_mismatch`), or it is to follow no run of the thread.
        TooMany: as many of the owner's runs wait as may (`too_many_queued`), or the day is spent (`budget_exceeded`).
    """
    # Locked before anything is looked at: of equal submissions at once, the second must not find its thread busy with
    # the first, or interrupt it.
    thread = threads.lock(db, owner, thread_id) if thread_id else None
    if once and (before := find_accepted(db, owner, once)):
        return before
    if new.follows:
        branches.check(db, owner, thread, new.follows)
    if thread is None:
        thread = threads.create(db, owner, agent=agent_of_thread)
    elif if_busy is IfBusy.INTERRUPT:
        cancellation.request_all(db, owner, thread.id)
    elif if_busy is IfBusy.STEER and (steered := _steer(db, thread, new.input, can_steer)):
        _remember(db, owner, once, steered)
        return steered
    elif if_busy is IfBusy.REJECT and (busy := runs.unsettled_of(db, thread.id)):
        raise Conflict(f"the thread is busy with {busy[0].id}", code="thread_busy")
    return _accept(db, thread, new, once, usual)


def find_accepted(db: Db, owner: str, once: Once) -> Run | None:
    """The run that an earlier submission with this key made, if there was one.

    Raises:
        Invalid: that one was for something else (`idempotency_mismatch`).
        Conflict: the run was deleted since, with its thread (`deleted`).
    """
    known = db.get(IdempotencyKey, (owner, once.key))
    if known is None or known.created_at < _oldest(db):
        return None
    if known.body_sha256 != once.digest:
        raise Invalid(
            "this Idempotency-Key was used for another request", code="idempotency_mismatch", param="Idempotency-Key"
        )
    try:
        return runs.get(db, owner, known.run_id)
    except NotFound as error:
        # To run it again is what the key was sent to prevent.
        raise Conflict("the run of this Idempotency-Key was deleted with its thread", code="deleted") from error


def retry(db: Db, owner: str, run_id: str, once: Once | None = None, usual: Limits = NO_LIMITS) -> Run:
    """Accept the same again, as a new run of the same thread, once the run is over.

    Raises:
        NotFound: there is no such run of this owner.
        Conflict: it is not over (`not_terminal`).
        Invalid: the key was used for something else (`idempotency_mismatch`).
        TooMany: as many of the owner's runs wait as may (`too_many_queued`), or the day is spent (`budget_exceeded`).
    """
    run = runs.get(db, owner, run_id)
    thread = threads.lock(db, owner, run.thread_id)
    if once and (before := find_accepted(db, owner, once)):
        return before
    if not run.status.terminal:
        raise Conflict(f"the run is {run.status.value} and can be retried once it is over", code="not_terminal")
    traces.link(run.traceparent)
    again = NewRun(
        run.input,
        run.agent,
        model=run.model,
        kind=run.kind,
        artifact_generation=run.artifact_generation,
        timeout_seconds=run.timeout_seconds,
        idle_timeout_seconds=run.idle_timeout_seconds,
        max_cost_usd=run.max_cost_usd,
        on_worker_lost=run.on_worker_lost,
        extra=run.extra,
        retry_of=run.id,
        # Beside the first one, not after it: its agent is not told what came of that one.
        follows=branches.followed_by(db, run),
    )
    return _accept(db, thread, again, once, usual)


def _accept(db: Db, thread: Thread, new: NewRun, once: Once | None, usual: Limits) -> Run:
    owner = thread.owner
    limits = of_owner(db, owner, usual)
    if limits.queued and backlog.count(db, owner, limits.queued) >= limits.queued:
        raise TooMany(
            f"{limits.queued} of your runs wait already, and no more may: cancel some, or wait until some have begun",
            code="too_many_queued",
            retry_after=QUEUE_FULL_SECONDS,
        )
    spending.check(db, owner, limits.spend_usd_per_day)
    run = runs.create(db, thread, new)
    _remember(db, owner, once, run)
    return run


def _steer(db: Db, thread: Thread, text: str, can_steer: Callable[[str], bool]) -> Run | None:
    """The thread's run at work, with this added to it; None where there is none that takes it."""
    run = next(iter(runs.unsettled_of(db, thread.id)), None)
    if run is None or not can_steer(run.agent):
        return None
    try:
        steering.steer(db, run, text)
    except Conflict:
        return None
    return run


def _remember(db: Db, owner: str, once: Once | None, run: Run) -> None:
    """Keep what the key of a submission has made."""
    if once:
        _forget_old_keys(db, owner, once.key)
        # Of several at once, all but one fail here, start again, and find the run of the one.
        now = record_now(db)
        db.add(IdempotencyKey(owner=owner, key=once.key, body_sha256=once.digest, run_id=run.id, created_at=now))
        db.flush()


def _forget_old_keys(db: Db, owner: str, key: str) -> None:
    """Drop this key if it is too old to count, and some others that are; what another is dropping is left to it."""
    old = IdempotencyKey.created_at < _oldest(db)
    db.execute(delete(IdempotencyKey).where(IdempotencyKey.owner == owner, IdempotencyKey.key == key, old))
    named = tuple_(IdempotencyKey.owner, IdempotencyKey.key)
    some = select(IdempotencyKey.owner, IdempotencyKey.key).where(old).limit(FORGOTTEN_AT_ONCE)
    found = [(row.owner, row.key) for row in db.execute(some.with_for_update(skip_locked=True))]
    if found:
        db.execute(delete(IdempotencyKey).where(named.in_(found)).execution_options(synchronize_session=False))


def _oldest(db: Db) -> datetime:
    # By the record's clock: a web tier whose own is wrong would forget what must not be run again.
    return record_now(db) - timedelta(hours=KEY_HOURS)
