"""`make recordings`: run each real CLI in each scenario and keep what it says, for tests/recordings.py to read."""

import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import binaries
import clis
from dialogue import Dialogue, Json
from mcp_agent import Agent, served, start_run
from providers.anthropic import Anthropic
from providers.gemini import Gemini
from providers.openai import OpenAI
from providers.serving import Provider
from recordings import FOLDER, keep

from longwick.database import Database
from longwick.schema import upgrade
from longwick.settings import Settings
from longwick.valkey import Valkey
from mcp_server.app import create_app

ARTIFACTS = '{"name": "a.txt"} {"name": "b.txt"}'
EVERYWHERE = {
    "text": "say 5",
    "thinking": "think 4; say 3",
    "tool": "text Saving.; save report.md; text Saved.",
    "two_tools": f"two save_artifact {ARTIFACTS}; text Both are saved.",
    "unknown_tool": 'tool Nothing {"a": 1}; text There is no such tool.',
    "failed_tool": 'tool save_artifact {"name": "../x", "content": ""}; text It was refused.',
    "retry": "fail 503 1; say 2",
    "unauthorized": "fail 401",
    "rate_limited": "fail 429",
    "server_error": "fail 500",
    "broken_in_stream": "say 2; fail 500",
    "cut": "say 3; cut",
    "refusal": "say 1; refuse",
    "limit": "say 3; limit",
    "interrupt": "think 1; say 3; stall",
    "mcp_down": "say 2",
    "long_text": "big 4000",
}
"""Scenario -> prompt, for every CLI."""


@dataclass(frozen=True)
class Scene:
    """What a scenario is played with."""

    scenario: str
    prompt: str
    provider: str
    folder: Path
    agent: Agent


Play = Callable[[Scene], Dialogue]
"""Plays a scene to its end."""


def claude(version: str) -> tuple[dict[str, str], Play]:
    schema = '{"type": "object", "properties": {"answer": {"type": "number"}}, "required": ["answer"]}'
    bash = 'tool Bash {"command": "touch made.txt", "description": "Make a file"}; text So it was.'
    look = '"description": "Look", "prompt": "say 2", "subagent_type": "general-purpose", "run_in_background"'
    more: dict[str, tuple[str, list[str], str]] = {
        "max_turns": ("save a.txt; save b.txt; text Both.", ["--max-turns", "1"], ""),
        "budget": ("usage 1000000 100000; save a.txt; text Saved.", ["--max-budget-usd", "0.01"], ""),
        "structured": ('tool StructuredOutput {"answer": 42}; text Done.', ["--json-schema", schema], ""),
        "sub_agent": (f"tool Agent {{{look}: false}}; text Looked.", ["--allowedTools", "Agent"], "Agent"),
        "background_agent": (f"tool Agent {{{look}: true}}; text Looking.", ["--allowedTools", "Agent"], "Agent"),
        "coding_tool": (bash, ["--allowedTools", "Bash"], "Bash"),
        "allowed": (bash, ["--permission-mode", "default", "--permission-prompt-tool", "stdio"], "Bash"),
        "denied": (bash, ["--permission-mode", "default", "--permission-prompt-tool", "stdio"], "Bash"),
    }

    def play(scene: Scene) -> Dialogue:
        _, options, tools = more.get(scene.scenario, ("", [], ""))
        with clis.claude(version, scene.provider, scene.folder, scene.agent, options, tools) as talk:
            clis.say_to_claude(talk, scene.prompt)
            if scene.scenario == "interrupt":
                talk.until(lambda line: "text_delta" in str(line) and "w2 " in str(line))
                talk.send({"type": "control_request", "request_id": "r1", "request": {"subtype": "interrupt"}})
            if scene.scenario in ("allowed", "denied"):
                asked = talk.until(lambda line: line.get("type") == "control_request")
                answer: Json = {"behavior": "allow", "updatedInput": asked["request"]["input"]}
                if scene.scenario == "denied":
                    answer = {"behavior": "deny", "message": "Not today."}
                response = {"subtype": "success", "request_id": asked["request_id"], "response": answer}
                talk.send({"type": "control_response", "response": response})
            talk.until(lambda line: line.get("type") == "result", 60, "the result")
        return talk

    return {name: prompt for name, (prompt, _, _) in more.items()}, play


