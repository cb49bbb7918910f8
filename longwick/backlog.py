"""The runs that wait: how many they are, and where in their owner's line one of them stands."""

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import bindparam, exists, func, literal_column, select
from sqlalchemy.orm import aliased

from longwick.database import Db
from longwick.kinds import UNSETTLED, RunKind, RunStatus
from longwick.models import Run

MOST_COUNTED = 1000
"""A place further back is told as this one: to know better is not worth the counting."""

_Earlier = aliased(Run)
IS_FIRST_OF_THREAD = ~exists().where(
    _Earlier.thread_id == Run.thread_id, _Earlier.turn < Run.turn, _Earlier.status.in_(UNSETTLED)
)
"""Of a run: that all before it in its thread are over."""

# Written out, or no engine uses the indexes that hold such runs alone.
IS_QUEUED = Run.status == literal_column("'queued'")
IS_RUNNING = Run.status == literal_column("'running'")
IS_HINTED = Run.hinted_at.is_not(None)

_LINE = (IS_QUEUED, Run.kind == bindparam("lane", type_=Run.kind.type), Run.owner == bindparam("owner"))
_AHEAD = select(func.count()).select_from(
    select(Run.id).where(*_LINE, Run.id < bindparam("first")).limit(MOST_COUNTED).subquery()
)
# Once for all of a page: to count for each run alone takes seconds where a thousand wait.
_FROM_THERE = (
    select(Run.id)
    .where(*_LINE, Run.id.between(bindparam("first"), bindparam("last")))
    .order_by(Run.id)
    .limit(MOST_COUNTED)
)
_COUNT = select(func.count()).select_from(
    select(Run.id)
    .where(IS_QUEUED, Run.kind.in_(RunKind), Run.owner == bindparam("owner"))
    .limit(bindparam("most"))
    .subquery()
)


def positions(db: Db, runs: Sequence[Run]) -> dict[str, int]:
    """Run id -> how many of its owner's queued runs of its lane were accepted before it, for the queued ones.

    Those of others say nothing of when it is its turn, as owners take turns.
    """
    queued = sorted((run.owner, run.kind, run.id) for run in runs if run.status is RunStatus.QUEUED)
    found: dict[str, int] = {}
    for (owner, lane), line in groupby(queued, lambda one: one[:2]):
        ids = [run_id for _, _, run_id in line]
        asked = {"owner": owner, "lane": lane, "first": ids[0], "last": ids[-1]}
        places = dict.fromkeys(ids, MOST_COUNTED)
        ahead = db.scalar(_AHEAD, asked) or 0
        for place, run_id in enumerate(db.scalars(_FROM_THERE, asked), ahead):
            if run_id in places:
                places[run_id] = min(place, MOST_COUNTED)
        found |= places
    return found


def count(db: Db, owner: str, most: int) -> int:
    """How many runs of an owner wait; no more than `most` are counted."""
    return db.scalar(_COUNT, {"owner": owner, "most": most}) or 0
