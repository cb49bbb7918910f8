"""What the adapters make of what real CLIs have said, whole and damaged. (ACP: test_acp.py.)"""

import json
import random
from collections.abc import Callable

import pytest
from recordings import Recording, recording, recordings
from replaying import Told, check_well_formed, replay, started

from longwick.profiles import Profile
from worker.agents import Adapter, Turn
from worker.agents.acp import Acp
from worker.agents.claude import Claude
from worker.agents.codex import Codex

CLAUDES = ("claude-2.1.197", "claude-2.1.330")
CODEX = "codex-0.169.0"
ADAPTERS: dict[str, Callable[[Profile, Turn], Adapter]] = {"claude": Claude, "codex": Codex, "acp": Acp}


def lines_of(kept: Recording) -> list[bytes]:
    """What it printed; Codex's answers, to the requests that our adapter makes."""
    if kept.cli != CODEX:
        return kept.lines
    numbers = {"thread/start": 1, "turn/start": 2, "turn/interrupt": 3, "turn/steer": 3}
    asked = [json.loads(line) for line in kept.sent]
    ids = {each.get("id"): f"run_1.1:{numbers[each['method']]}" for each in asked if each["method"] in numbers}
    lines = []
    for line in kept.lines:
        said = json.loads(line)
        if "method" not in said:
            said["id"] = ids.get(said["id"], said["id"])
        lines.append(json.dumps(said).encode())
    return lines


def told(kept: Recording) -> Told:
    name = kept.cli.partition("-")[0]
    return replay(started(ADAPTERS[name], name, "token"), lines_of(kept))


@pytest.mark.parametrize("kept", [each for cli in (*CLAUDES, CODEX) for each in recordings(cli)], ids=str)
def test_every_line_means_something_and_the_turn_ends_once(kept: Recording) -> None:
    check_well_formed(told(kept))


@pytest.mark.parametrize("cli", [*CLAUDES, CODEX])
@pytest.mark.parametrize(
    ("scenario", "code", "text"),
    [
        ("text", None, "w0 w1 w2 w3 w4 "),
        ("tool", None, "Saving.\n\nSaved."),
        ("two_tools", None, "Both are saved."),
        ("failed_tool", None, "It was refused."),
        ("retry", None, "w0 w1 "),
        ("mcp_down", "mcp_unavailable", ""),
        ("unauthorized", "provider_error", ""),
        ("rate_limited", "provider_error", ""),
        ("server_error", "provider_error", ""),
    ],
)
def test_the_same_scenario_means_the_same(cli: str, scenario: str, code: str | None, text: str) -> None:
    found = told(recording(cli, scenario))
    assert (found.ends[0].error_code, found.shown.text if code is None else "") == (code, text)


@pytest.mark.parametrize("cli", [*CLAUDES, CODEX])
@pytest.mark.parametrize(
    ("scenario", "code"), [("cut", "provider_error"), ("refusal", "agent_error"), ("limit", "provider_error")]
)
def test_an_answer_that_is_not_whole_is_no_success(cli: str, scenario: str, code: str) -> None:
    assert told(recording(cli, scenario)).end[0] == code


@pytest.mark.parametrize("cli", CLAUDES)
@pytest.mark.parametrize("scenario", ["budget", "max_turns"])
def test_a_limit_of_the_operator_is_named(cli: str, scenario: str) -> None:
    code, words = told(recording(cli, scenario)).end
    assert code == "budget_exceeded"
    assert "more than it may" in words or "as it may" in words


@pytest.mark.parametrize("cli", CLAUDES)
@pytest.mark.parametrize("scenario", ["allowed", "denied"])
def test_leave_is_asked_for(cli: str, scenario: str) -> None:
    found = told(recording(cli, scenario))
    assert len(found.asks) == 1
    assert found.end[0] is None


@pytest.mark.parametrize("cli", CLAUDES)
def test_of_a_sub_agent_only_its_tools_are_shown(cli: str) -> None:
    found = told(recording(cli, "sub_agent"))
    assert found.end[0] is None
    parents = {event.data.get("parent_tool_call_id") for event in found.events if event.type == "tool.started"}
    assert len(parents) > 1 or parents == {None}


@pytest.mark.parametrize("cli", CLAUDES)
def test_a_structured_answer_is_the_answer(cli: str) -> None:
    found = told(recording(cli, "structured"))
    assert found.end[0] is None
    assert found.shown.text


@pytest.mark.parametrize("kept", recordings("*"), ids=str)
def test_a_damaged_line_is_never_more_than_a_notice(kept: Recording) -> None:
    chance = random.Random(str(kept))
    damaged = []
    for line in lines_of(kept):
        flipped = bytearray(line)
        if line and chance.random() < 0.3:
            for _ in range(chance.randrange(1, 4)):
                flipped[chance.randrange(len(flipped))] = chance.randrange(256)
        damaged.append(bytes(flipped))
    name = "acp" if "acp" in kept.cli or "gemini" in kept.cli else kept.cli.partition("-")[0]
    replay(started(ADAPTERS[name], name), damaged)
