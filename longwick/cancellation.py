"""Cancelling: what waits ends at once; for what runs, a wish is noted next to its status."""

from dataclasses import dataclass

from sqlalchemy import func, update

from longwick import events, runs, sessions
from longwick.database import Db, announce, utc_now
from longwick.errors import Conflict
from longwick.models import Run, RunStatus
from longwick.runs import Outcome


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Announced when somebody wants a running run cancelled."""

    run_id: str


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
            now = utc_now()
            cancelled = events.transition(
                db,
                run_id,
                seen=(run.status, run.attempt),
                to=RunStatus.CANCELLED,
                events=[runs.terminal_event(Outcome(RunStatus.CANCELLED), 0)],
                cancel_requested_at=now,
                finished_at=now,
            )
            if cancelled is not None:
                runs.release(db, cancelled)
                return cancelled
        db.expire_all()


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
        announce(db, CancelAsked(run.id))
    return wished
