"""What the adapter for ACP makes of what real agents have said, what it writes, and whom it trusts."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recordings import Recording, recording, recordings
from replaying import Told, check_well_formed, replay, started

from longwick.approvals import Decision
from longwick.events import EventType
from longwick.profiles import Profile
from longwick.transcript import Transcript
from worker.agents import Ask, End, Meant, Picture, Reply, Said, Turn
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


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("rm -rf /", "other"),
        ("mcp__longwick__x; rm -rf /", "other"),
        ("Tool: longwick/save_artifact; rm -rf /", "other"),
        ("save_artifact (longwick MCP Server)", "execute"),
    ],
)
def test_what_a_model_writes_does_not_make_a_tool_ours(title: str, kind: str) -> None:
    """The name of a tool is the agent's; its input and its description are the model's."""
    pretending = {"server": "longwick", "tool": "save_artifact", "arguments": {}}
    asked = _asks_leave({"toolCallId": "call", "title": title, "kind": kind, "rawInput": pretending})
    assert isinstance(_translated(_adapter(), asked)[-1], Ask)


def test_leave_is_given_once_where_it_can_be_and_a_denial_is_one() -> None:
    adapter = _adapter()
    [*_, ask] = _translated(adapter, _asks_leave({"toolCallId": "call", "title": "touch x", "kind": "execute"}))
    assert isinstance(ask, Ask)
    decision = Decision("apr_1", ask.tool, ask.input, allowed=True)
    assert _chosen(adapter.answer(ask, decision)) == "once"
    [*_, ask] = _translated(adapter, _asks_leave({"toolCallId": "more", "title": "touch y", "kind": "execute"}))
    assert isinstance(ask, Ask)
    assert _chosen(adapter.answer(ask, replace(decision, allowed=False))) == "no"
    assert adapter.answer(ask, decision) == b""


def test_who_waits_for_leave_is_told_that_the_turn_is_over() -> None:
    adapter = _adapter()
    assert adapter.interrupt() == b""
    _translated(adapter, {"id": "session/new", "result": {"sessionId": "s"}})
    _translated(adapter, _asks_leave({"toolCallId": "call", "title": "touch x", "kind": "execute"}))
    cancel, answer = map(json.loads, adapter.interrupt().splitlines())
    assert (cancel["method"], cancel["params"]) == ("session/cancel", {"sessionId": "s"})
    assert answer["result"] == {"outcome": {"outcome": "cancelled"}}


def test_what_we_do_not_offer_is_refused() -> None:
    [meant] = _translated(_adapter(), {"id": 3, "method": "fs/read_text_file", "params": {"path": "/etc/passwd"}})
    assert isinstance(meant, Reply)
    assert json.loads(meant.data)["error"]["code"] == -32601


def test_it_logs_in_by_the_way_that_is_called_like_its_variable() -> None:
    ways = [{"id": "oauth-personal"}, {"id": "gemini-api-key"}]
    barred = {"id": "session/new", "error": {"code": -32000, "message": "Authentication required"}}
    adapter = _adapter(env={"GEMINI_API_KEY": "key"})
    _translated(adapter, {"id": "initialize", "result": {"authMethods": ways}})
    [login] = _translated(adapter, barred)
    assert isinstance(login, Reply)
    assert json.loads(login.data)["params"] == {"methodId": "gemini-api-key"}
    [again] = _translated(adapter, {"id": "authenticate", "result": {}})
    assert isinstance(again, Reply)
    assert json.loads(again.data)["method"] == "session/new"
    [end] = _translated(adapter, barred)
    assert isinstance(end, End)
    assert end.error_code == "agent_unavailable"


@pytest.mark.parametrize("offers", [{"mcpCapabilities": {"http": True}}, {"mcpCapabilities": {}}, {}])
def test_without_our_tools_no_turn_begins(offers: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    adapter = _adapter(mcp_url=f"http://127.0.0.1:{port}/mcp", mcp_token="token")
    [end] = _translated(adapter, {"id": "initialize", "result": {"agentCapabilities": offers}})
    assert isinstance(end, End)
    assert (end.error_code, end.kill) == ("mcp_unavailable", True)


@pytest.mark.parametrize("sees", [True, False])
def test_an_agent_that_takes_no_images_is_given_none_and_it_is_said(sees: bool) -> None:
    adapter = _adapter(pictures=[Picture("dot.png", "image/png", b"png")])
    offers = {"agentCapabilities": {"promptCapabilities": {"image": sees}}}
    _translated(adapter, {"id": "initialize", "result": offers})
    *notices, prompt = _translated(adapter, {"id": "session/new", "result": {"sessionId": "s"}})
    assert isinstance(prompt, Reply)
    assert (b'"image/png"' in prompt.data) is sees
    assert len(notices) == (0 if sees else 1)


def test_the_token_is_given_to_the_agent_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        adapter = _adapter(mcp_url=url, mcp_token="token")
        offers = {"agentCapabilities": {"mcpCapabilities": {"http": True}}}
        [meant] = _translated(adapter, {"id": "initialize", "result": offers})
    assert isinstance(meant, Reply)
    [server] = json.loads(meant.data)["params"]["mcpServers"]
    assert server["headers"] == [{"name": "Authorization", "value": "Bearer token"}]
    [prompt] = _translated(adapter, {"id": "session/new", "result": {"sessionId": "s"}})
    assert isinstance(prompt, Reply)
    assert b"token" not in prompt.data


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


def _adapter(env: dict[str, str] | None = None, **turn: Any) -> Acp:
    profile = Profile(adapter="acp", command=["agent"], env=env or {})
    adapter = Acp(profile, Turn("run_1", "thr_1", 1, "anything", [], **turn))
    adapter.launch(Path("/folder"), Path("/home"))
    return adapter


def _translated(adapter: Acp, said: dict[str, Any]) -> list[Meant]:
    return list(adapter.translate(json.dumps(said).encode(), Transcript()))


def _asks_leave(call: dict[str, Any]) -> dict[str, Any]:
    kinds = {"always": "allow_always", "once": "allow_once", "no": "reject_once"}
    options = [{"optionId": option, "kind": kind, "name": option} for option, kind in kinds.items()]
    return {"id": 7, "method": "session/request_permission", "params": {"toolCall": call, "options": options}}


def _chosen(answer: bytes) -> str:
    chosen: str = json.loads(answer)["result"]["outcome"]["optionId"]
    return chosen
