"""The runs that wait: how many they are, and where in the line one of them stands."""

from collections.abc import Sequence

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.orm import aliased

from longwick.database import Db
from longwick.kinds import UNSETTLED, RunStatus
from longwick.models import Run

_Earlier = aliased(Run)
IS_FIRST_OF_THREAD = ~exists().where(
    _Earlier.thread_id == Run.thread_id, _Earlier.turn < Run.turn, _Earlier.status.in_(UNSETTLED)
)
"""Of a run: that all before it in its thread are over."""

# Once over the whole line: to count for each run alone takes seconds where a thousand wait.
_line = (
    select(Run.id, func.row_number().over(partition_by=Run.kind, order_by=Run.id).label("place"))
    .where(Run.status == RunStatus.QUEUED)
    .subquery()
)
_PLACES = select(_line.c.id, _line.c.place).where(_line.c.id.in_(bindparam("ids", expanding=True)))
_COUNT = select(func.count()).select_from(
    select(Run.id)
    .where(Run.status == RunStatus.QUEUED, Run.owner == bindparam("owner"))
    .limit(bindparam("most"))
    .subquery()
)


def positions(db: Db, runs: Sequence[Run]) -> dict[str, int]:
    """Run id -> how many queued runs of its lane were accepted before it, for the queued ones."""
    queued = [run.id for run in runs if run.status is RunStatus.QUEUED]
    if not queued:
        return {}
    return {run_id: place - 1 for run_id, place in db.execute(_PLACES, {"ids": queued})}


def count(db: Db, owner: str, most: int) -> int:
    """How many runs of an owner wait; no more than `most` are counted."""
    return db.scalar(_COUNT, {"owner": owner, "most": most}) or 0
