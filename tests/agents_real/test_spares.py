"""A CLI that was started before anybody asked."""

from real_agents import RealAgents


def test_what_a_spare_cannot_know_gets_a_cli_of_its_own(real: RealAgents) -> None:
    stack = real.stack
    first = stack.settled(stack.run("text Yes.", agent="claude-old"), 60)
    second = stack.settled(stack.run("history", agent="claude-old", thread=first["thread_id"]), 60)
    assert second["output_text"] == '[["user", "text Yes."], ["assistant", "Yes."]]'
    other = stack.settled(stack.run("model", agent="claude-old", model="claude-opus-5"), 60)
    assert other["output_text"] == '"claude-opus-5"'
