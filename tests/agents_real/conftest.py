"""A stack whose agents are the real CLIs, which ask model APIs of the tests' own."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import binaries
import pytest
from providers.anthropic import Anthropic
from providers.gemini import Gemini
from providers.openai import OpenAI
from real_agents import AGENTS, CODEX_ACP, TOLD, RealAgents
from stack import Stack

OWN = Path(__file__).parents[1] / "agents"


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAgents]:
    """One for each test process."""
    folder = tmp_path_factory.mktemp("real")
    with ExitStack() as parts:
        anthropic, openai = parts.enter_context(Anthropic()), parts.enter_context(OpenAI())
        gemini = parts.enter_context(Gemini())
        file = folder / "agents.toml"
        configured = [word for name, value in CODEX_ACP.items() for word in ("-c", f"{name}={value}")]
        file.write_text(
            AGENTS.format(
                claude_old=binaries.claude(binaries.CLAUDE_OLD),
                claude_new=binaries.claude(),
                codex=binaries.codex(),
                python=sys.executable,
                asker=OWN / "asker.py",
                planter=OWN / "planter.py",
                # A TOML list is written like one of JSON.
                gemini=json.dumps([*binaries.acp("gemini"), "--model", "gemini-2.5-flash"]),
                gemini_place=gemini.url.removeprefix("http://"),
                claude_acp=json.dumps(binaries.acp("claude-agent-acp")),
                codex_acp=json.dumps(["sh", "-c", TOLD, *binaries.acp("codex-acp"), *configured]),
            )
        )
        env = {
            "LONGWICK_AGENTS_FILE": str(file),
            "LONGWICK_SANDBOX": "bwrap",
            "LONGWICK_PARK_SECONDS": "6",
            "LONGWICK_BEAT_SECONDS": "0.5",
            "ANTHROPIC_API_KEY": "sk-ant-the-key",
            "ANTHROPIC_BASE_URL": anthropic.url,
            "OPENAI_API_KEY": "sk-the-key",
            "OPENAI_BASE_URL": f"{openai.url}/v1",
        }
        stack = parts.enter_context(Stack(folder / "stack", env))
        yield RealAgents(stack, {"claude": anthropic, "codex": openai, "gemini": gemini})