def codex() -> tuple[dict[str, str], Play]:
    def play(scene: Scene) -> Dialogue:
        with clis.codex(scene.provider, scene.folder) as talk:
            if scene.scenario == "mcp_down":
                clis.ask(talk, "initialize", clientInfo=clis.CLIENT, capabilities={"experimentalApi": True})
                number = clis.ask_thread(talk, scene.folder, scene.agent)
                talk.until(lambda line: line.get("id") == number)
                return talk
            thread = clis.start_thread(talk, scene.folder, scene.agent)
            asked = clis.ask(talk, "turn/start", threadId=thread, input=[{"type": "text", "text": scene.prompt}])
            turn = talk.until(lambda line: line.get("id") == asked)["result"]["turn"]["id"]
            if scene.scenario in ("interrupt", "steer"):
                talk.until(lambda line: line.get("params", {}).get("delta") == "w2 ")
            if scene.scenario == "interrupt":
                clis.ask(talk, "turn/interrupt", threadId=thread, turnId=turn)
            if scene.scenario == "steer":
                words = [{"type": "text", "text": "text I was steered."}]
                clis.ask(talk, "turn/steer", threadId=thread, input=words, expectedTurnId=turn)
            talk.until(lambda line: line.get("method") == "turn/completed", 60, "the end of the turn")
        return talk

    return {"steer": "say 3; wait 0.5; text Unsteered."}, play


SHELLS = {
    "gemini": 'run_shell_command {"command": "touch made.txt", "description": "Make a file"}',
    "claude-agent-acp": 'Bash {"command": "touch made.txt", "description": "Make a file"}',
    "codex-acp": 'exec_command {"cmd": "touch made.txt", "sandbox_permissions": "require_escalated",'
    ' "justification": "May I make a file?"}',
}
"""How each of the agents that speak ACP is made to use its shell."""


def acp(name: str) -> tuple[dict[str, str], Play]:
    def play(scene: Scene) -> Dialogue:
        with clis.acp(name, scene.provider, scene.folder) as talk:
            session = clis.start_session(talk, scene.folder, scene.agent)
            leave = "reject_once" if scene.scenario.startswith("denied") else "allow_once"
            if scene.scenario == "interrupt":
                number = clis.ask_acp(talk, session, scene.prompt)
                talk.until(lambda line: "w2 " in str(line) and "message_chunk" in str(line))
                talk.send({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": session}})
                talk.until(lambda line: line.get("id") == number and "method" not in line)
            else:
                clis.tell_acp(talk, session, scene.prompt, leave)
        return talk

    shell = f"tool {SHELLS[name]}; text So it was."
    return {"denied": "save report.md; text It was not allowed.", "shell": shell, "denied_shell": shell}, play


CLIS: Mapping[str, tuple[type[Provider], tuple[dict[str, str], Play]]] = {
    "claude-2.1.197": (Anthropic, claude("2.1.197")),
    "claude-2.1.330": (Anthropic, claude("2.1.330")),
    "codex-0.169.0": (OpenAI, codex()),
    "gemini-0.61.0": (Gemini, acp("gemini")),
    "claude-agent-acp-0.49.0": (Anthropic, acp("claude-agent-acp")),
    "codex-acp-0.16.0": (OpenAI, acp("codex-acp")),
}


@contextmanager
def tools() -> Iterator[Callable[[], Agent]]:
    """Our MCP server; gives each scene a run of its own."""
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="recording-")))
        url = f"sqlite:///{folder / 'record.db'}"
        valkey = ending.enter_context(Valkey(folder / "valkey"))
        settings = Settings.from_environ({}, data_dir=folder / "data", database_url=url, redis_url=valkey.url)
        database = Database(url)
        ending.callback(database.dispose)
        upgrade(database)
        server = ending.enter_context(served(create_app(settings)))
        yield lambda: start_run(database, server)


def main(wanted: list[str]) -> None:
    """Record the scenarios whose `cli/scenario` has one of the wanted words in it; all, where there is none."""
    logging.disable(logging.WARNING)
    with tools() as agent_of_a_run:
        for cli, (provider_kind, (special, play)) in CLIS.items():
            for scenario, prompt in (EVERYWHERE | special).items():
                name = f"{cli}/{scenario}"
                if wanted and not any(word in name for word in wanted):
                    continue
                with tempfile.TemporaryDirectory(prefix="cli-") as folder, provider_kind() as provider:
                    agent = agent_of_a_run()
                    if scenario == "mcp_down":
                        agent = replace(agent, url="http://127.0.0.1:1/mcp")
                    scene = Scene(scenario, prompt, provider.url, Path(folder), agent)
                    known = {folder: "/folder", agent.token: "TOKEN", str(binaries.MODULES): "/node_modules"}
                    try:
                        keep(play(scene), cli, scenario, known)
                        print(f"{name} is kept")
                    except AssertionError as error:
                        print(f"{name} failed: {str(error)[-1000:]}")
    size = sum(path.stat().st_size for path in FOLDER.rglob("*.jsonl"))
    print(f"{size / 2**20:.2f} MB in all")


if __name__ == "__main__":
    main(sys.argv[1:])
