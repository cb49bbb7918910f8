"""A stack whose agents are the real CLIs, which ask model APIs of the tests' own."""

from providers.anthropic import Anthropic
from providers.openai import OpenAI
from providers.serving import Provider
from stack import Stack

AGENTS = """
[agents.claude-old]
adapter = "claude"
command = ["{claude_old}"]
models = ["claude-sonnet-5", "claude-opus-5"]

[agents.claude]
adapter = "claude"
command = ["{claude_new}"]
models = ["claude-sonnet-5"]
max_turns = 5

[agents.codex]
adapter = "codex"
command = ["{codex}"]
models = ["gpt-5"]

[agents.claude-old-coder]
adapter = "claude"
kind = "coding"
command = ["{claude_old}"]
models = ["claude-sonnet-5"]

[agents.claude-coder]
adapter = "claude"
kind = "coding"
command = ["{claude_new}"]
models = ["claude-sonnet-5"]

[agents.codex-coder]
adapter = "codex"
kind = "coding"
command = ["{codex}"]
models = ["gpt-5"]
"""


class RealAgents:
    """The stack, and the provider that each agent asks."""

    def __init__(self, stack: Stack, anthropic: Anthropic, openai: OpenAI) -> None:
        self.stack = stack
        self._anthropic = anthropic
        self._openai = openai

    def provider(self, agent: str) -> Provider:
        return self._openai if agent.startswith("codex") else self._anthropic
