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


CLIENT = {"name": "longwick", "title": "Longwick", "version": "1"}
"""Who we are, where a protocol asks."""


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


def say_to_claude(talk: Dialogue, prompt: str) -> None:
    """A message of the user."""
    talk.send({"type": "user", "message": {"role": "user", "content": prompt}, "client_composed": True})


def tell_claude(talk: Dialogue, prompt: str) -> Json:
    """One turn; its result."""
    say_to_claude(talk, prompt)
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
    call(talk, "initialize", clientInfo=CLIENT, capabilities={"experimentalApi": True})
    talk.send({"method": "initialized"})
    thread: str = answer(talk, ask_thread(talk, folder, agent))["thread"]["id"]
    return thread


def ask_thread(talk: Dialogue, folder: Path, agent: Agent | None = None) -> int:
    """Ask a Codex app server for a thread; the number of the request."""
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
    return ask(
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
        "general": {"enableAutoUpdate": False, "maxAttempts": 2},
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


def ask(talk: Dialogue, method: str, **params: Any) -> int:
    """A JSON-RPC request; its number."""
    number = len(talk.sent)
    talk.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    return number


def answer(talk: Dialogue, number: int) -> Json:
    """The result of a request."""
    said = talk.until(lambda line: line.get("id") == number and "method" not in line, 30, "an answer")
    assert "result" in said, said
    result: Json = said["result"]
    return result


def call(talk: Dialogue, method: str, **params: Any) -> Json:
    """A JSON-RPC request, and its result."""
    return answer(talk, ask(talk, method, **params))


def acp(name: str, provider: str, folder: Path, agent: Agent | None = None) -> Dialogue:
    """An agent that speaks ACP, that is told by `start_session` and `tell_acp`."""
    if name == "gemini":
        return Dialogue([*binaries.acp(name), "--model", "gemini-2.5-flash"], gemini_environ(provider, folder), folder)
    if name == "claude-agent-acp":
        env = environ(
            folder,
            CLAUDE_CONFIG_DIR=str(folder / ".claude"),
            ANTHROPIC_API_KEY="sk-ant-test",
            ANTHROPIC_BASE_URL=provider,
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            CLAUDE_CODE_DISABLE_ATTACHMENTS="1",
            CLAUDE_CODE_MAX_RETRIES="2",
        )
        return Dialogue(binaries.acp(name), env, folder)
    (folder / ".codex").mkdir(parents=True)
    served = f'name = "test"\nbase_url = "{provider}/v1"\nwire_api = "responses"\nenv_key = "OPENAI_API_KEY"\n'
    limits = "request_max_retries = 2\nstream_max_retries = 2\n"
    (folder / ".codex" / "config.toml").write_text(
        f'model = "gpt-5"\nmodel_provider = "test"\n[model_providers.test]\n{served}{limits}'
    )
    return Dialogue(
        binaries.acp(name), environ(folder, CODEX_HOME=str(folder / ".codex"), OPENAI_API_KEY="sk-test"), folder
    )


def start_session(talk: Dialogue, folder: Path, agent: Agent | None = None) -> str:
    """Introduce ourselves to an agent that speaks ACP and begin a session; its id."""
    call(talk, "initialize", protocolVersion=1, clientCapabilities={}, clientInfo=CLIENT)
    bearer = [{"name": "Authorization", "value": f"Bearer {agent.token}"}] if agent else []
    servers = [{"type": "http", "name": "longwick", "url": agent.url, "headers": bearer}] if agent else []
    session: str = call(talk, "session/new", cwd=str(folder), mcpServers=servers)["sessionId"]
    return session


def ask_acp(talk: Dialogue, session: str, prompt: str) -> int:
    """Begin a turn; the number of the request."""
    return ask(talk, "session/prompt", sessionId=session, prompt=[{"type": "text", "text": prompt}])


def tell_acp(talk: Dialogue, session: str, prompt: str, leave: str = "allow_once") -> Json:
    """One turn, in which every question for leave is answered so; its result or its error."""
    number = ask_acp(talk, session, prompt)
    while True:
        said = talk.until(lambda line: "id" in line, 60, "the end of the turn")
        if said.get("method") == "session/request_permission":
            options = said["params"]["options"]
            chosen = next(option["optionId"] for option in options if option["kind"] == leave)
            outcome = {"outcome": {"outcome": "selected", "optionId": chosen}}
            talk.send({"jsonrpc": "2.0", "id": said["id"], "result": outcome})
        elif said["id"] == number and "method" not in said:
            return said
