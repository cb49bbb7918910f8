"""The agents that there are: the built-in ones and those of the agents file, and whether they can run on this host."""

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from longwick.errors import BadSetting
from longwick.settings import Settings, environ_values

HERE = "{here}"


class Profile(BaseModel, frozen=True, extra="forbid"):
    """How an agent is run: a table `[agents.NAME]` of the agents file."""

    adapter: Literal["jsonl"]
    command: list[str] = Field(min_length=1)
    """The CLI and its arguments; `{here}` stands for the folder of the agents file."""
    name: str = ""
    description: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    pass_env: list[str] = Field(default_factory=list)
    """Variables of the worker's own environment that the CLI gets."""
    workspace: Literal["empty", "thread"] = "empty"
    """Where it works: in a folder that is empty at first, or in one that follows the thread."""
    concurrency: int | None = Field(default=None, ge=1)
    """Runs at once, for each worker there is."""

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

    def unavailable(self) -> str | None:
        """Why it cannot run on this host, in words; None where it can."""
        program = self.command[0]
        path = {**environ_values(["PATH"]), **self.env}.get("PATH")
        relative = os.path.dirname(program) and not os.path.isabs(program)
        if relative:
            return f"the program {program!r} is looked for in an empty folder; write its whole path, or {HERE}/…"
        if shutil.which(program, path=path) is None:
            return f"the program {program!r} is not installed, or not on the PATH"
        return None


DEMO = Profile(
    adapter="jsonl",
    # By its folder: as a module, its package would be imported first, which takes ten times as long as the program.
    command=[sys.executable, "-S", "-E", str(Path(__file__).parents[1] / "worker" / "agents" / "demo")],
    name="Demo",
    description="Answers without any key: a few canned talents, to see that everything works.",
)


class _AgentsFile(BaseModel, extra="forbid"):
    agents: dict[str, Profile] = Field(default_factory=dict)


def load(settings: Settings) -> Mapping[str, Profile]:
    """Agent id -> profile.

    Raises:
        BadSetting: the agents file cannot be read or used, or the default agent is none of these.
    """
    agents = {"demo": DEMO, **(_read(settings.agents_file) if settings.agents_file else {})}
    if settings.default_agent and settings.default_agent not in agents:
        raise BadSetting(
            f"LONGWICK_DEFAULT_AGENT: there is no agent {settings.default_agent!r}, only {', '.join(agents)}"
        )
    return agents


def default_agent(settings: Settings) -> str:
    """The agent of a run that names none, in a thread that has none."""
    return settings.default_agent or "demo"


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
