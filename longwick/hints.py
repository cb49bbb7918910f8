"""Which runs are next: the rows are the outbox of the hints that workers are sent.

Choosing is fair to owners, keeps lanes and agents within what the living workers have room for, and comes back to a
run whose hint must be lost.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Any

from sqlalchemy import Select, and_, bindparam, func, or_, select, union_all, update
from sqlalchemy.orm import aliased

from longwick import spending
from longwick.accounts import OwnerTurn
from longwick.backlog import IS_FIRST_OF_THREAD, IS_HINTED, IS_QUEUED, IS_RUNNING
from longwick.database import Database, Db, have_alone, insertion, utc_now
from longwick.kinds import RunKind, RunStatus
from longwick.limits import NO_LIMITS, Limits, of_owner
from longwick.models import Run, Worker

LANES = tuple(RunKind)
HINT_AGAIN_SECONDS = (10, 20, 40, 60)
MOST_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Hint:
    """A run that a worker should look at, and the lane that it waits in."""

    run_id: str
    lane: RunKind
    owner: str
    agent: str


def take_hints(database: Database, usual: Limits = NO_LIMITS) -> list[Hint]:
    """The runs that are next, marked as hinted. Choosing takes a while, and so holds up no writer."""
    chosen = database.read(lambda db: choose_hints(db, usual))
    if not chosen:
        return []

    def take(db: Db) -> list[Hint]:
        have_alone(db, "hints")
        due = set(db.scalars(_STILL_DUE, {"ids": [hint.run_id for hint in chosen], **_due_when()}))
        # Whoever chose at the same moment may have seen other runs, and filled the room that there was.
        rooms = Rooms(db, usual)
        taken = [hint for hint in chosen if hint.run_id in due and rooms.take_place(hint)]
        db.execute(_MARK, {"ids": [hint.run_id for hint in taken], "now": utc_now()})
        _note_turns(db, taken)
        return taken

    return database.write(take)


def choose_hints(db: Db, usual: Limits = NO_LIMITS) -> list[Hint]:
    """The runs that are next: heads of their threads, owners in turn, as lanes, agents and owners have room."""
    rooms = Rooms(db, usual)
    return [hint for lane in LANES if rooms.lanes[lane] > 0 for hint in _next_in_turn(db, lane, rooms)]


class Rooms:
    """How many more runs may be outstanding, that is hinted at or at work: of a lane, an agent and an owner."""

    def __init__(self, db: Db, usual: Limits) -> None:
        self._db = db
        self._usual = usual
        self._owners: dict[str, float] = {}
        self._agents: Counter[str] = Counter()
        self.lanes: Counter[RunKind] = Counter()
        """Lane -> how many more."""
        self.outstanding: Counter[tuple[RunKind, str]] = Counter()
        """Lane, owner -> how many there are."""
        for capacity, agents in db.execute(_WORKERS):
            self.lanes.update({lane: capacity.get(lane.value, 0) for lane in LANES})
            self._agents.update({name: about["concurrency"] for name, about in agents.items() if about["concurrency"]})
        for some in db.execute(_OUTSTANDING, _due_when()):
            self.lanes[some.kind] -= some.number
            self.outstanding[some.kind, some.owner] += some.number
            if some.agent in self._agents:
                self._agents[some.agent] -= some.number

    @property
    def full(self) -> list[str]:
        """The agents that have no room."""
        return [agent for agent, left in self._agents.items() if left <= 0]

    def of_owner(self, owner: str) -> float:
        """How many of an owner's; none where the day is spent."""
        if owner not in self._owners:
            limits = of_owner(self._db, owner, self._usual)
            spent = spending.is_spent(self._db, owner, limits.spend_usd_per_day)
            taken = sum(self.outstanding[lane, owner] for lane in LANES)
            self._owners[owner] = 0 if spent else (limits.running or math.inf) - taken
        return self._owners[owner]

    def take(self, hint: Hint) -> bool:
        """Take a place of all three, if there is one."""
        if self.of_owner(hint.owner) <= 0 or not self.take_place(hint):
            return False
        self._owners[hint.owner] -= 1
        return True

    def take_place(self, hint: Hint) -> bool:
        """Take one of the lane and the agent alone: an owner's room is asked for once more when a run is claimed."""
        if self.lanes[hint.lane] <= 0 or self._agents.get(hint.agent, 1) <= 0:
            return False
        self.lanes[hint.lane] -= 1
        if hint.agent in self._agents:
            self._agents[hint.agent] -= 1
        return True


