"""Submitting a run: once for each idempotency key, and to a busy thread as its caller wants."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import delete

from longwick import cancellation, runs, threads
from longwick.database import Db, utc_now
from longwick.errors import Conflict, Invalid
from longwick.models import IdempotencyKey, Run
from longwick.runs import NewRun

KEY_HOURS = 24


class IfBusy(StrEnum):
    """What to do with a message to a thread whose last run is not over."""

    QUEUE = "queue"
    REJECT = "reject"
    INTERRUPT = "interrupt"


@dataclass(frozen=True, slots=True)
class Once:
    """A caller's promise that a submission with this key is the same one; `body` is all that it says."""

    key: str
    body: bytes


def submit(
    db: Db,
    owner: str,
    new: NewRun,
    *,
    thread_id: str | None = None,
    agent_of_thread: str | None = None,
    if_busy: IfBusy = IfBusy.QUEUE,
    once: Once | None = None,
) -> Run:
    """Accept a run, in a thread or (without one) in a new thread; a repeated submission gets the run it made.

    Raises:
        NotFound: there is no such thread of this owner.
        Conflict: the thread is busy, and the caller wants to be told (`thread_busy`).
        Invalid: the key was used for something else (`idempotency_mismatch`).
    """
    digest = hashlib.sha256(once.body).hexdigest() if once else ""
    if once and (before := _made_before(db, owner, once.key, digest)):
        return before
    if thread_id:
        thread = threads.lock(db, owner, thread_id)
        for busy in runs.unsettled_of(db, thread.id) if if_busy is not IfBusy.QUEUE else ():
            if if_busy is IfBusy.REJECT:
                raise Conflict(f"the thread is busy with {busy.id}", code="thread_busy")
            cancellation.request(db, owner, busy.id)
    else:
        thread = threads.create(db, owner, agent=agent_of_thread)
    run = runs.create(db, thread, new)
    if once:
        # Of several at once, all but one fail here, start again, and find the run of the one.
        db.add(IdempotencyKey(owner=owner, key=once.key, body_sha256=digest, run_id=run.id, created_at=utc_now()))
        db.flush()
    return run


def retry(db: Db, owner: str, run_id: str) -> Run:
    """Accept the same again, as a new run of the same thread, once the run is over.

    Raises:
        NotFound: there is no such run of this owner.
        Conflict: it is not over (`not_terminal`).
    """
    run = runs.get(db, owner, run_id)
    if not run.status.terminal:
        raise Conflict(f"the run is {run.status.value} and can be retried once it is over", code="not_terminal")
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
    )
    return runs.create(db, threads.get(db, owner, run.thread_id), again)


def _made_before(db: Db, owner: str, key: str, digest: str) -> Run | None:
    known = db.get(IdempotencyKey, (owner, key))
    if known is None:
        return None
    if known.created_at < utc_now() - timedelta(hours=KEY_HOURS):
        db.delete(known)
        db.flush()
        return None
    if known.body_sha256 != digest:
        raise Invalid(
            "this Idempotency-Key was used for another request", code="idempotency_mismatch", param="Idempotency-Key"
        )
    return db.get(Run, known.run_id)


def forget_old_keys(db: Db) -> None:
    """Drop the keys that are too old to count."""
    db.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < utc_now() - timedelta(hours=KEY_HOURS)))
