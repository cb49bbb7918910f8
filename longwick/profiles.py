"""How an agent is run: what an operator can say of it, and whether that can be done on this host."""

import os
import shutil
from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from longwick import binaries
from longwick.models import JsonObject
from longwick.places import Place, is_never_let_out, parse_place
from longwick.prices import Price
from longwick.providers import KEPT, OF_ADAPTER, PROVIDERS, Name, Upstream
from longwick.settings import environ_values

HERE = "{here}"
MCP_NAME = "longwick"
"""Our server's name in every agent's MCP configuration, which no other server may take."""

MISSING = {
    "claude": "Claude Code is not installed: npm install -g @anthropic-ai/claude-code, or set LONGWICK_CLAUDE_BIN",
    "codex": "Codex is not installed: npm install -g @openai/codex, or set LONGWICK_CODEX_BIN",
}
CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "jsonl": ("text", "thinking", "tools", "artifacts", "history", "interrupt", "cost", "resume"),
    "claude": (
        *("text", "thinking", "tools", "artifacts", "history", "interrupt", "steer"),
        *("approvals", "cost", "images", "resume", "warm"),
    ),
    "codex": (
        *("text", "thinking", "tools", "artifacts", "history", "interrupt", "steer"),
        *("approvals", "images", "resume", "warm"),
    ),
    "acp": ("text", "thinking", "tools", "artifacts", "history", "interrupt", "approvals", "images", "resume"),
}
"""Adapter -> what works with it; docs/agents.md has the table."""


def _place(text: str) -> Place:
    """What an agent may be let out to."""
    place = parse_place(text)
    if place is None:
        raise ValueError(f"{text!r} is no host and port, as 'mirror.example:443'; there are no patterns")
    if is_never_let_out(place[0]):
        raise ValueError(f"{text!r} is what a machine says to itself about itself: no agent gets there")
    return place


