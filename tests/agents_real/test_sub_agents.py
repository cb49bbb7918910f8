"""Sub-agents of Claude Code: their work is part of the turn that has started them."""

import json

import pytest
from real_agents import RealAgents
from stack import check_whole

LOOK = {
    "description": "Look",
    "prompt": 'wait 1; tool Glob {"pattern": "*"}; text Seen.',
    "subagent_type": "general-purpose",
}


@pytest.mark.parametrize("agent", ["claude-old-coder", "claude-coder"])
def test_a_sub_agent_is_waited_for(agent: str, real: RealAgents) -> None:
    run = real.stack.settled(real.stack.run(f"tool Agent {json.dumps(LOOK)}; text Looked.", agent=agent), 60)
    assert (run["status"], run["output_text"]) == ("succeeded", "Looked."), run["error"]
    log = real.stack.log_of(run)
    check_whole(log)
    started = [event["data"] for event in log if event["type"] == "tool.started"]
    assert [("parent_tool_call_id" in data) for data in started] == [False, True], started
    completed = [event["data"] for event in log if event["type"] == "tool.completed"]
    assert "Seen." in str(completed[-1]["output"])
