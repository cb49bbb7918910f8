"""What a caller gets: the bodies of answers. (What a caller sends is in web/bodies.py.)"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema

from longwick import models
from longwick.kinds import ApprovalStatus, ArtifactType, Role, RunKind, RunStatus
from longwick.paging import Page
from longwick.times import rfc3339

Moment = Annotated[
    datetime,
    PlainSerializer(rfc3339, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-22T13:05:09.042Z"]}),
]


class Answer(BaseModel):
    """What a caller gets; built from a row of the record where it has the same fields."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


class Item(Answer):
    """What can stand in a list."""

    id: str


class Thread(Item):
    """A conversation."""

    title: str
    agent: str | None
    metadata: dict[str, Any]
    created_at: Moment
    updated_at: Moment
    active_run_id: str | None
    """Its run that is not settled and is first in turn."""
    unread: bool
    """Whether a run came to its end since its owner saw it (`POST /threads/{thread_id}/read`)."""
    excerpt: str | None
    """In a search: the words around what was found in a message or a file name."""

    @classmethod
    def of(
        cls, thread: models.Thread, active_run_id: str | None, *, unread: bool = False, excerpt: str | None = None
    ) -> Self:
        return cls(
            id=thread.id,
            title=thread.title,
            agent=thread.agent,
            metadata=thread.extra,
            created_at=thread.created_at,
            updated_at=thread.updated_at,
            active_run_id=active_run_id,
            unread=unread,
            excerpt=excerpt,
        )


class Message(Item):
    """What a user asked, or what the agent answered."""

    thread_id: str
    run_id: str
    role: Role
    text: str
    partial: bool
    """More was to come when its run ended."""
    created_at: Moment


class Approval(Item):
    """A tool that an agent may use only if somebody allows it."""

    run_id: str
    tool: str
    input: dict[str, Any]
    status: ApprovalStatus
    message: str | None
    """What the one who decided has said to the agent."""
    created_at: Moment
    expires_at: Moment
    """When it is denied if nobody has decided."""
    decided_at: Moment | None


class Delivery(Answer):
    """What became of something that was said to a run at work."""

    delivered: bool
    """False: its agent takes it later in the turn, or else it is the thread's next run."""
    message_id: str


class RunError(Answer):
    """Why a run failed."""

    code: str
    message: str


class Run(Item):
    """One agent turn on a thread."""

    thread_id: str
    turn: int
    """Its place in its thread, from 1; of one that waits, the order in which they will run."""
    kind: RunKind
    status: RunStatus
    agent: str
    model: str | None
    attempt: int
    last_seq: int
    input: str
    output_text: str | None
    error: RunError | None
    usage: dict[str, Any] | None
    cost_usd: float | None
    max_cost_usd: float | None
    queue_position: int | None
    """How many queued runs of its kind were accepted before it; null when it is not queued."""
    retry_of: str | None
    follows: str | None
    """The run that it goes on from, or `nothing`; null: the one before it in its thread."""
    metadata: dict[str, Any]
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    cancel_requested_at: Moment | None

    @classmethod
    def of(cls, run: models.Run, queue_position: int | None = None) -> Self:
        return cls(
            id=run.id,
            thread_id=run.thread_id,
            turn=run.turn,
            kind=run.kind,
            status=run.status,
            agent=run.agent,
            model=run.model,
            attempt=run.attempt,
            last_seq=run.last_seq,
            input=run.input,
            output_text=run.output_text,
            error=RunError(code=run.error_code, message=run.error_message or "") if run.error_code else None,
            usage=run.usage,
            cost_usd=run.cost_usd,
            max_cost_usd=run.max_cost_usd,
            queue_position=queue_position,
            retry_of=run.retry_of,
            follows=run.follows,
            metadata=run.extra,
            created_at=run.created_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            cancel_requested_at=run.cancel_requested_at,
        )


class Event(Answer):
    """An entry of a run's log; what `data` holds depends on `type`."""

    seq: int
    run_id: str
    attempt: int
    at: Moment
    type: str
    data: dict[str, Any]


class Artifact(Item):
    """One version of a file of a thread."""

    thread_id: str
    run_id: str | None
    type: ArtifactType
    name: str
    version: int
    media_type: str
    size: int
    sha256: str
    created_at: Moment


class Agent(Item):
    """A CLI that can be asked."""

    name: str
    description: str
    available: bool
    reason: str | None
    """Why it is not available."""
    models: list[str]
    capabilities: list[str]
    isolated: bool | None
    """Whether each worker that can run it does so in a sandbox of its own; null while there is none to ask."""


class Parts(Answer):
    """What the tier needs: each part is `ok`, or this says what is wrong."""

    record: str
    redis: str
    worker: str
    mcp: str


class Health(Answer):
    """How the tier and what it needs are."""

    status: Literal["ok", "degraded", "unavailable"]
    checks: Parts
    isolation: dict[str, str]
    """Worker id -> `bwrap` where it keeps its agents in sandboxes, or `none` and why."""


class Alive(Answer):
    """The tier answers."""

    status: Literal["ok"] = "ok"


T = TypeVar("T", bound=Item)
Row = TypeVar("Row")


class List(Answer, Generic[T]):
    """A page of a list; `last_id` is the `after` of the next one."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, page: Page[Row], shown: Callable[[Row], T]) -> Self:
        data = [shown(row) for row in page.data]
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=page.has_more,
        )


class ThreadList(List[Thread]):
    """A page of threads, newest first."""


class MessageList(List[Message]):
    """A page of messages, oldest first."""


class ApprovalList(List[Approval]):
    """A page of approvals, newest first."""


class RunList(List[Run]):
    """A page of runs, newest first."""


class ArtifactList(List[Artifact]):
    """A page of artifacts, newest first."""


class AgentList(List[Agent]):
    """All agents."""


class EventList(Answer):
    """A page of a run's log; the ids are positions."""

    object: Literal["list"] = "list"
    data: list[Event]
    first_id: int | None
    last_id: int | None
    has_more: bool
