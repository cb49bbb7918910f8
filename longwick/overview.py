"""How all of an owner's runs and files are, at one moment: for whoever watches them all, and looks often."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from sqlalchemy import ColumnElement, Row, case, func, select
from sqlalchemy.orm import InstrumentedAttribute, defer
from sqlalchemy.orm.attributes import set_committed_value

from longwick.database import Db, utc_now
from longwick.ids import first_id
from longwick.kinds import UNSETTLED, RunStatus
from longwick.models import Artifact, Run, Thread

MOST_UNSETTLED = 2000
NEWEST = 100
TEXT_CHARACTERS = 2000
# Ids are made before they are committed, and by the clocks of several hosts.
NEW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Glance:
    """What can change about a run as a whole; of what it says, nothing."""

    status: RunStatus
    attempt: int
    cancel_wanted: bool
    turn: int
    told: int
    """How far its log is, as long as it waits: its text may be edited then."""

    @classmethod
    def of(cls, run: Run | Row[*tuple[Any, ...]]) -> Self:
        """How a run is."""
        told = run.last_seq if run.status is RunStatus.QUEUED else 0
        return cls(run.status, run.attempt, run.cancel_requested_at is not None, run.turn, told)


def glances(db: Db, owner: str) -> dict[str, Glance]:
    """Run id -> how it is, for the owner's runs that are not over and the newest of all, whatever became of them.

    Of very many that are not over, those that wait and are oldest are left out.
    """
    how = Run.status, Run.attempt, Run.cancel_requested_at, Run.turn, Run.last_seq
    columns = select(Run.id, *how).where(*_of(owner))
    unsettled = columns.where(Run.status.in_(UNSETTLED)).order_by(Run.status == RunStatus.QUEUED, Run.id.desc())
    newest = columns.order_by(Run.id.desc())
    return {
        seen.id: Glance.of(seen)
        for wanted in (unsettled.limit(MOST_UNSETTLED), newest.limit(NEWEST))
        for seen in db.execute(wanted)
    }


def shortened(db: Db, owner: str, run_ids: Collection[str]) -> list[Run]:
    """Those of these runs that are the owner's and not deleted, newest first; their long texts are cut."""
    if not run_ids:
        return []
    rows = db.execute(
        select(Run, _start(Run.input), _start(Run.output_text))
        .options(defer(Run.input), defer(Run.output_text))
        .where(*_of(owner), Run.id.in_(run_ids))
        .order_by(Run.id.desc())
    )
    found = []
    for run, asked, answered in rows:
        set_committed_value(run, "input", asked)
        set_committed_value(run, "output_text", answered)
        found.append(run)
    return found


def new_artifacts(db: Db, owner: str) -> Sequence[Artifact]:
    """The owner's artifacts of about the last minute, oldest first."""
    since = first_id("art", utc_now() - timedelta(seconds=NEW_SECONDS))
    return db.scalars(
        select(Artifact)
        .join(Thread, Thread.id == Artifact.thread_id)
        .where(Artifact.id >= since, Thread.owner == owner, Thread.deleted_at.is_(None))
        .order_by(Artifact.id)
    ).all()


def _of(owner: str) -> tuple[ColumnElement[bool], ...]:
    return Thread.id == Run.thread_id, Run.owner == owner, Thread.deleted_at.is_(None)


def _start(text: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    cut = func.substr(text, 1, TEXT_CHARACTERS).concat("…")
    return case((func.length(text) > TEXT_CHARACTERS, cut), else_=text)


def last_seqs(db: Db, run_ids: Sequence[str]) -> dict[str, int]:
    """Run id -> the position of its newest event; of a deleted thread's run there is none."""
    rows = db.execute(
        select(Run.id, Run.last_seq)
        .join(Thread, Thread.id == Run.thread_id)
        .where(Run.id.in_(run_ids), Thread.deleted_at.is_(None))
    )
    return {row[0]: row[1] for row in rows}