def _place_of(url: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("the url of a server has no user and no password; write an Authorization header")
    return f"{parts.netloc}" if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"


class McpServer(BaseModel, frozen=True, extra="forbid"):
    """An MCP server beside ours; `${NAME}` in a header stands for a variable of `env` or `pass_env`."""

    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class Profile(BaseModel, frozen=True, extra="forbid"):
    """How an agent is run: a table `[agents.NAME]` of the agents file."""

    adapter: Literal["jsonl", "claude", "codex", "acp"]
    command: list[str] = Field(default_factory=list)
    """The CLI and its arguments; `{here}` stands for the folder of the agents file. Claude and Codex are found."""
    kind: Literal["chat", "coding"] = "chat"
    """Claude and Codex: `chat` has no tools but ours; `coding` has the CLI's own, in its workspace."""
    name: str = ""
    description: str = ""
    models: list[str] = Field(default_factory=list)
    """Those that a run may ask for, the first where it asks for none; with none listed, only the CLI's own choice."""
    small_model: str = ""
    """Claude: what it asks beside them, for small tasks of its own; else the model of the run."""
    provider: Name | None = None
    """Whose models it asks, through the gateway; Claude's and Codex's is known."""
    egress: list[str] = Field(default_factory=list)
    """`host:port` of what it may reach from its sandbox."""
    system_prompt: str = ""
    output_schema: dict[str, Any] = Field(default_factory=dict)
    """Claude and Codex: a JSON Schema that the answer has to fit; it is JSON then."""
    tools: list[str] = Field(default_factory=list)
    """Tools that need nobody's leave, as the CLI names them."""
    mcp_servers: dict[str, McpServer] = Field(default_factory=dict)
    timeout_seconds: float | None = Field(default=None, gt=0)
    idle_timeout_seconds: float | None = Field(default=None, gt=0)
    max_turns: int | None = Field(default=None, ge=1)
    """How often the model may be asked in a run."""
    max_cost_usd: float | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, ge=1)
    """How many tokens a run may use, in and out, as its provider counts them."""
    steer: bool = False
    """`jsonl`: whether it reads further messages of the user while it works."""
    reads: list[str] = Field(default_factory=list)
    """Files and folders that it sees in its sandbox, beside its own program; `{here}` as in `command`."""
    env: dict[str, str] = Field(default_factory=dict)
    pass_env: list[str] = Field(default_factory=list)
    """Variables of the worker's own environment that the CLI gets."""
    workspace: Literal["empty", "thread"] = "empty"
    """Where it works: in a folder that is empty at first, or in one that follows the thread."""
    concurrency: int | None = Field(default=None, ge=1)
    """Runs at once, for each worker there is."""
    refused: str = Field(default="", exclude=True)
    """Why this server does not let it run, in words."""
    prices: dict[str, Price] = Field(default_factory=dict, exclude=True)
    """Those of the agents file."""

    @field_validator("command")
    @classmethod
    def _no_nul(cls, command: list[str]) -> list[str]:
        if any("\0" in part for part in command):
            raise ValueError("no NUL can be passed to a program")
        return command

    @field_validator("env")
    @classmethod
    def _possible(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"{name!r} cannot be a variable: a name without '=', and no NUL anywhere")
        return env

    @field_validator("mcp_servers")
    @classmethod
    def _reachable(cls, servers: dict[str, McpServer]) -> dict[str, McpServer]:
        if MCP_NAME in servers:
            raise ValueError(f"{MCP_NAME!r} is the name of the server that every agent has")
        for server in servers.values():
            _place(_place_of(server.url))
        return servers

    @field_validator("egress")
    @classmethod
    def _places(cls, egress: list[str]) -> list[str]:
        for each in egress:
            _place(each)
        return egress

    @model_validator(mode="after")
    def _fits_its_adapter(self) -> Self:
        if not self.command and self.adapter not in OF_ADAPTER:
            raise ValueError(f"the adapter {self.adapter!r} needs a command")
        if self.kind == "coding" and self.adapter not in OF_ADAPTER:
            raise ValueError("only claude and codex come in two kinds")
        if self.provider and self.provider != OF_ADAPTER.get(self.adapter, self.provider):
            raise ValueError(f"the adapter {self.adapter!r} asks {OF_ADAPTER[self.adapter]}")
        held = sorted(KEPT.intersection(self.pass_env) | (KEPT.intersection(self.env) if not self.asks else set()))
        if held:
            named = next(name for name, provider in PROVIDERS.items() if held[0] in provider.variables)
            raise ValueError(f'no agent is given {held[0]}; with provider = "{named}" it asks through the gateway')
        return self

    @property
    def has_tools(self) -> bool:
        """Whether it has files or a shell; what an agent over ACP does with its own, nobody can tell it."""
        return self.kind == "coding" or self.adapter == "acp"

    @property
    def asks(self) -> Name | None:
        """Whose models it asks, through the gateway."""
        return self.provider or OF_ADAPTER.get(self.adapter)

    @property
    def asked_models(self) -> list[str]:
        """Those that its CLI may ask; any, with none listed."""
        return [*self.models, *([self.small_model] if self.small_model else [])] if self.models else []

    @property
    def egress_places(self) -> frozenset[Place]:
        """What it may reach from its sandbox, its MCP servers among them."""
        listed = [*self.egress, *(_place_of(server.url) for server in self.mcp_servers.values())]
        return frozenset(map(_place, listed))

    @property
    def environ(self) -> dict[str, str]:
        """What the CLI is given of the worker's own environment, and what the profile adds; no key of a provider."""
        given = {**environ_values(self.pass_env), **self.env}
        return {name: value for name, value in given.items() if name not in KEPT}

    @property
    def upstream(self) -> Upstream | None:
        """Where the gateway passes its requests on; None where there is no key."""
        if self.asks is None:
            return None
        provider = PROVIDERS[self.asks]
        found = environ_values(provider.variables)
        if any(self.env.get(name) for name in provider.keys):
            # Whatever kind of key it has, it is the one that is meant.
            found = {name: value for name, value in found.items() if name not in provider.keys}
        return provider.upstream({**found, **self.env})

    @property
    def started(self) -> JsonObject:
        """What a run of it says of itself when it starts; the first time this takes as long as its program does."""
        found = binaries.version(self.command[0]) if self.adapter in OF_ADAPTER and not self.unavailable() else None
        return {"model": next(iter(self.models), None), "cli_version": found}

    @property
    def capabilities(self) -> list[str]:
        """What works with it."""
        return [*CAPABILITIES[self.adapter], *(["steer"] if self.steer else [])]

    def allows(self, model: str) -> bool:
        """Whether a run may ask for this model; one's own program decides for itself."""
        return model in self.models or (self.adapter == "jsonl" and not self.models)

    def unavailable(self) -> str | None:
        """Why it cannot run on this host, in words; None where it can."""
        if self.refused:
            return self.refused
        if not self.command:
            return MISSING[self.adapter]
        program = self.command[0]
        path = {**environ_values(["PATH"]), **self.env}.get("PATH")
        relative = os.path.dirname(program) and not os.path.isabs(program)
        if relative:
            return f"the program {program!r} is looked for in an empty folder; write its whole path, or {HERE}/…"
        if shutil.which(program, path=path) is None:
            return f"the program {program!r} is not installed, or not on the PATH"
        if self.asks and self.upstream is None:
            return f"it has no key: set {PROVIDERS[self.asks].keys[0]} in the environment of the worker"
        return None
