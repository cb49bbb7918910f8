"""The two lanes: whatever is queued in the background, a chat waits for no more than its own turn."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stack import Json, Stack
from waiting import wait_for

SLOTS = 6
BACKGROUND = 300
CHATS = 12


def statuses(stack: Stack, kind: str) -> dict[str, str]:
    """Run id -> status, of all runs of a lane."""
    return {run["id"]: run["status"] for run in stack.get(f"/runs?kind={kind}&limit=1000")["data"]}


@pytest.fixture
def narrow_stack(record_env: dict[str, str], tmp_path: Path) -> Stack:
    """A product whose worker has few slots; not started yet."""
    return Stack(tmp_path / "stack", {**record_env, "LONGWICK_CONCURRENCY": str(SLOTS)})


def test_chats_start_while_hundreds_of_background_runs_wait(narrow_stack: Stack, tmp_path: Path) -> None:
    with narrow_stack as stack:

        def submit(n: int) -> Json:
            # None of them ends before the gate opens: with a slot too many in their hands, no chat would ever start.
            return stack.run(f"wait {tmp_path / 'gate'}", kind="background")

        with ThreadPoolExecutor(8) as pool:
            waiting = list(pool.map(submit, range(BACKGROUND)))

        def running() -> int:
            return list(statuses(stack, "background").values()).count("running")

        wait_for(lambda: running() == SLOTS // 2, 30, "the background runs to have their half of the slots")
        chats = [stack.run("say 2 0") for _ in range(CHATS)]
        assert {stack.settled(chat, 30)["status"] for chat in chats} == {"succeeded"}
        found = statuses(stack, "background")
        assert set(found) == {run["id"] for run in waiting}
        assert sorted(found.values()) == ["queued"] * (BACKGROUND - SLOTS // 2) + ["running"] * (SLOTS // 2)

        # While they end and the next ones start, chats go on as before.
        (tmp_path / "gate").touch()
        for _ in range(3):
            assert stack.settled(stack.run("say 2 0"), 30)["status"] == "succeeded"
        assert "queued" in statuses(stack, "background").values()
