"""What docs/agents.md says that works with each agent, tried with its real CLI."""

import contextlib
import json
import signal
from typing import Any

import binaries
import psutil
import pytest
from real_agents import BASH, SHELLS, RealAgents
from stack import Json, Stack, check_whole
from waiting import wait_for

from longwick.profiles import CAPABILITIES

AGENTS = {
    "claude-old": "claude",
    "claude": "claude",
    "codex": "codex",
    "gemini": "acp",
    "codex-acp": "acp",
}
CLAUDES = {"claude-old": binaries.CLAUDE_OLD, "claude": binaries.CLAUDE_NEW}
TRIED = [(agent, able) for agent, adapter in AGENTS.items() for able in CAPABILITIES[adapter]]


@pytest.mark.parametrize(("agent", "able"), TRIED, ids=[f"{agent}-{able}" for agent, able in TRIED])
def test_what_an_agent_is_said_to_be_able_to_do_it_does(agent: str, able: str, real: RealAgents) -> None:
    globals()[f"_{able}"](real, agent)


def test_every_capability_is_tried() -> None:
    missing = {able for ables in CAPABILITIES.values() for able in ables if f"_{able}" not in globals()}
    assert missing == set()


def done(stack: Stack, text: str, agent: str, **more: Any) -> Json:
    run = stack.settled(stack.run(text, agent=agent, **more), 60)
    check_whole(stack.log_of(run))
    return run


def of_type(stack: Stack, run: Json, kind: str) -> list[Json]:
    return [event["data"] for event in stack.log_of(run) if event["type"] == kind]


def wait_for_text(stack: Stack, run: Json, text: str) -> None:
    wait_for(lambda: text in stack.text_of(run), 30, f"{text!r} in the answer")


def _text(real: RealAgents, agent: str) -> None:
    run = done(real.stack, "say 5 0.01", agent)
    assert (run["error"], run["output_text"]) == (None, "w0 w1 w2 w3 w4 ")
    if AGENTS[agent] == "acp":
        return
    started = of_type(real.stack, run, "run.started")[0]
    assert started["cli_version"]
    assert started["model"] == ("gpt-5" if agent == "codex" else "claude-sonnet-5")


def _thinking(real: RealAgents, agent: str) -> None:
    run = done(real.stack, "think 3; text Done.", agent)
    [thought] = of_type(real.stack, run, "reasoning.completed")
    assert " ".join(thought["text"].replace("**Thought**", "").split()) == "w0 w1 w2"
    assert run["output_text"] == "Done."


def _tools(real: RealAgents, agent: str) -> None:
    run = done(real.stack, "text Looking.; tool list_artifacts {}; text Seen.", agent)
    assert [data["name"] for data in of_type(real.stack, run, "tool.started")] == ["mcp__longwick__list_artifacts"]
    assert [data["is_error"] for data in of_type(real.stack, run, "tool.completed")] == [False]
    assert run["output_text"] == "Looking.\n\nSeen."
    if AGENTS[agent] == "acp":
        return
    offered = real.provider(agent).asked[-1].body["tools"]
    names = json.dumps(offered)
    assert "Bash" not in names
    assert '"shell"' not in names


def _artifacts(real: RealAgents, agent: str) -> None:
    run = done(real.stack, "save a.txt; save b.txt; text Saved.", agent)
    files = real.stack.get(f"/runs/{run['id']}/artifacts")["data"]
    assert sorted(file["name"] for file in files) == ["a.txt", "b.txt"]
    if agent in ("gemini", "codex-acp"):
        # They do not tell our server which call it is.
        return
    calls = {data["tool_call_id"] for data in of_type(real.stack, run, "tool.started")}
    assert {data["tool_call_id"] for data in of_type(real.stack, run, "artifact.saved")} == calls


def _history(real: RealAgents, agent: str) -> None:
    first = done(real.stack, "text My name is Ada.", "demo")
    second = done(real.stack, "text I know.", agent, thread=first["thread_id"])
    third = done(real.stack, "history", agent, thread=first["thread_id"])
    if AGENTS[agent] == "acp":
        asked = json.dumps(real.provider(agent).asked[-1].body)
        assert all(words in asked for words in ("My name is Ada.", "text I know.", "assistant"))
        return
    said = json.loads(third["output_text"])
    assert said == [
        *(["user", "text My name is Ada."], ["assistant", first["output_text"]]),
        *(["user", "text I know."], ["assistant", second["output_text"]]),
    ]


def _interrupt(real: RealAgents, agent: str) -> None:
    stack = real.stack
    run = stack.run("say 3; stall", agent=agent)
    wait_for_text(stack, run, "w2")
    stack.post(f"/runs/{run['id']}/cancel")
    ended = stack.settled(run, 20)
    assert (ended["status"], ended["output_text"].split()) == ("cancelled", ["w0", "w1", "w2"])
    check_whole(stack.log_of(run))