def _next_in_turn(db: Db, lane: RunKind, rooms: Rooms) -> list[Hint]:
    """The runs that are next: each owner's first before anyone's second, counting what is outstanding.

    Of owners who are equal in that, the one whose last turn is longest ago. So that a look costs what it finds, and not
    what waits, each owner's line is looked at only when it is the owner's turn.
    """
    most = min(rooms.lanes[lane], MOST_AT_ONCE)
    waiting = db.execute(_WAITING_OWNERS, {"lane": lane}).all()
    turns = [(rooms.outstanding[lane, owner], turn or 0, first, owner) for owner, first, turn in waiting]
    turn = max((turn for _, turn, _, _ in turns), default=0)
    heapify(turns)
    lines: dict[str, Iterator[Any]] = {}
    asked = {"lane": lane, "full": rooms.full, "most": most, **_due_when()}
    found: list[Hint] = []
    while turns and len(found) < most:
        count, _, first, owner = heappop(turns)
        if rooms.of_owner(owner) <= 0:
            continue
        if owner not in lines:
            lines[owner] = iter(db.execute(_LINE_OF_OWNER, {**asked, "owner": owner, "first": first}).all())
        for run_id, agent in lines[owner]:
            hint = Hint(run_id, lane, owner, agent)
            if rooms.take(hint):
                found.append(hint)
                turn += 1
                heappush(turns, (count + 1, turn, first, owner))
                break
    return found


def _note_turns(db: Db, hints: Sequence[Hint]) -> None:
    """Write down, in the order given, who has had a turn."""
    last = {lane: db.scalar(_LAST_TURN, {"lane": lane}) or 0 for lane in LANES}
    turns = {}
    for place, hint in enumerate(hints, 1):
        turns[hint.owner, hint.lane] = last[hint.lane] + place
    # In one order, so that two who write down the same do not wait for each other.
    for (owner, lane), turn in sorted(turns.items()):
        new = insertion(db, OwnerTurn).values(owner=owner, lane=lane, turn=turn)
        db.execute(new.on_conflict_do_update(index_elements=["owner", "lane"], set_={"turn": new.excluded.turn}))


def put_back(db: Db, hints: Sequence[Hint]) -> None:
    """Make runs due again whose hints could not be sent."""
    ids = sorted(hint.run_id for hint in hints)
    _unhint(db, Run.id.in_(ids))


def forget_hints(db: Db) -> None:
    """Make all that was hinted due again: whatever was sent is gone."""
    _unhint(db, IS_HINTED)


def forget(db: Db, run_id: str) -> None:
    """Make a run due again whose hint came when its owner had no room."""
    _unhint(db, Run.id == run_id)


def _unhint(db: Db, which: Any) -> None:
    queued = select(Run.id).where(IS_QUEUED, which)
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

_columns = select(Run.kind, Run.owner, Run.agent)
_outstanding = union_all(_columns.where(IS_RUNNING), _columns.where(IS_QUEUED, IS_HINTED, ~_DUE)).subquery()
_OUTSTANDING = select(*_outstanding.c, func.count().label("number")).group_by(*_outstanding.c)


def _build_waiting_owners() -> Select[str, str, int]:
    # From one owner to the next over the index: they are few, and what waits may be very much.
    in_lane = (IS_QUEUED, Run.kind == bindparam("lane", type_=Run.kind.type))
    each = select(func.min(Run.owner).label("owner")).where(*in_lane).cte("each", recursive=True)
    before = aliased(each)
    further = select(func.min(Run.owner)).where(*in_lane, Run.owner > before.c.owner).scalar_subquery()
    each = each.union_all(select(further).where(before.c.owner.is_not(None)))
    first = select(func.min(Run.id)).where(*in_lane, Run.owner == each.c.owner).scalar_subquery()
    lane = bindparam("lane", type_=Run.kind.type)
    turn = select(OwnerTurn.turn).where(OwnerTurn.owner == each.c.owner, OwnerTurn.lane == lane).scalar_subquery()
    return select(each.c.owner, first, turn).where(each.c.owner.is_not(None))


_WAITING_OWNERS = _build_waiting_owners()

_LAST_TURN = select(func.max(OwnerTurn.turn)).where(OwnerTurn.lane == bindparam("lane", type_=OwnerTurn.lane.type))

_LINE_OF_OWNER = (
    select(Run.id, Run.agent)
    .where(
        IS_QUEUED,
        Run.kind == bindparam("lane", type_=Run.kind.type),
        Run.owner == bindparam("owner"),
        # Says nothing new, but to an engine that goes through all runs by their ids: where the waiting ones begin.
        Run.id >= bindparam("first"),
        Run.cancel_requested_at.is_(None),
        Run.agent.not_in(bindparam("full", expanding=True)),
        _DUE,
        IS_FIRST_OF_THREAD,
    )
    .order_by(Run.id)
    .limit(bindparam("most"))
)

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
    .execution_options(synchronize_session=False)
)
