"""What the server answers, as Python objects that a notebook can show.

What a newer server adds is kept as an attribute, and a status or type that this client has never heard of is only text.
"""

import html
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

ACTIVE = ("queued", "running", "waiting")
ENDS = {"run.succeeded": "succeeded", "run.failed": "failed", "run.cancelled": "cancelled"}


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(_rfc3339, when_used="json")]


class Answer(BaseModel):
    """What the server says about one thing."""

    model_config = ConfigDict(frozen=True, extra="allow")


class RunError(Answer):
    """Why a run failed; docs/http-api.md has the codes."""

    code: str
    message: str


class Run(Answer):
    """One agent turn on a thread, as it was when it was asked for."""

    id: str
    thread_id: str
    turn: int = 0
    kind: str
    status: str
    agent: str
    model: str | None = None
    attempt: int
    last_seq: int
    input: str
    output_text: str | None = None
    error: RunError | None = None
    usage: dict[str, Any] | None = None
    cost_usd: float | None = None
    max_cost_usd: float | None = None
    follows: str | None = None
    queue_position: int | None = None
    retry_of: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None
    cancel_requested_at: Moment | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen in it."""
        return self.finished_at is not None

    @property
    def duration(self) -> timedelta | None:
        """How long it took, or has taken until now; None before it has started."""
        if self.started_at is None:
            return None
        return (self.finished_at or datetime.now(UTC)) - self.started_at

    def _repr_html_(self) -> str:
        facts = [self.status, self.agent, self.id]
        if self.duration is not None:
            facts.insert(1, f"{self.duration.total_seconds():.1f} s")
        if self.cost_usd is not None:
            facts.insert(1, f"${self.cost_usd:.4f}")
        why = f"<p><b>{html.escape(self.error.code)}</b>: {html.escape(self.error.message)}</p>" if self.error else ""
        return f"<p><small>{_joined(facts)}</small></p>{why}{_safe_html(self.output_text or '')}"


class Thread(Answer):
    """A conversation."""

    id: str
    title: str
    agent: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: Moment
    updated_at: Moment
    active_run_id: str | None = None
    unread: bool = False
    excerpt: str | None = None


class Message(Answer):
    """What a user asked, or what the agent answered."""

    id: str
    thread_id: str
    run_id: str
    role: str
    text: str
    partial: bool
    created_at: Moment

    def _repr_html_(self) -> str:
        return f"<p><small>{_joined([self.role, self.run_id])}</small></p>{_safe_html(self.text)}"


class Artifact(Answer):
    """One version of a file of a thread."""

    id: str
    thread_id: str
    run_id: str | None = None
    type: str
    name: str
    version: int
    media_type: str
    size: int
    sha256: str
    created_at: Moment

    def _repr_html_(self) -> str:
        facts = [f"version {self.version}", self.media_type, f"{self.size:,} bytes", self.id]
        return f"<p><b>{html.escape(self.name)}</b> <small>{_joined(facts)}</small></p>"


class Approval(Answer):
    """A tool that an agent wants to use, and what was decided about it."""

    id: str
    run_id: str
    tool: str
    input: dict[str, Any]
    status: str
    created_at: Moment
    expires_at: Moment | None = None
    decided_at: Moment | None = None
    message: str | None = None


class Delivery(Answer):
    """What became of words for a run at work: what was not delivered may be yet, or is the thread's next run."""

    delivered: bool
    message_id: str


class Agent(Answer):
    """A CLI that can be asked."""

    id: str
    name: str
    description: str = ""
    available: bool
    reason: str | None = None
    models: list[str] = Field(default_factory=list)
    capabilities: list[str] = Field(default_factory=list)


class Used(Answer):
    """How much of something is used; no limit is None."""

    used: float
    limit: float | None = None


class Usage(Answer):
    """What you may have, and how much of it is used; docs/http-api.md says of what."""

    running: Used
    queued: Used
    artifacts: Used
    artifact_bytes: Used
    spend_usd_today: Used
    tokens_today: dict[str, int]
    requests_per_second: Used
    streams: Used
    resets_at: Moment


class Health(Answer):
    """How the server and what it needs are: each check is `ok`, or says what is wrong."""

    status: str
    checks: dict[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run; docs/events.md has the types and the data of each."""

    seq: int
    run_id: str
    attempt: int
    at: str
    type: str
    data: dict[str, Any]
    line: str = field(repr=False, compare=False)
    """The event as it came: one line of JSON."""

    @classmethod
    def parse(cls, line: str) -> Self:
        """The event that a frame of a stream carries.

        Raises:
            ValueError: it carries none.
        """
        try:
            said = json.loads(line)
            if not (isinstance(said["seq"], int) and isinstance(said["type"], str) and isinstance(said["data"], dict)):
                raise TypeError("its members are others")
            return cls(said["seq"], said["run_id"], said["attempt"], said["at"], said["type"], said["data"], line)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no event: {line[:100]}") from error

    @property
    def ends_as(self) -> str | None:
        """The status that the run ends with, if this is its end."""
        return ENDS.get(self.type)

    @property
    def lacks_text(self) -> bool:
        """Whether it is a message whose text is too large for the log and has to be asked for."""
        return self.type == "message.completed" and self.data.get("text") is None and "value" in self.data

    def with_text(self, text: str) -> Self:
        """This event, with the text that it lacked."""
        return replace(self, data={**self.data, "text": text})


def _joined(facts: list[str]) -> str:
    return " · ".join(html.escape(fact) for fact in facts)


def _safe_html(markdown: str) -> str:
    """Markdown as HTML that runs nothing and fetches nothing: an agent wrote it."""
    from markdown_it import MarkdownIt  # only a notebook needs it

    shown: str = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(markdown)
    return shown
