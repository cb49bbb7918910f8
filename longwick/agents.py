"""The agents that there are: the built-in ones and those of the agents file, and whether they can run on this host."""

import logging
import re
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from longwick import binaries, isolation
from longwick.errors import BadSetting
from longwick.prices import Price
from longwick.profiles import HERE, Profile
from longwick.settings import Settings, is_loopback

log = logging.getLogger(__name__)

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
        adapter="claude",
        kind="coding",
        name="Claude Code",
        description="Claude Code with its files and shell, in a folder of the thread.",
        workspace="thread",
    ),
    "codex-coding": Profile(
        adapter="codex",
        kind="coding",
        name="Codex (coding)",
        description="Codex with its files and shell, in a folder of the thread.",
        workspace="thread",
    ),
}


class _AgentsFile(BaseModel, extra="forbid"):
    agents: dict[str, Profile] = Field(default_factory=dict)
    prices: dict[str, Price] = Field(default_factory=dict)


class Roster(Mapping[str, Profile]):
    """Agent id -> profile, as the agents file has them now: a file that has changed is read anew.

    A changed file that cannot be used is refused whole, and the log tells why.

    Raises:
        BadSetting: the file cannot be read or used at first, or the default agent is none of these.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._read_at = _stamp(settings.agents_file)
        self._profiles = load(settings)

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
                    self._profiles = load(self._settings)
                except BadSetting as error:
                    log.error("the agents stay as they were: %s", error)
            return self._profiles


def load(settings: Settings) -> Mapping[str, Profile]:
    """Agent id -> profile, as the agents file has them now.

    Raises:
        BadSetting: the agents file cannot be read or used, or the default agent is none of these.
    """
    listed = _read(settings.agents_file) if settings.agents_file else _AgentsFile()
    agents = {**BUILT_IN, **listed.agents}
    if settings.default_agent and settings.default_agent not in agents:
        raise BadSetting(
            f"LONGWICK_DEFAULT_AGENT: there is no agent {settings.default_agent!r}, only {', '.join(agents)}"
        )
    found = {"claude": binaries.find_claude(settings), "codex": binaries.find_codex(settings)}
    return {agent: _placed(profile, found, listed.prices, settings) for agent, profile in agents.items()}


def _placed(profile: Profile, found: Mapping[str, str | None], prices: dict[str, Price], settings: Settings) -> Profile:
    """The profile with what is known of this host."""
    program = found.get(profile.adapter)
    command = profile.command or ([program] if program else [])
    refused = ""
    kept = isolation.of(settings.sandbox)
    if profile.has_tools and not kept.bwrap and not (settings.allow_unsandboxed and is_loopback(settings.host)):
        refused = (
            f"there is no sandbox for it here ({kept.reason}), and without one it could read and change whatever this "
            "server's user can; where that is yours alone, and the server listens on loopback only, "
            "LONGWICK_ALLOW_UNSANDBOXED=1 lets it run"
        )
    return profile.model_copy(update={"command": command, "refused": refused, "prices": prices})


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """Changes when the file does."""
    try:
        about = path.stat() if path else None
    except OSError:
        return (0, 0, 0)
    return about and (about.st_mtime_ns, about.st_size, about.st_ino)


def _read(path: Path) -> _AgentsFile:
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
    agents = {
        agent: profile.model_copy(
            update={
                "command": [part.replace(HERE, here) for part in profile.command],
                "reads": [part.replace(HERE, here) for part in profile.reads],
            }
        )
        for agent, profile in found.agents.items()
    }
    return found.model_copy(update={"agents": agents})


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
