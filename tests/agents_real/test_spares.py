"""A CLI that was started before anybody asked."""

import psutil
from real_agents import RealAgents
from stack import Stack
from waiting import wait_for


def clis(stack: Stack) -> set[int]:
    """The processes of Claude Code that the worker has."""
    worker = psutil.Process(stack.pid("worker"))
    return {child.pid for child in worker.children() if "--input-format" in child.cmdline()}


def test_the_first_turn_of_a_thread_goes_to_a_cli_that_waits_and_the_next_finds_another(real: RealAgents) -> None:
    stack, provider = real.stack, real.provider("claude-old")
    stack.settled(stack.run("text Yes.", agent="claude-old"), 60)
    ready = "a spare is ready"
    log = stack.data_dir / "logs" / "worker.log"
    wait_for(lambda: ready in log.read_text(), 60, "a spare")
    waiting = clis(stack)
    assert waiting
    asked = len(provider.asked)
    run = stack.run("save a.txt; stall", agent="claude-old")
    wait_for(lambda: len(provider.asked) > asked, 30, "a request")
    assert clis(stack) & waiting
    wait_for(lambda: stack.get(f"/runs/{run['id']}/artifacts")["data"], 30, "the file that it saves")
    stack.post(f"/runs/{run['id']}/cancel")
    assert stack.settled(run, 30)["status"] == "cancelled"


def test_what_a_spare_cannot_know_gets_a_cli_of_its_own(real: RealAgents) -> None:
    stack = real.stack
    first = stack.settled(stack.run("text Yes.", agent="claude-old"), 60)
    second = stack.settled(stack.run("history", agent="claude-old", thread=first["thread_id"]), 60)
    assert second["output_text"] == '[["user", "text Yes."], ["assistant", "Yes."]]'
    other = stack.settled(stack.run("model", agent="claude-old", model="claude-opus-5"), 60)
    assert other["output_text"] == '"claude-opus-5"'
