"""How an attempt ended, and the event that tells it."""

from dataclasses import dataclass

from longwick.events import Event, EventType
from longwick.kinds import RunStatus
from longwick.models import JsonObject
from longwick.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    status: RunStatus
    text: str = ""
    partial: bool = False
    error_code: str | None = None
    error_message: str | None = None
    usage: JsonObject | None = None
    cost_usd: float | None = None


def cut_short(
    status: RunStatus, shown: Transcript, *, error_code: str | None = None, error_message: str | None = None
) -> Outcome:
    """The outcome of a run that ends with no more than it has `shown` before."""
    return Outcome(status, shown.text, True, error_code, error_message, shown.usage, shown.cost_usd)


def terminal_event(outcome: Outcome, duration_ms: int) -> Event:
    """The last event of a run, `duration_ms` after it was started."""
    numbers = {"usage": outcome.usage, "cost_usd": outcome.cost_usd, "duration_ms": duration_ms}
    if outcome.status is RunStatus.FAILED:
        error = {"code": outcome.error_code, "message": outcome.error_message}
        return Event(EventType.RUN_FAILED, {"error": error, **numbers})
    kind = EventType.RUN_SUCCEEDED if outcome.status is RunStatus.SUCCEEDED else EventType.RUN_CANCELLED
    return Event(kind, numbers)
