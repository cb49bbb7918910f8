"""What the worker asks of an adapter: how to start its CLI, what its lines mean, how to ask it to stop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from longwick.agents import Profile
from longwick.events import Event
from longwick.models import JsonObject
from longwick.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Said:
    """One earlier message of the thread."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What an agent is asked, and all that it may know: agents hold nothing between turns."""

    run_id: str
    thread_id: str
    attempt: int
    text: str
    history: Sequence[Said]
    model: str | None = None
    shown: str = ""
    """What earlier attempts at this very turn have shown; it is to be continued, not repeated."""
    mcp_url: str | None = None
    mcp_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to start, what its environment has beside the common part, and what to write to it first."""

    argv: Sequence[str]
    env: JsonObject
    opening: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The end of a turn, exactly one: with the answer where the CLI states it, or with an error."""

    text: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class Adapter(Protocol):
    """One turn of one CLI."""

    def launch(self, folder: Path) -> Launch:
        """How to start the CLI in the workspace `folder`."""
        ...

    def translate(self, line: bytes, shown: Transcript) -> Iterator[Event | End]:
        """What a line of the CLI's output means, given what it has `shown` before; every byte is accounted for."""
        ...

    def interrupt(self) -> bytes:
        """What to write to the CLI so that it stops by itself; empty where it knows no such request."""
        ...


def adapter_for(profile: Profile, turn: Turn) -> Adapter:
    """The adapter that the profile names, for one turn."""
    from worker.agents.jsonl import JsonLines

    return JsonLines(profile, turn)
