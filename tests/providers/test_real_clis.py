"""The real CLIs understand what the providers of the tests say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import binaries
import clis
import pytest
from mcp_agent import Agent, served, start_run
from providers.anthropic import Anthropic
from providers.gemini import Gemini
from providers.openai import OpenAI

from longwick import artifacts
from longwick.database import Database
from longwick.settings import Settings
from mcp_server.app import create_app

PROMPT = "think 2; say 2 0.01; save report.md; text Saved it."


@pytest.fixture
def engine_name() -> str:
    """No CLI knows which record is behind its tools."""
    return "sqlite"


@pytest.fixture
def agent(settings: Settings, database: Database) -> Iterator[Agent]:
    with served(create_app(settings)) as url:
        yield start_run(database, url)


def saved(database: Database, agent: Agent) -> list[str]:
    """The names of what the agent has saved."""
    return [row.name for row in database.read(lambda db: artifacts.newest_of_thread(db, agent.thread_id))]


@pytest.mark.parametrize("version", binaries.CLAUDES)
def test_claude_code_thinks_speaks_and_saves(version: str, agent: Agent, database: Database, tmp_path: Path) -> None:
    with Anthropic() as provider, clis.claude(version, provider.url, tmp_path, agent) as talk:
        result = clis.tell_claude(talk, PROMPT)
    assert (result["is_error"], result["result"]) == (False, "Saved it.")
    blocks = [line["message"]["content"][0] for line in talk.messages if line["type"] == "assistant"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "text"]
    assert blocks[0]["thinking"] == blocks[1]["text"] == "w0 w1 "
    assert saved(database, agent) == ["report.md"]
    assert [request.ended for request in provider.asked] == ["answered", "answered"]


def test_codex_thinks_speaks_and_saves(agent: Agent, database: Database, tmp_path: Path) -> None:
    with OpenAI() as provider, clis.codex(provider.url, tmp_path) as talk:
        turn = clis.tell_codex(talk, clis.start_thread(talk, tmp_path, agent), PROMPT)
    assert (turn["status"], turn["error"]) == ("completed", None)
    items = [line["params"]["item"] for line in talk.messages if line.get("method") == "item/completed"]
    kinds = [item["type"] for item in items]
    assert kinds == ["userMessage", "reasoning", "agentMessage", "mcpToolCall", "agentMessage"]
    assert (items[1]["summary"], items[2]["text"], items[4]["text"]) == (["w0 w1 "], "w0 w1 ", "Saved it.")
    assert saved(database, agent) == ["report.md"]


def test_gemini_cli_speaks_and_saves(agent: Agent, database: Database, tmp_path: Path) -> None:
    with Gemini() as provider, clis.gemini(provider.url, tmp_path, agent) as talk:
        talk.write(PROMPT.encode())
        talk.close_input()
        assert talk.wait() == 0, talk.errors
    said = "".join(line["content"] for line in talk.messages if line.get("role") == "assistant")
    assert said == "w0 w1 Saved it."
    assert talk.messages[-1]["status"] == "success"
    assert saved(database, agent) == ["report.md"]


def test_the_provider_keeps_what_the_cli_asked(agent: Agent, tmp_path: Path) -> None:
    with Anthropic() as provider, clis.claude(binaries.CLAUDE_NEW, provider.url, tmp_path, agent) as talk:
        told: Any = json.loads(clis.tell_claude(talk, "tools")["result"])
    assert "mcp__longwick__save_artifact" in told
    assert provider.asked[0].headers["x-api-key"] == "sk-ant-test"
    assert provider.asked[0].body["messages"][0] == {"role": "user", "content": "tools"}
