"""The agents that there are: the built-in ones and those of the agents file, and whether they can run on this host."""

import logging
import os
import re
import shutil
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from longwick import binaries
from longwick.errors import BadSetting
from longwick.models import JsonObject
from longwick.settings import Settings, environ_values, is_loopback

log = logging.getLogger(__name__)

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
        *("approvals", "cost", "images", "resume"),
    ),
    "codex": (
        *("text", "thinking", "tools", "artifacts", "history", "interrupt", "steer"),
        *("approvals", "images", "resume"),
    ),
    "acp": ("text", "thinking", "tools", "artifacts", "history", "interrupt", "approvals", "images"),
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


DEMO = Profile(
    adapter="jsonl",
    # By its folder: as a module, its package would be imported first, which takes ten times as long as the program.
    command=[sys.executable, "-S", "-E", str(Path(__file__).parents[1] / "worker" / "agents" / "demo")],
    name="Demo",
    description="Answers without any key: a few canned talents, to see that everything works.",
)
BUILT_IN: Mapping[str, Profile] = {
    "demo": DEMO,
    "claude": Profile(adapter="claude", name="Claude", description="Claude Code without tools but Longwick's."),
    "codex": Profile(adapter="codex", name="Codex", description="Codex without tools but Longwick's."),
    "claude-coding": Profile(
        adapter="claude", kind="coding", name="Claude Code", description="Claude Code with its files and shell."
    ),
    "codex-coding": Profile(
        adapter="codex", kind="coding", name="Codex (coding)", description="Codex with its files and shell."
    ),
}


class _AgentsFile(BaseModel, extra="forbid"):
    agents: dict[str, Profile] = Field(default_factory=dict)


class Roster(Mapping[str, Profile]):
    """Agent id -> profile, as the agents file has them now: a file that has changed is read anew.

    A changed file that cannot be used is refused whole, and `problem` tells why.

    Raises:
        BadSetting: the file cannot be read or used at first, or the default agent is none of these.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._read_at = _stamp(settings.agents_file)
        self._profiles = load(settings)
        self.problem: str | None = None

    def __getitem__(self, agent: str) -> Profile:
        return self._current()[agent]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    @property
    def default(self) -> str:
        """The agent of a run that names none, in a thread that has none."""
        return self._settings.default_agent or ("claude" if self["claude"].unavailable() is None else "demo")

    def _current(self) -> Mapping[str, Profile]:
        stamp = _stamp(self._settings.agents_file)
        with self._lock:
            if stamp != self._read_at:
                self._read_at = stamp
                try:
                    self._profiles, self.problem = load(self._settings), None
                except BadSetting as error:
                    self.problem = str(error)
                    log.error("the agents stay as they were: %s", error)
            return self._profiles


def load(settings: Settings) -> Mapping[str, Profile]:
    """Agent id -> profile, as the agents file has them now.

    Raises:
        BadSetting: the agents file cannot be read or used, or the default agent is none of these.
    """
    agents = {**BUILT_IN, **(_read(settings.agents_file) if settings.agents_file else {})}
    if settings.default_agent and settings.default_agent not in agents:
        raise BadSetting(
            f"LONGWICK_DEFAULT_AGENT: there is no agent {settings.default_agent!r}, only {', '.join(agents)}"
        )
    found = {"claude": binaries.find_claude(settings), "codex": binaries.find_codex(settings)}
    return {agent: _placed(profile, found, settings) for agent, profile in agents.items()}


def _placed(profile: Profile, found: Mapping[str, str | None], settings: Settings) -> Profile:
    """The profile with what is known of this host."""
    program = found.get(profile.adapter)
    command = profile.command or ([program] if program else [])
    refused = ""
    # What an agent over ACP may do with its own tools, nobody can tell it.
    has_tools = profile.kind == "coding" or profile.adapter == "acp"
    if has_tools and not (settings.allow_unsandboxed and is_loopback(settings.host)):
        refused = (
            "it could read and change whatever this server's user can; where that is yours alone, and the server "
            "listens on loopback only, LONGWICK_ALLOW_UNSANDBOXED=1 lets it run"
        )
    return profile.model_copy(update={"command": command, "refused": refused})


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """Changes when the file does."""
    try:
        about = path.stat() if path else None
    except OSError:
        return (0, 0, 0)
    return about and (about.st_mtime_ns, about.st_size, about.st_ino)


def _read(path: Path) -> dict[str, Profile]:
    try:
        found = _AgentsFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise BadSetting(f"LONGWICK_AGENTS_FILE: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSetting(f"LONGWICK_AGENTS_FILE: {path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"LONGWICK_AGENTS_FILE: {path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadSetting(
            f"LONGWICK_AGENTS_FILE: {path}{_line_of(path, first['loc'])}: {where}: {first['msg']} "
            "(docs/agents.md shows what an agent needs)"
        ) from error
    here = str(path.parent)
    return {
        agent: profile.model_copy(update={"command": [part.replace(HERE, here) for part in profile.command]})
        for agent, profile in found.agents.items()
    }


def _line_of(path: Path, loc: tuple[int | str, ...]) -> str:
    """`, line N` of the table or key that an error is about, as far as it can be found."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    keys = [str(part) for part in loc if isinstance(part, str)]
    found = 0
    for key in keys[1:3] or keys:
        mentioned = re.compile(rf"""\s*(\[.*["\s.\[]?)?["']?{re.escape(key)}["']?\s*[\].=]""")
        for number, line in enumerate(lines[found:], found + 1):
            if mentioned.match(line):
                found = number
                break
    return f", line {found}" if found else ""
