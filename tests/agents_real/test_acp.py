"""What can go wrong with agents that speak ACP, tried with real ones."""

import json

import pytest
from real_agents import BASH, SHELLS, RealAgents
from stack import check_whole
from waiting import wait_for

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


@pytest.mark.parametrize("agent", AGENTS)
def test_leave_that_comes_when_the_agent_is_gone_is_used_by_the_next(agent: str, real: RealAgents) -> None:
    stack = real.stack
    run = stack.run(f"text Asking.; tool {SHELLS.get(agent, BASH)}; text Told.", agent=agent)
    wait_for(lambda: stack.status(run) == "waiting", 40, "the run to be parked")
    [asked] = [each for each in stack.get("/approvals?status=pending")["data"] if each["run_id"] == run["id"]]
    stack.post(f"/approvals/{asked['id']}", {"decision": "allow"}, 200)
    ended = stack.settled(run, 60)
    assert (ended["status"], ended["output_text"].split()) == ("succeeded", ["Asking.", "Told."]), ended["error"]
    log = stack.log_of(run)
    check_whole(log)
    assert [event["type"] for event in log].count("approval.requested") == 1
    assert [event["data"]["is_error"] for event in log if event["type"] == "tool.completed"][-1] is False
