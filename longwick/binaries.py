"""Where the programs of known agents are on this host, and which versions they are."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from longwick.settings import Settings, environ_values

VERSION_SECONDS = 20.0
TRIED: Mapping[str, tuple[str, ...]] = {"claude": ("2.1.197", "2.1.330"), "codex": ("0.169.0",)}
"""Adapter -> the versions that the tests run."""


def find_claude(settings: Settings) -> str | None:
    """The `claude` of the settings, else of the PATH, else of the wheel `claude-agent-sdk`."""
    return _set_or(settings.claude_bin, lambda: shutil.which("claude") or _in_package("claude_agent_sdk", "_bundled"))


def find_codex(settings: Settings) -> str | None:
    """The `codex` of the settings, else of the PATH: the native program, where npm has put a script before it.

    The script starts the program as its child, which would outlive it.
    """
    return _set_or(settings.codex_bin, lambda: _native_codex(shutil.which("codex")))


def version(program: str) -> str | None:
    """What `program --version` says, as far as it is a version; None where it says none in time."""
    try:
        about = Path(program).stat()
    except OSError:
        return None
    return _version(program, about.st_mtime_ns)


def _set_or(path: Path | None, look: Callable[[], str | None]) -> str | None:
    return str(path) if path is not None else look()


def _in_package(package: str, folder: str) -> str | None:
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return next(
        (found for place in places or () if (found := shutil.which("claude", path=str(Path(place, folder))))), None
    )


def _native_codex(found: str | None) -> str | None:
    if found is None or not (real := Path(found).resolve()).name.endswith(".js"):
        return found
    # bin/codex.js of the package @openai/codex, whose programs are in packages of their own beside or below it.
    package = real.parents[1]
    programs = [
        *package.glob("node_modules/@openai/codex-*/vendor/*/bin/codex"),
        *package.parent.glob("codex-*/vendor/*/bin/codex"),
        *package.glob("vendor/*/bin/codex"),
    ]
    return str(programs[0]) if programs else found


@lru_cache(maxsize=32)
def _version(program: str, changed_at: int) -> str | None:
    try:
        said = subprocess.run(  # noqa: S603 - the operator names it
            [program, "--version"],
            env={**environ_values(["PATH", "HOME", "TMPDIR"]), "DISABLE_AUTOUPDATER": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(rb"\d+(\.\d+)+[\w.+-]*", said.stdout)
    return found[0].decode() if found else None