def _steer(real: RealAgents, agent: str) -> None:
    stack = real.stack
    gate = stack.data_dir / f"{agent}-steered"
    run = stack.run(f"say 3; until {gate}; text Unsteered.", agent=agent)
    wait_for_text(stack, run, "w2")
    told = stack.post(f"/runs/{run['id']}/input", {"input": "text Steered."})
    gate.touch()
    ended = stack.settled(run, 30)
    assert "Steered." in ended["output_text"].split("Unsteered.")[-1]
    assert [data["message_id"] for data in of_type(stack, run, "input.delivered")] == [told["message_id"]]
    check_whole(stack.log_of(run))


def _cost(real: RealAgents, agent: str) -> None:
    run = done(real.stack, "usage 1000 2000; text Dear.", agent)
    assert run["cost_usd"] > 0
    assert run["usage"]["output_tokens"] >= 2000
    ended = done(real.stack, "usage 1000 2000; text Dear.; save a.txt; text More.", agent, max_cost_usd=0.000001)
    assert ended["error"]["code"] == "budget_exceeded"


def _images(real: RealAgents, agent: str) -> None:
    stack = real.stack
    thread = stack.post("/threads", {}, 201)["id"]
    png = b"\x89PNG\r\n\x1a\n" + bytes.fromhex(
        "0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
        "0000000049454e44ae426082"
    )
    sent = stack.http.post(f"/threads/{thread}/files", files={"file": ("dot.png", png, "image/png")})
    assert sent.status_code == 201, sent.text
    run = done(stack, "images", agent, thread=thread)
    assert [media_type for media_type, _ in json.loads(run["output_text"])] == ["image/png"]
    assert json.loads(done(stack, "images", agent, thread=thread)["output_text"]) == []


def _approvals(real: RealAgents, agent: str) -> None:
    stack, coder = real.stack, agent if AGENTS[agent] == "acp" else f"{agent}-coder"
    call = f"tool {SHELLS.get(agent, BASH)}"
    for decision in ("allow", "deny"):
        run = stack.run(f"text Asking.; {call}; text Told.", agent=coder)
        asked = _asked(stack, run)
        assert "artifacts.txt" in json.dumps(asked["input"])
        stack.post(f"/approvals/{asked['id']}", {"decision": decision}, 200)
        ended = stack.settled(run, 30)
        if (agent, decision) == ("codex-acp", "deny"):
            assert "not allowed" in ended["error"]["message"]
        else:
            assert (ended["status"], ended["output_text"]) == ("succeeded", "Asking.\n\nTold.")
        assert [data["is_error"] for data in of_type(stack, run, "tool.completed")] == [decision == "deny"]
        check_whole(stack.log_of(run))


def _asked(stack: Stack, run: Json) -> Json:
    """What a run waits to be allowed."""

    def pending() -> list[Json]:
        return [each for each in stack.get("/approvals?status=pending")["data"] if each["run_id"] == run["id"]]

    return wait_for(pending, 30, "the agent to ask")[0]


def _resume(real: RealAgents, agent: str) -> None:
    stack = real.stack
    run = stack.run("text Before.; save a.txt; say 40 0.1", agent=agent, on_worker_lost="retry")
    wait_for_text(stack, run, "w3")
    stack.kill("worker", signal.SIGKILL)
    ended = stack.settled(run, 60)
    words = " ".join(f"w{number}" for number in range(40))
    assert ended["status"] == "succeeded", ended["error"]
    assert ended["output_text"].split("\n\n")[0] == "Before."
    assert " ".join(ended["output_text"].split()[1:]) == words
    assert [file["version"] for file in stack.get(f"/runs/{run['id']}/artifacts")["data"]] == [1]
    check_whole(stack.log_of(run))


def _warm(real: RealAgents, agent: str) -> None:
    stack = real.stack
    done(stack, "text Yes.", agent)
    waiting = processes(stack, agent)
    if agent != "codex":
        waiting = wait_for(lambda: spares(stack, agent), 90, "a CLI that waits")
    run = stack.run("save a.txt; stall", agent=agent)
    wait_for(lambda: of_type(stack, run, "artifact.saved"), 30, "the file that it saves")
    assert processes(stack, agent) & waiting
    stack.post(f"/runs/{run['id']}/cancel")
    assert stack.settled(run, 30)["status"] == "cancelled"


def spares(stack: Stack, agent: str) -> set[int]:
    """Those of them that wait for a turn."""
    told = (stack.data_dir / "logs" / "worker.log").read_text()
    return {
        pid
        for pid in processes(stack, agent)
        if f"spare {pid} is ready" in told and f"spare {pid} is taken" not in told
    }


def processes(stack: Stack, agent: str) -> set[int]:
    """Those of the worker that run the agent's program, and no turn that is being asked for now."""
    program = str(binaries.codex() if agent == "codex" else binaries.claude(CLAUDES[agent]))
    found = set()
    for child in psutil.Process(stack.pid("worker")).children():
        with contextlib.suppress(psutil.Error):
            # In a sandbox, it is what bubblewrap runs.
            found |= {child.pid} if program in child.cmdline() else set()
    return found
