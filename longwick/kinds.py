"""The words that columns hold: statuses and kinds, one meaning each."""

from enum import StrEnum


class RunStatus(StrEnum):
    """Where a run is in its life; docs/architecture.md draws the arrows."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
UNSETTLED = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING)


class RunKind(StrEnum):
    """The lane that a run waits in."""

    CHAT = "chat"
    BACKGROUND = "background"


class OnWorkerLost(StrEnum):
    """What the caller wants when the worker of a run is lost after its CLI was started."""

    FAIL = "fail"
    RETRY = "retry"


class Role(StrEnum):
    """Who speaks in a message."""

    USER = "user"
    ASSISTANT = "assistant"


class ApprovalStatus(StrEnum):
    """What was decided about a tool that needs somebody's leave."""

    PENDING = "pending"
    ALLOWED = "allowed"
    DENIED = "denied"
    EXPIRED = "expired"
    """Nobody decided in time, or the attempt that asked is over."""


class ArtifactType(StrEnum):
    """How a file came to be."""

    UPLOAD = "upload"
    GENERATED_FILE = "generated_file"


class Scope(StrEnum):
    """What a key may do; each stands for itself, and none reaches what is another owner's."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    """The figures of the whole server."""
