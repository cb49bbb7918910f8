"""More to say to a run while it is at work: kept as a message of its turn, and handed to its agent."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from longwick import events, threads
from longwick.database import Db, announce, utc_now
from longwick.errors import Conflict, TooMany
from longwick.events import Event, EventType
from longwick.kinds import Role, RunStatus
from longwick.models import Message, Run
from longwick.news import News

MOST_UNDELIVERED = 100
"""Of one run. What is left when it ends becomes runs of its thread, whatever its owner has waiting."""
AGAIN_SECONDS = 5.0
"""When it is worth saying more to an agent that has so much to take."""


@dataclass(frozen=True, slots=True)
class Input:
    """A message that steers."""

    message_id: str
    text: str


def steer(db: Db, run: Run, text: str) -> str:
    """Have the agent of a run told; the id of the message.

    Raises:
        Conflict: the run is not at work (`not_steerable`).
        TooMany: as much waits for its agent as may (`too_many_queued`).
    """
    status = db.scalars(select(Run.status).where(Run.id == run.id).with_for_update(key_share=True)).one()
    if status is not RunStatus.RUNNING:
        raise Conflict(f"the run is {status.value}, and nothing can be added to it", code="not_steerable")
    waiting = select(Message.id).where(Message.run_id == run.id, Message.steers, Message.delivered_at.is_(None))
    if len(db.scalars(waiting.limit(MOST_UNDELIVERED)).all()) == MOST_UNDELIVERED:
        raise TooMany(
            f"{MOST_UNDELIVERED} messages to this run wait for its agent to take them",
            code="too_many_queued",
            retry_after=AGAIN_SECONDS,
        )
    message_id = threads.add_message(db, run, Role.USER, text, steers=True)
    announce(db, News(run.id))
    return message_id


def undelivered(db: Db, run_id: str) -> list[Input]:
    """What the agent of a run was not given yet, in order."""
    waiting = select(Message.id, Message.text).where(
        Message.run_id == run_id, Message.steers, Message.delivered_at.is_(None)
    )
    return [Input(*row) for row in db.execute(waiting.order_by(Message.id))]


def runs_with_undelivered(db: Db, run_ids: Sequence[str]) -> set[str]:
    """Which of these runs have something to be given to their agents."""
    waiting = select(Message.run_id).where(Message.run_id.in_(run_ids), Message.steers, Message.delivered_at.is_(None))
    return set(db.scalars(waiting))


def deliver(db: Db, run: Run, given: Input) -> None:
    """Note that the agent of this attempt is given a message.

    Raises:
        Fenced: the attempt is over.
    """
    told = Event(EventType.INPUT_DELIVERED, {"message_id": given.message_id, "text": given.text})
    events.append(db, run.id, run.attempt, [told])
    db.execute(update(Message).where(Message.id == given.message_id).values(delivered_at=utc_now()))


def is_delivered(db: Db, message_id: str) -> bool:
    """Whether its agent was given a message."""
    return db.scalar(select(Message.delivered_at).where(Message.id == message_id)) is not None
