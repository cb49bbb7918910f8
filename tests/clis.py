"""The real CLIs as a person would start them by hand: each talks to a provider of the tests and to our MCP server."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import binaries
from dialogue import Dialogue, Json
from mcp_agent import Agent

CODEX_OFF = """
    shell_tool unified_exec multi_agent goals view_image image_generation plugins apps sleep_tool skill_search
    browser_use computer_use in_app_browser tool_suggest hooks shell_snapshot unbounded_connection_retries
"""
"""The features of Codex that would do more than our tools."""


def environ(folder: Path, **more: str) -> dict[str, str]:
    """What every CLI gets: a HOME of its own, and nothing of the shell's."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    common = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder / "tmp"), "LANG": "C.UTF-8"}
    return {**common, **more}


def claude(
    version: str, provider: str, folder: Path, agent: Agent | None = None, more: Sequence[str] = (), tools: str = ""
) -> Dialogue:
    """Claude Code for one turn, that is told by `tell_claude`."""
    env = environ(
        folder,
        CLAUDE_CONFIG_DIR=str(folder / ".claude"),
        ANTHROPIC_API_KEY="sk-ant-test",
        ANTHROPIC_BASE_URL=provider,
        CLAUDE_CODE_DISABLE_ATTACHMENTS="1",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_AUTOUPDATER="1",
        DISABLE_TELEMETRY="1",
        DISABLE_ERROR_REPORTING="1",
        CLAUDE_CODE_MAX_RETRIES="2",
        MCP_CONNECTION_NONBLOCKING="0",
        API_TIMEOUT_MS="120000",
        **({"LONGWICK_MCP_URL": agent.url, "LONGWICK_MCP_TOKEN": agent.token} if agent else {}),
    )
    bearer = {"Authorization": "Bearer ${LONGWICK_MCP_TOKEN}"}
    server = {"type": "http", "url": "${LONGWICK_MCP_URL}", "headers": bearer, "alwaysLoad": True}
    served = ["--allowedTools", "mcp__longwick", "--mcp-config", json.dumps({"mcpServers": {"longwick": server}})]
    command = [
        *(str(binaries.claude(version)), "-p", "--verbose", "--include-partial-messages"),
        *("--input-format", "stream-json", "--output-format", "stream-json"),
        *("--tools", tools, "--permission-mode", "dontAsk", "--strict-mcp-config", "--setting-sources="),
        *("--disable-slash-commands", "--system-prompt", "You are a test.", "--model", "claude-sonnet-5"),
        *(served if agent else []),
        *more,
    ]
    return Dialogue(command, env, folder)


def tell_claude(talk: Dialogue, prompt: str) -> Json:
    """One turn; its result."""
    talk.send({"type": "user", "message": {"role": "user", "content": prompt}, "client_composed": True})
    return talk.until(lambda line: line.get("type") == "result", 60, "the result")


def codex(provider: str, folder: Path) -> Dialogue:
    """Codex as an app server, that is told by `call` and `start_thread`."""
    (folder / ".codex").mkdir(parents=True)
    served = f'{{name="test",base_url="{provider}/v1",wire_api="responses",env_key="OPENAI_API_KEY"}}'
    command = [str(binaries.codex()), "app-server", "-c", 'model_provider="test"', "-c", 'web_search="disabled"']
    retries = ["model_providers.test.request_max_retries=2", "model_providers.test.stream_max_retries=2"]
    for setting in (f"model_providers.test={served}", *retries):
        command += ["-c", setting]
    for feature in CODEX_OFF.split():
        command += ["--disable", feature]
    return Dialogue(command, environ(folder, CODEX_HOME=str(folder / ".codex"), OPENAI_API_KEY="sk-test"), folder)


def start_thread(talk: Dialogue, folder: Path, agent: Agent | None = None) -> str:
    """Introduce ourselves to a Codex app server and begin a thread; its id."""
    client = {"name": "longwick", "title": "Longwick", "version": "1"}
    call(talk, "initialize", clientInfo=client, capabilities={"experimentalApi": True})
    talk.send({"method": "initialized"})
    server = (
        {
            "url": agent.url,
            "http_headers": {"Authorization": f"Bearer {agent.token}"},
            "default_tools_approval_mode": "approve",
            "required": True,
        }
        if agent
        else {}
    )
    found = call(
        talk,
        "thread/start",
        cwd=str(folder),
        model="gpt-5",
        modelProvider="test",
        approvalPolicy="never",
        sandbox="read-only",
        baseInstructions="You are a test.",
        ephemeral=True,
        config={f"mcp_servers.longwick.{name}": value for name, value in server.items()},
    )
    thread: str = found["thread"]["id"]
    return thread


def tell_codex(talk: Dialogue, thread: str, prompt: str) -> Json:
    """One turn; its `turn/completed`."""
    call(talk, "turn/start", threadId=thread, input=[{"type": "text", "text": prompt}])
    done = talk.until(lambda line: line.get("method") == "turn/completed", 60, "the end of the turn")
    turn: Json = done["params"]["turn"]
    return turn


def gemini(provider: str, folder: Path, agent: Agent | None = None) -> Dialogue:
    """Gemini CLI for one turn; its prompt is what is written to it until its input is closed."""
    command = [*binaries.gemini(), "--output-format", "stream-json", "--model", "gemini-2.5-flash", "--prompt", ""]
    return Dialogue(command, gemini_environ(provider, folder, agent), folder)


def gemini_environ(provider: str, folder: Path, agent: Agent | None = None) -> dict[str, str]:
    """The environment of Gemini CLI, and the settings file that it cannot do without."""
    server = (
        {"httpUrl": agent.url, "headers": {"Authorization": "Bearer $LONGWICK_MCP_TOKEN"}, "trust": True}
        if agent
        else {}
    )
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False},
        "mcpServers": {"longwick": server} if agent else {},
    }
    (folder / ".gemini").mkdir(parents=True)
    (folder / ".gemini" / "settings.json").write_text(json.dumps(settings))
    return environ(
        folder,
        GEMINI_API_KEY="test",
        GOOGLE_GEMINI_BASE_URL=provider,
        GEMINI_CLI_TRUST_WORKSPACE="true",
        **({"LONGWICK_MCP_TOKEN": agent.token} if agent else {}),
    )


def call(talk: Dialogue, method: str, seconds: float = 30, **params: Any) -> Json:
    """A JSON-RPC request, and its result."""
    number = len(talk.sent)
    talk.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    answer = talk.until(
        lambda line: line.get("id") == number and "method" not in line, seconds, f"the answer to {method}"
    )
    assert "result" in answer, answer
    result: Json = answer["result"]
    return result
