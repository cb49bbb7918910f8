"""The contract with Celery: how its messages look, and the one place that sends them.

A message is a hint, "look at this run"; losing one, doubling it or sending it late changes when something happens and
never what. The rows are the outbox: `dispatch` sends hints for the queued runs that are next.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import aliased

from longwick import metrics
from longwick.broadcast import connect
from longwick.database import Database, Db, utc_now
from longwick.errors import LongwickError
from longwick.models import UNSETTLED, JsonObject, Run, RunKind, RunStatus, Worker

log = logging.getLogger(__name__)

EXECUTE_TASK = "run.execute"
EPOCH_KEY = "longwick:epoch"
LANES = tuple(RunKind)
HINT_AGAIN_SECONDS = (10, 20, 40, 60)
MOST_HINTS = 200


def celery_app(redis_url: str, *, socket_timeout: float) -> Celery:
    """A Celery application on our Redis, with the settings that both ends share.

    `socket_timeout`, in seconds, must be longer than a second for a consumer, which waits that long for a message.
    """
    app = Celery("longwick", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_create_missing_queues=True,
        # Recovery is the sweeper's: Celery's own loses accepted work and runs work twice.
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=True,
        task_send_sent_event=False,
        task_track_started=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=min(socket_timeout, 4),
        broker_transport_options={
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": min(socket_timeout, 4),
            "socket_keepalive": True,
            "health_check_interval": 10,
            "max_retries": 0,
        },
    )
    return app


@dataclass(frozen=True, slots=True)
class Hint:
    """A run that a worker should look at, and the lane that it waits in."""

    run_id: str
    lane: RunKind


class Dispatcher:
    """A thread that sends the hints that are due whenever it is woken; many wake-ups in a row cost one look."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self._database = database
        self._redis = connect(redis_url)
        self._celery = celery_app(redis_url, socket_timeout=0.5)
        self._ends: deque[Hint] = deque(maxlen=MOST_HINTS)
        self._wake = threading.Event()
        self._stopping = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join(3)
        self._celery.close()
        self._redis.close()

    def wake(self) -> None:
        """A run was accepted or settled, or time has passed: have a look. Returns at once."""
        self._wake.set()

    def tell_end(self, run: Run) -> None:
        """Have a worker look once more at a run whose own task cannot tell of its end; Flower alone would miss it."""
        if run.status.terminal:
            self._ends.append(Hint(run.id, run.kind))

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            try:
                self.dispatch()
                self._failing = False
            except (RedisError, OperationalError, OSError, LongwickError) as error:
                if not self._failing:
                    log.warning("no hints can be sent for now, accepted runs wait in the record: %s", error)
                self._failing = True
            except Exception:
                log.exception("dispatch failed")
                time.sleep(1)

    def dispatch(self) -> list[Hint]:
        """Send the hints that are due, and return them.

        Raises:
            RedisError, OperationalError, OSError: the broker does not take them; they are due again.
            Unavailable: the record does not answer.
        """
        if self._redis.set(EPOCH_KEY, "1", nx=True):
            # Redis is new or was emptied: whatever was sent before is gone.
            self._database.write(_forget_hints)
        hints = take_hints(self._database)
        sent = 0
        try:
            for hint in hints:
                self._send(hint)
                sent += 1
        finally:
            if sent < len(hints):
                unsent = hints[sent:]
                self._database.write(lambda db: _unmark(db, unsent))
        while self._ends:
            self._send(self._ends.popleft())
        return hints

    def _send(self, hint: Hint) -> None:
        lane = hint.lane.value
        self._celery.send_task(EXECUTE_TASK, args=[hint.run_id], task_id=hint.run_id, queue=lane, retry=False)
        metrics.HINTS_SENT.labels(lane).inc()


def take_hints(database: Database) -> list[Hint]:
    """The runs that are next, marked as hinted. Choosing takes a while, and so holds up no writer."""
    chosen = {hint.run_id: hint for hint in database.read(choose_hints)}
    if not chosen:
        return []
    return [chosen[run_id] for run_id in database.write(lambda db: _mark(db, list(chosen)))]


