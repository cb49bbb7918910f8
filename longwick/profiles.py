"""How an agent is run: what an operator can say of it, and whether that can be done on this host."""

import os
import shutil
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from longwick import binaries
from longwick.models import JsonObject
from longwick.settings import environ_values

HERE = "{here}"
MCP_NAME = "longwick"
"""Our server's name in every agent's MCP configuration, which no other server may take."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "claude": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    "codex": ("OPENAI_API_KEY",),
}
"""Adapter -> the variables of which one must hold the provider's key."""
PROVIDERS = {name: (*keys, keys[0].replace("API_KEY", "BASE_URL")) for name, keys in KEYS.items()}
"""Adapter -> all variables of the worker's environment that speak of the provider."""
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
    steer: bool = False
    """`jsonl`: whether it reads further messages of the user while it works."""
    env: dict[str, str] = Field(default_factory=dict)
    pass_env: list[str] = Field(default_factory=list)
    """Variables of the worker's own environment that the CLI gets."""
    workspace: Literal["empty", "thread"] = "empty"
    """Where it works: in a folder that is empty at first, or in one that follows the thread."""
    concurrency: int | None = Field(default=None, ge=1)
    """Runs at once, for each worker there is."""
    refused: str = Field(default="", exclude=True)
    """Why this server does not let it run, in words."""

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
    def _not_ours(cls, servers: dict[str, McpServer]) -> dict[str, McpServer]:
        if MCP_NAME in servers:
            raise ValueError(f"{MCP_NAME!r} is the name of the server that every agent has")
        return servers

    @model_validator(mode="after")
    def _fits_its_adapter(self) -> Self:
        if not self.command and self.adapter not in KEYS:
            raise ValueError(f"the adapter {self.adapter!r} needs a command")
        if self.kind == "coding" and self.adapter not in KEYS:
            raise ValueError("only claude and codex come in two kinds")
        return self

    @property
    def environ(self) -> dict[str, str]:
        """What the CLI is given of the worker's own environment, and what the profile adds."""
        return {**environ_values([*PROVIDERS.get(self.adapter, ()), *self.pass_env]), **self.env}

    @property
    def started(self) -> JsonObject:
        """What a run of it says of itself when it starts; the first time this takes as long as its program does."""
        found = binaries.version(self.command[0]) if self.adapter in KEYS and not self.unavailable() else None
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
        keys = KEYS.get(self.adapter)
        if keys and not any(self.environ.get(key) for key in keys):
            return f"it has no key: set {keys[0]} in the environment of the worker"
        return None
