"""What can go wrong with agents that speak ACP, tried with real ones."""

import json

import pytest
from real_agents import RealAgents
from stack import check_whole

AGENTS = ("gemini", "claude-acp", "codex-acp")
COMMANDS = {"gemini": "/memory show", "claude-acp": "/context", "codex-acp": "/compact"}


@pytest.mark.parametrize("agent", AGENTS)
def test_what_would_be_a_command_is_text(agent: str, real: RealAgents) -> None:
    run = real.stack.settled(real.stack.run(COMMANDS[agent], agent=agent), 60)
    assert (run["status"], run["output_text"].strip()) == ("succeeded", COMMANDS[agent])


@pytest.mark.parametrize("agent", AGENTS)
def test_a_key_that_the_provider_refuses_is_said_to_be_refused(agent: str, real: RealAgents) -> None:
    run = real.stack.settled(real.stack.run("fail 401", agent=agent), 60)
    assert run["error"]["code"] == "provider_error"
    assert "refuses the key" in run["error"]["message"]
    assert "API Error" not in (run["output_text"] or "")
    check_whole(real.stack.log_of(run))


def test_without_a_key_it_says_how_to_give_one(real: RealAgents) -> None:
    run = real.stack.settled(real.stack.run("text Hello", agent="keyless"), 60)
    assert run["error"]["code"] == "agent_unavailable"
    assert "pass_env" in run["error"]["message"]


def test_no_token_is_shown_or_sent_to_a_model(real: RealAgents) -> None:
    before = len(real.provider("claude-acp").asked)
    run = real.stack.settled(real.stack.run("tools", agent="claude-acp"), 60)
    assert "mcp__longwick__save_artifact" in json.loads(run["output_text"])
    assert "Bearer" not in json.dumps([request.body for request in real.provider("claude-acp").asked[before:]])