def choose_hints(db: Db) -> list[Hint]:
    """The runs that are next: heads of their threads, owners in turn, as lanes have room."""
    chosen: list[Hint] = []
    workers = db.execute(select(Worker.capacity, Worker.agents)).all()
    outstanding = _outstanding(db)
    agent_room = _agent_room([agents for _, agents in workers], outstanding)
    for lane in LANES:
        taken = sum(count for (kind, _), count in outstanding.items() if kind is lane)
        room = sum(capacity.get(lane.value, 0) for capacity, _ in workers) - taken
        if room > 0:
            chosen += [Hint(run_id, lane) for run_id in _next_in_turn(db, lane, room, agent_room)]
    return chosen


def _outstanding(db: Db) -> dict[tuple[RunKind, str], int]:
    """(Lane, agent) -> runs that are running or hinted."""
    rows = db.execute(
        select(Run.kind, Run.agent, func.count())
        .where(or_(Run.status == RunStatus.RUNNING, and_(Run.status == RunStatus.QUEUED, ~_due())))
        .group_by(Run.kind, Run.agent)
    )
    return {(lane, agent): count for lane, agent, count in rows}


def _agent_room(listed: Sequence[JsonObject], outstanding: Mapping[tuple[RunKind, str], int]) -> dict[str, int]:
    """Agent -> how many more of its runs may be outstanding, for the agents that have a limit."""
    room: Counter[str] = Counter()
    for agents in listed:
        room.update({name: about["concurrency"] for name, about in agents.items() if about["concurrency"]})
    return {
        name: limit - sum(count for (_, agent), count in outstanding.items() if agent == name)
        for name, limit in room.items()
    }


def _due() -> Any:
    """A queued run that was not hinted, or so long ago that the hint must be lost (or the clock was set back)."""
    now = utc_now()
    lost = [
        and_(Run.hints == count, Run.hinted_at < now - timedelta(seconds=seconds))
        for count, seconds in enumerate(HINT_AGAIN_SECONDS, 1)
    ]
    longest = timedelta(seconds=HINT_AGAIN_SECONDS[-1])
    return or_(
        Run.hinted_at.is_(None),
        *lost,
        and_(Run.hints > len(HINT_AGAIN_SECONDS), Run.hinted_at < now - longest),
        Run.hinted_at > now + longest,
    )


def _next_in_turn(db: Db, lane: RunKind, room: int, agent_room: dict[str, int]) -> list[str]:
    """Ids of the runs that are next: each owner's first before anyone's second, counting what an owner has running.

    Takes from `agent_room` what it chooses.
    """
    earlier, running = aliased(Run), aliased(Run)
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
            Run.agent.not_in([agent for agent, left in agent_room.items() if left <= 0]),
            _due(),
            ~select(earlier.id)
            .where(
                earlier.thread_id == Run.thread_id,
                earlier.turn < Run.turn,
                earlier.status.in_(UNSETTLED),
            )
            .exists(),
        )
        .subquery()
    )
    most = min(room, MOST_HINTS)
    next_ids = []
    in_turn = select(heads.c.id, heads.c.agent).order_by(heads.c.place, heads.c.id).limit(most)
    for run_id, agent in db.execute(in_turn):
        if agent_room.get(agent, 1) > 0:
            next_ids.append(run_id)
            if agent in agent_room:
                agent_room[agent] -= 1
    return next_ids


def _mark(db: Db, run_ids: Sequence[str]) -> list[str]:
    """Mark runs as hinted; the ids of those that nobody else has just marked, in the order given."""
    if not run_ids:
        return []
    mine = (
        select(Run.id)
        .where(Run.id.in_(run_ids), Run.status == RunStatus.QUEUED, _due())
        .order_by(Run.id)
        .with_for_update(skip_locked=True, key_share=True)
    )
    marked = set(
        db.scalars(
            update(Run)
            .where(Run.id.in_(list(db.scalars(mine))))
            .values(hinted_at=utc_now(), hints=Run.hints + 1)
            .returning(Run.id)
            .execution_options(synchronize_session=False)
        )
    )
    return [run_id for run_id in run_ids if run_id in marked]


def _unmark(db: Db, hints: Sequence[Hint]) -> None:
    ids = sorted(hint.run_id for hint in hints)
    _unhint(db, Run.id.in_(ids))


def _forget_hints(db: Db) -> None:
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
