"""A stack whose agents are the real CLIs, which ask model APIs of the tests' own."""

from collections.abc import Iterator
from contextlib import ExitStack

import binaries
import pytest
from providers.anthropic import Anthropic
from providers.openai import OpenAI
from real_agents import AGENTS, RealAgents
from stack import Stack


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAgents]:
    """One for each test process."""
    folder = tmp_path_factory.mktemp("real")
    file = folder / "agents.toml"
    file.write_text(
        AGENTS.format(
            claude_old=binaries.claude(binaries.CLAUDE_OLD), claude_new=binaries.claude(), codex=binaries.codex()
        )
    )
    with ExitStack() as parts:
        anthropic, openai = parts.enter_context(Anthropic()), parts.enter_context(OpenAI())
        env = {
            "LONGWICK_AGENTS_FILE": str(file),
            "LONGWICK_ALLOW_UNSANDBOXED": "1",
            "LONGWICK_PARK_SECONDS": "2",
            "LONGWICK_BEAT_SECONDS": "0.5",
            "ANTHROPIC_API_KEY": "sk-ant-the-key",
            "ANTHROPIC_BASE_URL": anthropic.url,
            "OPENAI_API_KEY": "sk-the-key",
            "OPENAI_BASE_URL": f"{openai.url}/v1",
        }
        stack = parts.enter_context(Stack(folder / "stack", env))
        yield RealAgents(stack, anthropic, openai)
