"""All tables of the work on one page; those of who may get in are in longwick/entrance.py."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from longwick.columns import COLUMN_TYPES
from longwick.columns import JsonObject as JsonObject
from longwick.kinds import ApprovalStatus, ArtifactType, OnWorkerLost, Role, RunKind, RunStatus

Id = String(40)


class Base(DeclarativeBase):
    """The record's tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = COLUMN_TYPES


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of some of the rows."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


class Thread(Base):
    """A conversation, owned by one owner."""

    __tablename__ = "threads"
    __table_args__ = (
        Index(None, "owner", "id"),
        Index(None, "owner", "updated_at"),
        _partial("ix_threads_deleted", "deleted_at", where="deleted_at IS NOT NULL"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    title: Mapped[str] = mapped_column(Text)
    agent: Mapped[str | None] = mapped_column(String(200))
    extra: Mapped[JsonObject] = mapped_column("metadata")
    turns: Mapped[int]
    """Runs accepted so far. A run's turn is taken under this row's lock: the order of a thread is the order of
    commits, whatever the clocks of the hosts say."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]  # nobody can bring it back any more
    read_at: Mapped[datetime | None]
    """When its owner last saw it; null where nobody ever said so."""


class Message(Base):
    """One chat message of a thread: what a user asked, or what the agent answered."""

    __tablename__ = "messages"
    __table_args__ = (Index(None, "thread_id", "turn"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    thread_id: Mapped[str] = mapped_column(ForeignKey("threads.id"))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    turn: Mapped[int]
    role: Mapped[Role]
    text: Mapped[str] = mapped_column(Text)
    partial: Mapped[bool]
    steers: Mapped[bool] = mapped_column(server_default=false())
    """Sent while the run was at work, to be taken into account by it."""
    delivered_at: Mapped[datetime | None]
    """When the agent was given it, for one that steers."""
    created_at: Mapped[datetime]


class Run(Base):
    """One agent turn on a thread: the durable unit of work."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("thread_id", "turn"),
        _partial("uq_runs_active_thread", "thread_id", where="status IN ('running', 'waiting')", unique=True),
        _partial("ix_runs_unsettled", "status", "kind", where="status IN ('queued', 'running', 'waiting')"),
        _partial("ix_runs_uncompacted", "finished_at", where="compacted_at IS NULL AND finished_at IS NOT NULL"),
        # Whoever asks writes these conditions out: an engine does not see that a parameter means the same.
        _partial("ix_runs_queued", "kind", "owner", "id", where="status = 'queued'"),
        _partial("ix_runs_hinted", "hinted_at", where="status = 'queued' AND hinted_at IS NOT NULL"),
        _partial("ix_runs_running", "owner", where="status = 'running'"),
        Index(None, "owner", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    thread_id: Mapped[str] = mapped_column(ForeignKey("threads.id"))
    owner: Mapped[str] = mapped_column(String(200))
    turn: Mapped[int]
    kind: Mapped[RunKind]
    status: Mapped[RunStatus]
    agent: Mapped[str] = mapped_column(String(200))
    model: Mapped[str | None] = mapped_column(String(200))
    input: Mapped[str] = mapped_column(Text)
    artifact_generation: Mapped[bool]
    timeout_seconds: Mapped[float | None]
    idle_timeout_seconds: Mapped[float | None]
    max_cost_usd: Mapped[float | None]
    on_worker_lost: Mapped[OnWorkerLost] = mapped_column(server_default=OnWorkerLost.FAIL.value)
    extra: Mapped[JsonObject] = mapped_column("metadata")
    traceparent: Mapped[str | None] = mapped_column(String(55))
    """The part of a trace that accepted it, as W3C writes it."""
    retry_of: Mapped[str | None] = mapped_column(Id)
    follows: Mapped[str | None] = mapped_column(Id)
    """The run that it goes on from, or `nothing`; null is the run of the turn before. So a thread may branch."""

    attempt: Mapped[int]
    """The fencing token: every write of a worker or a tool names it. 0 until the first claim."""
    waits: Mapped[int] = mapped_column(server_default="0")
    """How many of the attempts ended to wait for a decision; none of these was lost."""
    last_seq: Mapped[int]
    worker_id: Mapped[str | None] = mapped_column(Id)
    spawned_at: Mapped[datetime | None]
    hinted_at: Mapped[datetime | None]
    hints: Mapped[int]
    cancel_requested_at: Mapped[datetime | None]

    output_text: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    usage: Mapped[JsonObject | None] = mapped_column(JSON(none_as_null=True))
    cost_usd: Mapped[float | None]
    """Of a run that is not over, what it had cost when its last attempt ended."""
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    compacted_at: Mapped[datetime | None]
    compacted_through: Mapped[int] = mapped_column(server_default="0")
    """So far its events have gaps."""


class IdempotencyKey(Base):
    """A submission that may be repeated: which run it made, and of what body."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(index=True)


class RunEvents(Base):
    """A batch of consecutive events of one run, committed together; `body` holds one event a line."""

    __tablename__ = "run_events"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    last_seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first_seq: Mapped[int]
    attempt: Mapped[int]
    batch: Mapped[str] = mapped_column(String(32))
    """Names the write, so that a lost answer to COMMIT can be looked up."""
    body: Mapped[str] = mapped_column(Text)


class Lease(Base):
    """An attempt's hold on its run, apart from `runs` so that one blocked run stops no other's beat."""

    __tablename__ = "leases"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    attempt: Mapped[int]
    worker_id: Mapped[str] = mapped_column(Id, index=True)
    beat: Mapped[int] = mapped_column(BigInteger)
    cost_usd: Mapped[float | None]
    """What the run has cost up to this beat."""


class Worker(Base):
    """A worker process that is alive, or was within the last lease."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    capacity: Mapped[JsonObject]
    """Lane -> how many runs may be outstanding (hinted or running) on this worker's account."""
    agents: Mapped[JsonObject]
    """Agent id -> `unavailable` (why it cannot run here, or null), `concurrency`, `isolation` (`bwrap`, or why not)."""
    beat: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime]


class AgentSession(Base):
    """The right of one attempt to call the MCP server; of its token only the digest is kept."""

    __tablename__ = "agent_sessions"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    attempt: Mapped[int]
    thread_id: Mapped[str] = mapped_column(ForeignKey("threads.id"), index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    traceparent: Mapped[str | None] = mapped_column(String(55))
    """The part of a trace that its attempt is."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class SpareToken(Base):
    """The token of a CLI that waits for an attempt to take it; of it, too, only the digest is kept."""

    __tablename__ = "spare_tokens"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[datetime]


class Approval(Base):
    """A tool that an attempt may use only if somebody allows it."""

    __tablename__ = "approvals"
    __table_args__ = (_partial("ix_approvals_pending", "expires_at", where="status = 'pending'"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    attempt: Mapped[int]
    tool: Mapped[str] = mapped_column(Text)
    input: Mapped[JsonObject]
    status: Mapped[ApprovalStatus]
    message: Mapped[str | None] = mapped_column(Text)
    """What the one who decided has to say to the agent."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]


class Blob(Base):
    """Bytes in storage, named by their digest; a file without this row is an orphan of a crash."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Artifact(Base):
    """One version of a file of a thread."""

    __tablename__ = "artifacts"
    __table_args__ = (
        UniqueConstraint("thread_id", "name", "version"),
        UniqueConstraint("run_id", "call_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    thread_id: Mapped[str] = mapped_column(ForeignKey("threads.id"))
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id"))
    type: Mapped[ArtifactType]
    name: Mapped[str] = mapped_column(String(255))
    version: Mapped[int]
    media_type: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    call_id: Mapped[str | None] = mapped_column(String(255))
    """The tool call that saved it, as the CLI names it: a repeated call finds its first result."""
    created_at: Mapped[datetime]


class WorkspaceState(Base):
    """A thread's folder as an attempt left it; the newest version is what the next run finds."""

    __tablename__ = "workspaces"
    __table_args__ = (UniqueConstraint("thread_id", "version"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    thread_id: Mapped[str] = mapped_column(ForeignKey("threads.id"))
    version: Mapped[int]
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    attempt: Mapped[int]
    manifest_sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    files: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class Chore(Base):
    """What one of all processes does now and then."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(Id, primary_key=True)
    begun_at: Mapped[datetime]
