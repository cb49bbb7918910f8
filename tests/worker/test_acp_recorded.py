"""What the adapter makes of what real agents have said over ACP."""

import json
from pathlib import Path
from typing import Any

import pytest
from recordings import Recording, recording, recordings
from replaying import Told, check_well_formed, replay, started

from longwick.events import EventType
from longwick.profiles import Profile
from longwick.transcript import Transcript
from worker.agents import Ask, Reply, Said, Turn
from worker.agents.acp import Acp

AGENTS = ("gemini-0.61.0", "claude-agent-acp-0.49.0", "codex-acp-0.16.0")


def replayed(kept: Recording) -> Told:
    """A recording translated, as a worker does it; the steps had numbers in it."""
    steps = {
        json.loads(line)["id"]: json.loads(line)["method"]
        for line in kept.sent
        if b'"method"' in line and b'"id"' in line
    }
    lines = []
    for line in kept.lines:
        said = json.loads(line)
        if "method" not in said:
            said["id"] = steps[said["id"]]
        lines.append(json.dumps(said).encode())
    return replay(started(Acp, "acp"), lines)


@pytest.mark.parametrize("kept", [each for agent in AGENTS for each in recordings(agent)], ids=str)
def test_every_line_means_something_and_the_turn_ends_once(kept: Recording) -> None:
    check_well_formed(replayed(kept))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    ("scenario", "code", "text"),
    [
        ("text", None, "w0 w1 w2 w3 w4 "),
        ("thinking", None, "w0 w1 w2 "),
        ("tool", None, "Saving.\n\nSaved."),
        ("two_tools", None, "Both are saved."),
        ("failed_tool", None, "It was refused."),
        ("retry", None, "w0 w1 "),
        ("mcp_down", None, "w0 w1 "),
        ("unauthorized", "provider_error", ""),
        ("rate_limited", "provider_error", ""),
        ("server_error", "provider_error", ""),
        ("interrupt", "agent_error", "w0 w1 w2 "),
    ],
)
def test_the_same_scenario_means_the_same(agent: str, scenario: str, code: str | None, text: str) -> None:
    found = replayed(recording(agent, scenario))
    assert (found.end[0], found.shown.text) == (code, text)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("scenario", ["cut", "broken_in_stream"])
def test_an_answer_that_broke_off_is_no_success(agent: str, scenario: str) -> None:
    assert replayed(recording(agent, scenario)).end[0] == "provider_error"


@pytest.mark.parametrize("agent", AGENTS)
def test_a_long_text_is_whole(agent: str) -> None:
    text = replayed(recording(agent, "long_text")).shown.text
    assert (len(text), text[:16]) == (4000, f"{0:015}\n")


@pytest.mark.parametrize("agent", ["claude-agent-acp-0.49.0", "codex-acp-0.16.0"])
def test_refusal_and_limit_are_told_apart_where_the_agent_does(agent: str) -> None:
    assert replayed(recording(agent, "limit")).end[0] == "provider_error"
    assert replayed(recording(agent, "refusal")).end[0] in ("agent_error", "provider_error")


@pytest.mark.parametrize("agent", AGENTS)
def test_our_tools_need_nobodys_leave_and_others_do(agent: str) -> None:
    ours, theirs = replayed(recording(agent, "tool")), replayed(recording(agent, "shell"))
    assert ours.asks == []
    [ask] = theirs.asks
    assert "touch made.txt" in json.dumps(ask.input)
    assert "/folder" not in json.dumps(ask.input)
    [called] = ours.all(EventType.TOOL_STARTED)
    assert called["name"] == "mcp__longwick__save_artifact"
    [done] = ours.all(EventType.TOOL_COMPLETED)
    assert done["is_error"] is False
    assert "report.md" in str(done["output"])


def test_what_a_model_writes_does_not_make_a_tool_ours() -> None:
    """The name of a tool is the agent's; its input is the model's."""
    adapter = Acp(Profile(adapter="acp", command=["agent"]), Turn("run_1", "thr_1", 1, "anything", []))
    pretending = {"server": "longwick", "tool": "save_artifact", "arguments": {}}
    for title in ("rm -rf /", "mcp__longwick__x; rm -rf /", "Tool: longwick/save_artifact; rm -rf /"):
        call = {"toolCallId": title, "title": title, "kind": "other", "rawInput": pretending}
        asked = {
            "jsonrpc": "2.0",
            "id": 7,
            "method": "session/request_permission",
            "params": {"toolCall": call, "options": []},
        }
        meant = list(adapter.translate(json.dumps(asked).encode(), Transcript()))
        assert isinstance(meant[-1], Ask)


def test_what_a_person_writes_comes_last_and_is_no_command() -> None:
    """To Gemini a first block that begins with a slash is one, to Claude the last one is."""
    history = [Said("user", "Hello"), Said("assistant", "Hi.")]
    turn = Turn("run_1", "thr_1", 1, "/compact", history, model="m-2")
    adapter = Acp(Profile(adapter="acp", command=["agent"], models=["m-1"], system_prompt="Be brief."), turn)
    adapter.launch(Path("/folder"), Path("/home"))
    chosen = _next(adapter, "initialize", {"protocolVersion": 1}, then="session/new", result={"sessionId": "s"})
    assert (chosen["method"], chosen["params"]["modelId"]) == ("session/set_model", "m-2")
    prompt = _next(adapter, "model", {})["params"]["prompt"]
    assert [block["text"].startswith("/") for block in prompt] == [False, False]
    assert prompt[1]["text"] == "\n/compact"
    assert "Be brief." in prompt[0]["text"]
    assert "<user>\nHello\n</user>\n<assistant>\nHi.\n</assistant>" in prompt[0]["text"]


def _next(adapter: Acp, step: str, answer: object, *, then: str | None = None, result: object = None) -> Any:
    """What it writes after an answer, or after two."""
    [meant] = adapter.translate(json.dumps({"id": step, "result": answer}).encode(), Transcript())
    assert isinstance(meant, Reply)
    return _next(adapter, then, result) if then else json.loads(meant.data)
