"""What is lost and comes back under real agents: workers, all of the product, Codex's process, the MCP server."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import psutil
import pytest
from real_agents import RealAgents
from stack import Json, Stack, check_whole
from waiting import wait_for

SHELL = {
    "claude-coder": 'Bash {{"command": "{}", "description": "do"}}',
    "codex-coder": 'exec_command {{"cmd": "{}"}}',
}
"""How each is made to use its shell."""


def using_its_shell(agent: str, command: str) -> str:
    return f"text Asking.; tool {SHELL[agent].format(command)}; text Told."


def approval_of(stack: Stack, run: Json) -> Json:
    def pending() -> list[Json]:
        return [each for each in stack.get("/approvals?status=pending")["data"] if each["run_id"] == run["id"]]

    return wait_for(pending, 30, "the agent to ask")[0]


def allow(stack: Stack, run: Json) -> None:
    stack.post(f"/approvals/{approval_of(stack, run)['id']}", {"decision": "allow"}, 200)


def wait_for_status(stack: Stack, run: Json, status: str) -> None:
    wait_for(lambda: stack.status(run) == status, 40, f"the run to be {status}")


def wait_for_text(stack: Stack, run: Json) -> None:
    wait_for(lambda: "w2" in stack.text_of(run), 40, "its text")


def replace_worker(stack: Stack) -> int:
    """Kill the worker; the pid of the next one."""
    killed = stack.kill("worker")
    return wait_for(lambda: (pid := stack.find_pid("worker")) != killed and pid, 20, "another worker") or 0


def types_of(stack: Stack, run: Json) -> list[str]:
    return [event["type"] for event in stack.log_of(run)]


def below(stack: Stack, word: str) -> Iterator[psutil.Process]:
    """All that the worker has started with such a word in the command."""
    for process in psutil.Process(stack.pid("worker")).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if word in process.cmdline():
                yield process


def test_a_conversation_goes_on_with_other_agents_on_other_workers(real: RealAgents) -> None:
    stack = real.stack
    workers = [stack.pid("worker")]
    first = stack.settled(stack.run("text My name is Ada.", agent="claude"), 60)
    workers.append(replace_worker(stack))
    second = stack.settled(stack.run("text I know, Ada.", agent="codex", thread=first["thread_id"]), 60)
    workers.append(replace_worker(stack))
    third = stack.settled(stack.run("history", agent="claude-old", thread=first["thread_id"]), 60)
    assert len(set(workers)) == 3
    assert json.loads(third["output_text"]) == [
        *(["user", "text My name is Ada."], ["assistant", "My name is Ada."]),
        *(["user", "text I know, Ada."], ["assistant", "I know, Ada."]),
    ]
    fourth = stack.settled(stack.run("history", agent="codex", thread=first["thread_id"]), 60)
    assert json.loads(fourth["output_text"]) == [
        *json.loads(third["output_text"]),
        *(["user", "history"], ["assistant", third["output_text"]]),
    ]
    assert second["status"] == "succeeded"


def test_what_is_allowed_after_everything_was_started_again_is_done_once(real: RealAgents) -> None:
    stack = real.stack
    # The first file is in the folder that follows the thread: done twice, it would have two lines.
    command = "echo made >> made.txt; mkdir -p artifacts; cp made.txt artifacts/"
    runs = {agent: stack.run(using_its_shell(agent, command), agent=agent) for agent in SHELL}
    for run in runs.values():
        wait_for_status(stack, run, "waiting")
        assert stack.get(f"/runs/{run['id']}/artifacts")["data"] == []
    stack.crash()
    for run in runs.values():
        assert stack.status(run) == "waiting"
        allow(stack, run)
        ended = stack.settled(run, 60)
        assert (ended["status"], ended["output_text"]) == ("succeeded", "Asking.\n\nTold."), ended["error"]
        (made,) = stack.get(f"/runs/{run['id']}/artifacts")["data"]
        assert stack.http.get(f"/artifacts/{made['id']}/content").text == "made\n"
        check_whole(stack.log_of(run))


@pytest.mark.parametrize("agent", ["claude", "codex"])
def test_a_worker_killed_between_a_tool_and_the_answer_loses_nothing(
    agent: str, real: RealAgents, tmp_path: Path
) -> None:
    stack, gate = real.stack, tmp_path / "gate"
    run = stack.run(f"text Before.; save a.txt; until {gate}; text After.", agent=agent, on_worker_lost="retry")
    wait_for(lambda: "tool.completed" in types_of(stack, run), 30, "the file to be saved")
    stack.kill("worker")
    gate.touch()
    ended = stack.settled(run, 60)
    assert (ended["status"], ended["output_text"]) == ("succeeded", "Before.\n\nAfter."), ended["error"]
    assert [file["version"] for file in stack.get(f"/runs/{run['id']}/artifacts")["data"]] == [1]
    kinds = types_of(stack, run)
    assert (kinds.count("run.attempt_lost"), kinds.count("tool.started"), kinds.count("tool.completed")) == (1, 1, 1)
    check_whole(stack.log_of(run))


@pytest.mark.parametrize("agent", SHELL)
def test_a_tool_that_was_at_work_in_a_lost_worker_needs_leave_again(agent: str, real: RealAgents) -> None:
    stack = real.stack
    # Done again, it would never end.
    command = "touch begun; until [ -e never ]; do sleep 0.1; done"
    run = stack.run(using_its_shell(agent, command), agent=agent, on_worker_lost="retry")
    allow(stack, run)
    begun = stack.data_dir / "workspaces" / f"{run['id']}-*" / "work" / "begun"
    wait_for(lambda: glob(str(begun)), 30, "the tool to be at work")
    stack.kill("worker")
    again = approval_of(stack, run)
    stack.post(f"/approvals/{again['id']}", {"decision": "deny"}, 200)
    ended = stack.settled(run, 60)
    assert (ended["status"], ended["output_text"]) == ("succeeded", "Asking.\n\nTold."), ended["error"]
    check_whole(stack.log_of(run))


def test_when_codex_dies_its_runs_say_so_and_the_next_one_works(real: RealAgents) -> None:
    stack = real.stack
    runs = [stack.run("say 3; stall", agent="codex") for _ in range(2)]
    for run in runs:
        wait_for_text(stack, run)
    servers = list(below(stack, "app-server"))
    assert servers
    for server in servers:
        server.kill()
    for run in runs:
        ended = stack.settled(run, 20)
        assert (ended["status"], ended["error"]["code"], ended["output_text"].strip()) == (
            *("failed", "cli_exit"),
            "w0 w1 w2",
        )
        check_whole(stack.log_of(run))
    assert stack.settled(stack.run("text Well again.", agent="codex"), 30)["output_text"] == "Well again."


def test_without_our_tools_no_model_is_asked(real: RealAgents) -> None:
    stack = real.stack
    stopped = stack.kill("mcp", signal.SIGSTOP)
    before = len(real.provider("claude").asked)
    try:
        ended = stack.settled(stack.run("text Hello.", agent="claude-old-coder"), 60)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "mcp_unavailable")
    assert len(real.provider("claude").asked) == before


@pytest.mark.parametrize("agent", ["claude-old", "claude"])
def test_what_looks_like_a_command_or_a_file_is_text(agent: str, real: RealAgents) -> None:
    stack = real.stack
    for text in ("/context", "Look at @/etc/passwd please."):
        before = len(real.provider(agent).asked)
        run = stack.settled(stack.run(text, agent=agent), 60)
        assert (run["status"], run["output_text"].strip()) == ("succeeded", text)
        bodies = json.dumps([request.body for request in real.provider(agent).asked[before:]])
        assert json.dumps(text)[1:-1] in bodies
        assert "root:x:0" not in bodies
