"""Cancelling: what waits ends at once; for what runs, a wish is noted next to its status."""

import contextlib

from sqlalchemy import func, update

from longwick import events, outcomes, runs, sessions, spending, threads, transcript
from longwick.database import Db, announce, utc_now
from longwick.errors import Conflict
from longwick.kinds import Role, RunStatus
from longwick.models import Run
from longwick.news import News


def request(db: Db, owner: str, run_id: str) -> Run:
    """Cancel what is queued or waiting, at once; note the wish for what runs. Repeating it changes nothing.

    Raises:
        NotFound: there is no such run of this owner.
        Conflict: it is over already (`already_terminal`).
    """
    while True:
        run = runs.get(db, owner, run_id)
        if run.status.terminal:
            if run.status is RunStatus.CANCELLED:
                return run
            raise Conflict(f"the run has {run.status.value} already", code="already_terminal")
        if run.status is RunStatus.RUNNING:
            wished = _wish(db, run)
            if wished is not None:
                return wished
        else:
            cancelled = _end(db, run)
            if cancelled is not None:
                return cancelled
        db.expire_all()


def request_all(db: Db, owner: str, thread_id: str) -> None:
    """Cancel every run of a thread that is not over; the caller has the thread locked, so that no other comes."""
    for run in runs.unsettled_of(db, thread_id):
        # One that ends by itself meanwhile is over, too.
        with contextlib.suppress(Conflict):
            request(db, owner, run.id)


def _end(db: Db, run: Run) -> Run | None:
    """End a run that no worker has; what earlier attempts have shown is kept."""
    now, noted = utc_now(), run.cost_usd
    shown = transcript.of_run(db, run.id)
    outcome = outcomes.cut_short(RunStatus.CANCELLED, shown)
    cancelled = events.transition(
        db,
        run.id,
        seen=(run.status, run.attempt),
        to=RunStatus.CANCELLED,
        events=[*shown.close(partial=True), outcomes.terminal_event(outcome, 0)],
        cancel_requested_at=now,
        finished_at=now,
        output_text=outcome.text or None,
        usage=outcome.usage,
        cost_usd=outcome.cost_usd,
    )
    if cancelled is not None:
        if outcome.text:
            threads.add_message(db, cancelled, Role.ASSISTANT, outcome.text, partial=True)
        runs.release(db, cancelled)
        spending.note(db, cancelled, noted)
    return cancelled


def _wish(db: Db, run: Run) -> Run | None:
    wished = db.scalar(
        update(Run)
        .where(Run.id == run.id, Run.status == RunStatus.RUNNING)
        .values(cancel_requested_at=func.coalesce(Run.cancel_requested_at, utc_now()))
        .returning(Run)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if wished is not None:
        sessions.close_sessions(db, run.id)
        announce(db, News(run.id))
    return wished
