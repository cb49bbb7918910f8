"""The Celery tasks: a hint comes in, and the story of one attempt begins."""

from typing import Any

from celery import Celery
from celery.exceptions import Ignore

from longwick import traces
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.queue import EXECUTE_TASK
from worker.execute import about, execute
from worker.parts import Parts

LOST = ("worker_lost", "lost_too_often")


class RunNotSucceeded(Exception):
    """What makes the task of a run that failed or was cancelled a failed task."""


def register(app: Celery, parts: Parts) -> None:
    """Give the application its tasks."""

    @app.task(name=EXECUTE_TASK, throws=(RunNotSucceeded,))
    def run_execute(run_id: str) -> dict[str, Any]:
        with traces.span("task", parent=_traceparent(parts, run_id), run_id=run_id):
            run = None if parts.draining.is_set() else execute(parts, run_id) or _find_untold_end(parts, run_id)
            noted: dict[str, Any] = about(run) if run else {"ignored": True}
            traces.note(**noted)
        if run is None:
            raise Ignore
        summary = {
            "status": run.status.value,
            "owner": run.owner,
            "agent": run.agent,
            "attempt": run.attempt,
            "usage": run.usage,
            "cost_usd": run.cost_usd,
        }
        if run.status is not RunStatus.SUCCEEDED:
            raise RunNotSucceeded(run.error_code or run.status.value, summary)
        return summary


def _traceparent(parts: Parts, run_id: str) -> str | None:
    """Where the run belongs, which its message does not say."""
    if not traces.on():
        return None
    run = parts.database.read(lambda db: db.get(Run, run_id))
    return run.traceparent if run else None


def _find_untold_end(parts: Parts, run_id: str) -> Run | None:
    """The run, where it is over and no task can have said so: it never started, or the worker that had it was lost."""
    run = parts.database.read(lambda db: db.get(Run, run_id))
    untold = run is not None and run.status.terminal and (run.started_at is None or run.error_code in LOST)
    return run if untold else None
