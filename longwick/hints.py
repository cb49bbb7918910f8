"""Which runs are next: the rows are the outbox of the hints that workers are sent.

Choosing is fair to owners, keeps lanes and agents within what the living workers have room for, and comes back to a
run whose hint must be lost.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, bindparam, func, or_, select, update
from sqlalchemy.orm import aliased

from longwick.backlog import IS_FIRST_OF_THREAD
from longwick.database import Database, Db, utc_now
from longwick.kinds import RunKind, RunStatus
from longwick.models import JsonObject, Run, Worker

LANES = tuple(RunKind)
HINT_AGAIN_SECONDS = (10, 20, 40, 60)
MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Hint:
    """A run that a worker should look at, and the lane that it waits in."""

    run_id: str
    lane: RunKind


def take_hints(database: Database) -> list[Hint]:
    """The runs that are next, marked as hinted. Choosing takes a while, and so holds up no writer."""
    chosen = {hint.run_id: hint for hint in database.read(choose_hints)}
    if not chosen:
        return []
    return [chosen[run_id] for run_id in database.write(lambda db: _mark(db, list(chosen)))]


def choose_hints(db: Db) -> list[Hint]:
    """The runs that are next: heads of their threads, owners in turn, as lanes have room."""
    chosen: list[Hint] = []
    workers = db.execute(_WORKERS).all()
    outstanding = {(lane, agent): count for lane, agent, count in db.execute(_OUTSTANDING, _due_when())}
    agent_room = _agent_room([agents for _, agents in workers], outstanding)
    for lane in LANES:
        taken = sum(count for (kind, _), count in outstanding.items() if kind is lane)
        room = sum(capacity.get(lane.value, 0) for capacity, _ in workers) - taken
        if room > 0:
            chosen += [Hint(run_id, lane) for run_id in _next_in_turn(db, lane, room, agent_room)]
    return chosen


def _agent_room(listed: Sequence[JsonObject], outstanding: Mapping[tuple[RunKind, str], int]) -> dict[str, int]:
    """Agent -> how many more of its runs may be outstanding, for the agents that have a limit."""
    room: Counter[str] = Counter()
    for agents in listed:
        room.update({name: about["concurrency"] for name, about in agents.items() if about["concurrency"]})
    return {
        name: limit - sum(count for (_, agent), count in outstanding.items() if agent == name)
        for name, limit in room.items()
    }


def _next_in_turn(db: Db, lane: RunKind, room: int, agent_room: dict[str, int]) -> list[str]:
    """Ids of the runs that are next: each owner's first before anyone's second, counting what an owner has running.

    Takes from `agent_room` what it chooses.
    """
    full = [agent for agent, left in agent_room.items() if left <= 0]
    asked = {"lane": lane, "full": full, "most": min(room, MOST_AT_ONCE), **_due_when()}
    next_ids = []
    for run_id, agent in db.execute(_NEXT_IN_TURN, asked):
        if agent_room.get(agent, 1) > 0:
            next_ids.append(run_id)
            if agent in agent_room:
                agent_room[agent] -= 1
    return next_ids


def _mark(db: Db, run_ids: Sequence[str]) -> list[str]:
    """Mark runs as hinted; the ids of those that nobody else has just marked, in the order given."""
    if not run_ids:
        return []
    mine = list(db.scalars(_STILL_DUE, {"ids": run_ids, **_due_when()}))
    marked = set(db.scalars(_MARK, {"ids": mine, "now": utc_now()}))
    return [run_id for run_id in run_ids if run_id in marked]


def put_back(db: Db, hints: Sequence[Hint]) -> None:
    """Make runs due again whose hints could not be sent."""
    ids = sorted(hint.run_id for hint in hints)
    _unhint(db, Run.id.in_(ids))


def forget_hints(db: Db) -> None:
    """Make all that was hinted due again: whatever was sent is gone."""
    _unhint(db, Run.hinted_at.is_not(None))


def _unhint(db: Db, which: Any) -> None:
    queued = select(Run.id).where(Run.status == RunStatus.QUEUED, which)
    locked = list(db.scalars(queued.order_by(Run.id).with_for_update(skip_locked=True, key_share=True)))
    db.execute(
        update(Run)
        .where(Run.id.in_(locked))
        .values(hinted_at=None, hints=0)
        .execution_options(synchronize_session=False)
    )


def _due_when() -> dict[str, datetime]:
    """What `_DUE` asks for."""
    now = utc_now()
    ago = {f"ago_{seconds}": now - timedelta(seconds=seconds) for seconds in HINT_AGAIN_SECONDS}
    return {**ago, "ahead": now + timedelta(seconds=HINT_AGAIN_SECONDS[-1])}


# The statements are built once: to build one takes longer than to execute it, and a dispatcher looks after every
# submission and every end of a run.

_WORKERS = select(Worker.capacity, Worker.agents)

_LONGEST = HINT_AGAIN_SECONDS[-1]

# A queued run that was not hinted, or so long ago that the hint must be lost (or the clock was set back).
_DUE = or_(
    Run.hinted_at.is_(None),
    *[
        and_(Run.hints == count, Run.hinted_at < bindparam(f"ago_{seconds}"))
        for count, seconds in enumerate(HINT_AGAIN_SECONDS, 1)
    ],
    and_(Run.hints > len(HINT_AGAIN_SECONDS), Run.hinted_at < bindparam(f"ago_{_LONGEST}")),
    Run.hinted_at > bindparam("ahead"),
)

_OUTSTANDING = (
    select(Run.kind, Run.agent, func.count())
    .where(or_(Run.status == RunStatus.RUNNING, and_(Run.status == RunStatus.QUEUED, ~_DUE)))
    .group_by(Run.kind, Run.agent)
)


def _build_next_in_turn() -> Select[str, str]:
    running = aliased(Run)
    lane = bindparam("lane", type_=Run.kind.type)
    busy = (
        select(running.owner, func.count().label("count"))
        .where(running.status == RunStatus.RUNNING, running.kind == lane)
        .group_by(running.owner)
        .subquery()
    )
    place = func.row_number().over(partition_by=Run.owner, order_by=Run.id) + func.coalesce(busy.c.count, 0)
    heads = (
        select(Run.id, Run.agent, place.label("place"))
        .outerjoin(busy, busy.c.owner == Run.owner)
        .where(
            Run.status == RunStatus.QUEUED,
            Run.kind == lane,
            Run.cancel_requested_at.is_(None),
            Run.agent.not_in(bindparam("full", expanding=True)),
            _DUE,
            IS_FIRST_OF_THREAD,
        )
        .subquery()
    )
    return select(heads.c.id, heads.c.agent).order_by(heads.c.place, heads.c.id).limit(bindparam("most"))


_NEXT_IN_TURN = _build_next_in_turn()

_STILL_DUE = (
    select(Run.id)
    .where(Run.id.in_(bindparam("ids", expanding=True)), Run.status == RunStatus.QUEUED, _DUE)
    .order_by(Run.id)
    .with_for_update(skip_locked=True, key_share=True)
)

_MARK = (
    update(Run)
    .where(Run.id.in_(bindparam("ids", expanding=True)))
    .values(hinted_at=bindparam("now"), hints=Run.hints + 1)
    .returning(Run.id)
    .execution_options(synchronize_session=False)
)
