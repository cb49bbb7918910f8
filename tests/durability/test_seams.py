"""A crash in every seam, one after the other: nothing is lost, nothing doubled, nothing left behind."""

import contextlib
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audited import check_record
from processes import Process
from stack import Json, Reader, Stack, submit_once
from waiting import wait_for

from longwick.seams import SEAMS

CRASHING = Path(__file__).parents[1] / "crashing"
BEFORE_THE_CLI = {"accepted", "hinted", "claimed"}
"""Where a crash costs no run anything; later, those whose CLIs were started may be lost with their worker."""


def submit(stack: Stack, text: str, **more: object) -> Json:
    """A run that is accepted once, however often the web tier dies before it can say so."""
    body, key = {"input": text, "agent": "script", **more}, uuid.uuid4().hex
    return wait_for(lambda: submit_once(stack.http, body, key), 20, "a run to be accepted")


@contextlib.contextmanager
def readers(stack: Stack, runs: list[Json]) -> Iterator[list[Reader]]:
    """A reader of each run, from its start on."""
    with contextlib.ExitStack() as following:
        yield [following.enter_context(Reader(stack, run)) for run in runs]


@pytest.fixture
def armed(shaken_stacks: tuple[dict[str, Stack], Path]) -> Iterator[Callable[[str], Path]]:
    """Has one process of the shaken stack die in a seam; the file that it leaves."""
    _, folder = shaken_stacks

    def arm(seam: str) -> Path:
        (folder / "seam").write_text(seam)
        return folder / "died"

    yield arm
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("seam", [seam for seam in SEAMS if seam != "launching"])
def test_a_crash_in_a_seam_loses_nothing(
    seam: str, shaken_stack: Stack, armed: Callable[[str], Path], tmp_path: Path
) -> None:
    stack = shaken_stack
    before = len(stack.get("/runs?limit=1000")["data"])
    died, gate = armed(seam), tmp_path / "gate"
    runs = [
        submit(stack, "say 3 0; save a.txt; say 3 0"),
        submit(stack, f"count 20 0.02; save b.txt; wait {gate}; count 30 0.02", on_worker_lost="retry"),
        submit(stack, "leave c.txt", kind="background"),
    ]
    with readers(stack, runs) as following:
        if seam == "recovering":
            wait_for(lambda: stack.text_of(runs[1]), 20, "a run to be under way")
            stack.kill("worker")
        gate.touch()
        ended = [stack.settled(run, 60) for run in runs]
        seen = {run["id"]: reader.wait(30) for run, reader in zip(runs, following, strict=True)}
    assert died.exists(), "no process has passed the seam"
    check_record(stack, seen, runs=before + 3)
    for run in ended:
        lost = run["status"] == "failed" and run["error"]["code"] == "worker_lost"
        assert run["status"] == "succeeded" or (lost and seam not in BEFORE_THE_CLI), run
    assert ended[1]["status"] == "succeeded"
    assert ended[1]["output_text"].split() == [str(n) for n in range(30)]
    # Whatever died, everything works.
    assert stack.settled(submit(stack, "say 1 0"), 30)["status"] == "succeeded"


def test_a_launcher_that_crashes_leaves_nothing_in_the_way_of_the_next(
    record_env: dict[str, str], tmp_path: Path
) -> None:
    died = tmp_path / "died"
    crash = {"PYTHONPATH": str(CRASHING), "LONGWICK_FAIL_AT": "launching", "LONGWICK_FAIL_ONCE": str(died)}
    stack = Stack(tmp_path / "stack", {**record_env, **crash})
    with pytest.raises(AssertionError), stack:
        pass
    assert isinstance(stack.process, Process)
    assert stack.process.wait(30) == -signal.SIGKILL
    assert died.exists()
    with Stack(tmp_path / "stack", record_env) as again:
        assert again.settled(again.run("say 1 0"))["status"] == "succeeded"
