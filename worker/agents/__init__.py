"""What the worker asks of an adapter: how to start its CLI, what its lines mean, how to talk to it meanwhile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from longwick.approvals import Decision
from longwick.events import Event
from longwick.models import JsonObject
from longwick.profiles import Profile
from longwick.providers import PROVIDERS
from longwick.transcript import Block, Transcript


@dataclass(frozen=True, slots=True)
class Said:
    """One earlier message of the thread."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that the user has attached to this message."""

    name: str
    media_type: str
    data: bytes = field(repr=False)


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
    done: Sequence[Block] = ()
    """What they have said and done, in order."""
    decisions: Sequence[Decision] = ()
    """What was decided about it since."""
    pictures: Sequence[Picture] = ()
    max_cost_usd: float | None = None
    mcp_url: str | None = None
    mcp_token: str | None = field(default=None, repr=False)
    mcp_near: str | None = None
    """Where the worker itself finds our MCP server; `mcp_url` is where the CLI does."""
    gateway_url: str | None = None
    """Where its CLI has models asked."""
    gateway_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to start, what its environment has beside the common part, and what to write to it first."""

    argv: Sequence[str]
    env: Mapping[str, str]
    opening: bytes
    shared: bool = False
    """Whether one process serves many turns; then it must speak JSON-RPC."""
    greeting: bytes = b""
    """What such a process is told before anything else."""
    key: str = ""
    """What the ids of this turn's requests to it begin with."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a turn, exactly one: with the answer where the CLI states it, or with an error."""

    text: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    kill: bool = False
    """Whether the CLI has to be ended, because it would go on."""
    takes_more: bool = False
    """Whether the CLI can still be given another message of the user, and goes on then."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A tool that the agent may use only if somebody allows it; the CLI waits for the answer."""

    request_id: str
    tool: str
    input: JsonObject
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Something that the CLI waits to read."""

    data: bytes


Meant = Event | End | Ask | Reply


class Adapter(Protocol):
    """One turn of one CLI."""

    def launch(self, work: Path, home: Path) -> Launch:
        """How to start the CLI in the workspace `work`; what it needs beside that may be put into its `home`."""
        ...

    def translate(self, line: bytes, shown: Transcript) -> Iterator[Meant]:
        """What a line of the CLI's output means, given what it has `shown` before; every byte is accounted for."""
        ...

    def interrupt(self) -> bytes:
        """What to write to the CLI so that it stops by itself; empty where it knows no such request."""
        ...

    def steer(self, text: str) -> bytes | None:
        """What to write so that the user's words enter the turn; None where that cannot be just now."""
        ...

    def answer(self, ask: Ask, decision: Decision) -> bytes:
        """What to write to tell what was decided."""
        ...


def asking_environ(profile: Profile, turn: Turn) -> dict[str, str]:
    """The variables by which its CLI has models asked through the gateway."""
    if not profile.asks or not turn.gateway_url:
        return {}
    return PROVIDERS[profile.asks].given(turn.gateway_url, turn.gateway_token)


def adapter_for(profile: Profile, turn: Turn) -> Adapter:
    """The adapter that the profile names, for one turn."""
    from worker.agents.acp import Acp
    from worker.agents.claude import Claude
    from worker.agents.codex import Codex
    from worker.agents.jsonl import JsonLines

    match profile.adapter:
        case "acp":
            return Acp(profile, turn)
        case "claude":
            return Claude(profile, turn)
        case "codex":
            return Codex(profile, turn)
        case _:
            return JsonLines(profile, turn)
