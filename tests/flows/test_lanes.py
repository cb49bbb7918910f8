"""The two lanes: whatever is queued in the background, a chat waits for no more than its own turn."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scene import fresh, new_thread
from stack import Json, Stack
from waiting import wait_for

from longwick import runs, threads
from longwick.database import Database, Db, utc_now
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.runs import NewRun

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
            # The later ones wait for a gate that nobody opens.
            gate = tmp_path / ("gate" if n < BACKGROUND // 2 else "never")
            return stack.run(f"wait {gate}", kind="background")

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


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_another_owners_run_waits_for_no_more_than_a_run_of_whoever_came_first(narrow_stack: Stack) -> None:
    """The real thing, of which tests/longwick/test_fairness.py has the figures for a thousand runs."""
    with narrow_stack as stack:
        record = Database(stack.environ["LONGWICK_DATABASE_URL"])

        def many(db: Db) -> list[Run]:
            new = NewRun("say 1 0.4", "script")
            return [runs.create(db, threads.create(db, "greedy"), new) for _ in range(200)]

        greedy = record.write(many)

        def now() -> list[Run]:
            return [fresh(record, run) for run in greedy]

        wait_for(lambda: [run.status for run in now()].count(RunStatus.SUCCEEDED) > SLOTS, 30, "some of them to end")
        thread = new_thread(record, "modest")
        modest = record.write(lambda db: runs.create(db, thread, NewRun("say 1 0", "script")))
        accepted = utc_now()
        wait_for(lambda: fresh(record, modest).status.terminal, 30, "the other owner's run to be over")
        began = fresh(record, modest).started_at
        assert began is not None
        greedy = now()
        record.dispose()
        between = [run for run in greedy if run.started_at and accepted < run.started_at < began]
        longest = max(
            (run.finished_at - run.started_at).total_seconds() for run in greedy if run.finished_at and run.started_at
        )
        waited = (began - accepted).total_seconds()
        print(f"waited {waited:.2f} s, where the longest run took {longest:.2f} s; {len(between)} came between")
        # Where the machine is busy, some runs take far longer than others.
        assert len(between) <= SLOTS or waited <= longest
        assert any(run.started_at is None or run.started_at > began for run in greedy)
