"""A stack whose agents are the real CLIs, which ask model APIs of the tests' own."""

from collections.abc import Mapping

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
env = {{ MCP_TIMEOUT = "6000" }}
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

[agents.claude-frugal]
adapter = "claude"
command = ["{claude_new}"]
models = ["claude-sonnet-5"]
max_tokens = 250

[agents.codex-frugal]
adapter = "codex"
command = ["{codex}"]
models = ["gpt-5-mini"]
max_cost_usd = 0.002

[agents.claude-builder]
adapter = "claude"
kind = "coding"
command = ["{claude_new}"]
models = ["claude-sonnet-5"]
tools = ["Bash"]
workspace = "thread"

[agents.planter]
adapter = "jsonl"
command = ["{python}", "-S", "-E", "{planter}"]
workspace = "thread"

[agents.asker]
adapter = "jsonl"
command = ["{python}", "-S", "-E", "{asker}"]
provider = "anthropic"
models = ["claude-sonnet-5"]

[agents.gemini]
adapter = "acp"
command = {gemini}
env = {{ GEMINI_API_KEY = "the-key", GOOGLE_GEMINI_BASE_URL = "http://{gemini_place}" }}
egress = ["{gemini_place}"]

[agents.claude-acp]
adapter = "acp"
command = {claude_acp}
provider = "anthropic"
env = {{ CLAUDE_CODE_MAX_RETRIES = "1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1" }}

[agents.codex-acp]
adapter = "acp"
command = {codex_acp}
provider = "openai"

[prices."gpt-5-mini"]
input = 10
output = 10

[agents.keyless]
adapter = "acp"
command = {gemini}
"""
TOLD = 'exec "$0" "$@" -c "model_providers.test.base_url=$OPENAI_BASE_URL"'
"""What codex-acp asks can only be said in its configuration."""
CODEX_ACP = {
    "model": '"gpt-5"',
    "model_provider": '"test"',
    "model_providers.test": '{name="test",wire_api="responses",env_key="OPENAI_API_KEY",request_max_retries=1,'
    "stream_max_retries=1}",
}
BASH = 'Bash {"command": "echo made > artifacts.txt", "description": "make"}'
SHELLS = {
    "codex": 'exec_command {"cmd": "touch artifacts.txt"}',
    "codex-acp": 'exec_command {"cmd": "touch artifacts.txt", "sandbox_permissions": "require_escalated",'
    ' "justification": "May I?"}',
    "gemini": 'run_shell_command {"command": "touch artifacts.txt", "description": "make"}',
}
"""How each is made to use its own shell, where that is not called Bash."""


class RealAgents:
    """The stack, and the provider that each agent asks."""

    def __init__(self, stack: Stack, providers: Mapping[str, Provider]) -> None:
        self.stack = stack
        self._providers = providers

    def provider(self, agent: str) -> Provider:
        return self._providers[agent.partition("-")[0]]
