"""Editing what waits: another text for a run that was never started, or another place among those of its thread."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, update

from longwick import events, runs, threads
from longwick.database import Db
from longwick.errors import Conflict, Invalid, LongwickError, NotFound
from longwick.events import Event, EventType
from longwick.kinds import RunStatus
from longwick.models import Message, Run


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to be different about a run that waits."""

    text: str | None = None
    """Asked in place of what was asked; None: that stays."""
    moves: bool = False
    before: str | None = None
    """Where it moves to: before this run of its thread, or after all that wait there."""


def edit(db: Db, owner: str, run_id: str, wanted: Edit) -> Run:
    """Change a run that was never started; what its Idempotency-Key stands for stays as it was.

    Raises:
        NotFound: there is no such run of this owner.
        Conflict: it, or the one that it is to come before, was started or is over (`not_queued`).
        Invalid: the one that it is to come before is no other run of its thread.
    """
    run = runs.get(db, owner, run_id)
    threads.lock(db, owner, run.thread_id)
    # What was ever started is before all of these, so that their turns can change hands among them.
    waits = select(Run.id, Run.turn).where(
        Run.thread_id == run.thread_id, Run.status == RunStatus.QUEUED, Run.attempt == 0
    )
    turns = {row.id: row.turn for row in db.execute(waits.order_by(Run.id).with_for_update())}
    db.refresh(run)
    if run.id not in turns:
        raise _not_queued(run)
    moved = _moved(db, run, turns, wanted.before) if wanted.moves else {}
    _take_turns(db, run.thread_id, turns, moved)
    changes: dict[str, Any] = {}
    if wanted.text not in (None, run.input):
        changes["input"] = wanted.text
        asked = update(Message).where(Message.thread_id == run.thread_id, Message.run_id == run.id)
        db.execute(asked.values(text=wanted.text).execution_options(synchronize_session=False))
    if run.id in moved:
        changes["turn"] = moved[run.id]
    if not changes:
        return run
    told = Event(EventType.RUN_EDITED, {"changed": sorted(changes)})
    edited = events.transition(db, run.id, seen=(RunStatus.QUEUED, 0), to=RunStatus.QUEUED, events=[told], **changes)
    if edited is None:
        raise _not_queued(run)
    threads.touch(db, run.thread_id)
    return edited


def _moved(db: Db, run: Run, turns: Mapping[str, int], before: str | None) -> dict[str, int]:
    """Run id -> its turn, for those that have another one then."""
    others = [each for each in sorted(turns, key=turns.__getitem__) if each != run.id]
    if before is None:
        place = len(others)
    elif before in others:
        place = others.index(before)
    else:
        raise _no_place(db, run, before)
    order = [*others[:place], run.id, *others[place:]]
    return {each: turn for each, turn in zip(order, sorted(turns.values()), strict=True) if turns[each] != turn}


def _take_turns(db: Db, thread_id: str, turns: Mapping[str, int], moved: Mapping[str, int]) -> None:
    """Give the runs and their messages their new turns, by way of some that nobody has."""
    if not moved:
        return
    for sign in (-1, 1):
        db.execute(_HINT_ANEW, [{"run": each, "to_turn": sign * turn} for each, turn in moved.items()])
    db.execute(
        _MOVE_MESSAGES,
        [{"thread": thread_id, "run": each, "from_turn": turns[each], "to_turn": turn} for each, turn in moved.items()],
    )


_RUNS = Run.metadata.tables[Run.__tablename__]
_MESSAGES = Message.metadata.tables[Message.__tablename__]
# Who comes first now is to be hinted at, and not who was hinted at before.
_HINT_ANEW = (
    update(_RUNS).where(_RUNS.c.id == bindparam("run")).values(turn=bindparam("to_turn"), hinted_at=None, hints=0)
)
_MOVE_MESSAGES = (
    update(_MESSAGES)
    .where(
        _MESSAGES.c.thread_id == bindparam("thread"),
        _MESSAGES.c.turn == bindparam("from_turn"),
        _MESSAGES.c.run_id == bindparam("run"),
    )
    .values(turn=bindparam("to_turn"))
)


def _not_queued(run: Run) -> Conflict:
    how = f"is {run.status.value}" if run.status is not RunStatus.QUEUED else "has been started before"
    return Conflict(f"the run {run.id} {how}, and can be edited only until it is started", code="not_queued")


def _no_place(db: Db, run: Run, before: str) -> LongwickError:
    """Why a run cannot come before that one."""
    try:
        other = runs.get(db, run.owner, before)
    except NotFound:
        other = None
    if other is None or other.thread_id != run.thread_id or other.id == run.id:
        return Invalid(f"before: {before!r} is no other run of this thread", param="before")
    return _not_queued(other)
