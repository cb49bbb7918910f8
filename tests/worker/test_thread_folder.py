"""A folder that goes on with its thread: what one attempt leaves in it, the next one finds, on whatever host."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from scene import OWNER, fresh, log_of, new_thread, queued_run
from waiting import wait_for

from longwick import artifacts, cancellation, leases, workspaces
from longwick.artifacts import Save
from longwick.database import Db
from longwick.errors import Fenced, StorageFull, Unavailable
from longwick.kinds import OnWorkerLost, RunStatus
from longwick.models import Run, Thread, WorkspaceState
from longwick.profiles import Profile
from longwick.storage import FolderStorage
from longwick.workspaces import Manifest
from worker import ending
from worker.execute import execute
from worker.keeper import Stop
from worker.parts import Parts

SCRIPT = [sys.executable, "-S", str(Path(__file__).parents[1] / "agents" / "script.py")]
AGENTS = {
    "keeper": Profile(adapter="jsonl", command=SCRIPT, workspace="thread"),
    "guest": Profile(adapter="jsonl", command=SCRIPT),
}


class Bench:
    """A thread, and workers that run its turns; each of them on a host of its own."""

    def __init__(self, parts: Parts, hosts: Path, pool: ThreadPoolExecutor) -> None:
        self.parts = replace(parts, agents=AGENTS)
        self.thread: Thread = new_thread(parts.database)
        self._hosts = hosts
        self.pool = pool
        self._runs = 0

    def worker(self, **more: Any) -> Parts:
        """A worker that shares the record and the storage with the others, and nothing else."""
        self._runs += 1
        data_dir = self._hosts / str(self._runs)
        return replace(self.parts, settings=self.parts.settings.model_copy(update={"data_dir": data_dir, **more}))

    def ask(self, text: str, agent: str = "keeper", **more: Any) -> Run:
        return queued_run(self.parts.database, self.thread, text, agent=agent, **more)

    def run(self, text: str, agent: str = "keeper", **more: Any) -> Run:
        """A turn that is carried out to its end; `more` are settings of its worker."""
        run = self.ask(text, agent)
        execute(self.worker(**more), run.id)
        return self.fresh(run)

    def says(self, text: str, agent: str = "keeper", **more: Any) -> str:
        """What the agent says in a turn that succeeds."""
        run = self.run(text, agent, **more)
        assert run.status is RunStatus.SUCCEEDED, (run.error_code, run.error_message)
        return run.output_text or ""

    def fresh(self, run: Run) -> Run:
        return fresh(self.parts.database, run)

    def notices(self, run: Run) -> list[tuple[str, str]]:
        log = log_of(self.parts.database, run)
        return [(event["data"]["code"], event["data"]["message"]) for event in log if event["type"] == "notice"]

    @property
    def state(self) -> WorkspaceState:
        found = self.parts.database.read(lambda db: workspaces.newest(db, self.thread.id))
        assert found is not None
        return found

    @property
    def kept(self) -> Manifest:
        return workspaces.read_manifest(self.parts.storage, self.state)

    def attach(self, name: str, content: str) -> None:
        stored = self.parts.storage.put([content.encode()], limit=1000)
        save = Save(name, "text/plain", stored)
        self.parts.database.write(lambda db: artifacts.attach(db, OWNER, self.thread.id, save))

    def wait_until_it_has_said(self, run: Run, words: str) -> None:
        def said() -> bool:
            log = log_of(self.parts.database, run)
            return words in "".join(event["data"]["text"] for event in log if event["type"] == "message.delta")

        wait_for(said, what=f"{words!r}")


@pytest.fixture
def bench(parts: Parts, tmp_path: Path) -> Iterator[Bench]:
    with ThreadPoolExecutor(2) as pool:
        yield Bench(parts, tmp_path / "hosts", pool)


def test_what_a_run_leaves_the_next_one_finds_wherever_it_runs(bench: Bench) -> None:
    assert bench.says("write src/main.py one; write notes two; link here notes; files") == "here notes src src/main.py"
    assert bench.says("read src/main.py; read here; remove notes; write src/main.py three") == "onetwo"
    assert bench.says("files; read src/main.py") == "here src src/main.pythree"
    assert (bench.state.version, bench.state.files, bench.state.size) == (2, 1, 5)


def test_an_agent_with_an_empty_folder_neither_sees_nor_changes_it(bench: Bench) -> None:
    bench.says("write a.txt mine")
    assert bench.says("files; write a.txt theirs", agent="guest") == ""
    assert bench.says("read a.txt") == "mine"


def test_other_threads_have_others(bench: Bench) -> None:
    bench.says("write a.txt mine")
    bench.thread = new_thread(bench.parts.database)
    assert bench.says("files") == ""


def test_what_is_left_to_be_an_artifact_is_one_and_is_no_part_of_it(bench: Bench) -> None:
    bench.says("leave report.md; write a.txt a")
    assert bench.says("files") == "a.txt"
    found = bench.parts.database.read(lambda db: artifacts.newest_of_thread(db, bench.thread.id))
    assert [file.name for file in found] == ["report.md"]


def test_a_run_that_changes_nothing_makes_no_new_state(bench: Bench) -> None:
    bench.says("write a.txt a")
    before = bench.state.id
    bench.says("read a.txt")
    assert bench.state.id == before


def test_what_a_run_did_that_failed_is_kept(bench: Bench) -> None:
    assert bench.run("write a.txt half; exit 3").error_code == "cli_exit"
    assert bench.says("read a.txt") == "half"


def test_what_a_run_did_that_was_cancelled_is_kept(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "PATIENCE_SECONDS", 0.1)
    run = bench.ask(f"write a.txt half; say 1 0; wait {tmp_path / 'never'}")
    running = bench.pool.submit(execute, bench.worker(), run.id)
    bench.wait_until_it_has_said(run, "0")
    bench.parts.database.write(lambda db: cancellation.request(db, OWNER, run.id))
    running.result(20)
    assert bench.fresh(run).status is RunStatus.CANCELLED
    assert bench.says("read a.txt") == "half"


def test_a_run_that_is_handed_on_goes_on_with_what_it_did(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "PATIENCE_SECONDS", 0.1)
    text = f"read a.txt; write a.txt half; say 1 0; wait {tmp_path / 'gate'}"
    run = bench.ask(text, on_worker_lost=OnWorkerLost.RETRY)
    running = bench.pool.submit(execute, bench.worker(), run.id)
    bench.wait_until_it_has_said(run, "0")
    bench.parts.keeper.stop_all(Stop.WORKER_SHUTDOWN)
    running.result(20)
    assert bench.fresh(run).status is RunStatus.QUEUED
    (tmp_path / "gate").touch()
    execute(bench.worker(), run.id)
    ended = bench.fresh(run)
    assert (ended.status, ended.attempt, ended.output_text) == (RunStatus.SUCCEEDED, 2, "no a.txt0 half0 ")


def test_an_attempt_that_is_over_stores_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.says("write a.txt before")
    run = bench.ask(f"write a.txt after; say 1 0; wait {tmp_path / 'gate'}")
    running = bench.pool.submit(execute, bench.worker(), run.id)
    bench.wait_until_it_has_said(run, "0")

    def taken() -> Run | None:
        (held,) = [held for held in bench.parts.database.read(leases.all_held) if held.run_id == run.id]
        return leases.recover(bench.parts.database, held, "its worker showed no sign of life")

    wait_for(taken, what="the run to be taken away")
    (tmp_path / "gate").touch()
    assert running.result(20) is None
    assert bench.fresh(run).error_code == "worker_lost"
    assert bench.says("read a.txt") == "before"


def test_a_state_is_refused_from_an_attempt_that_is_over(bench: Bench) -> None:
    """Also when all of it was in storage before."""
    run = bench.run("write a.txt a")
    manifest, state = bench.kept, bench.state
    stored = bench.parts.storage.put([manifest.encode()], limit=10_000)
    with pytest.raises(Fenced, match=run.id):
        bench.parts.database.write(lambda db: workspaces.keep(db, run, manifest, [stored]))
    assert bench.state.id == state.id


def test_a_record_that_is_away_for_a_moment_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    keep = workspaces.keep

    def away_at_first(db: Db, *args: Any) -> WorkspaceState:
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("the record does not answer")
        return keep(db, *args)

    monkeypatch.setattr(workspaces, "keep", away_at_first)
    assert bench.says("write a.txt a") == ""
    assert (len(tries), bench.state.files) == (2, 1)


def test_a_folder_over_its_limit_is_told_and_stays_as_it_was(bench: Bench) -> None:
    bench.says("write a.txt before")
    run = bench.run("write a.txt after; write large.txt far-too-many-bytes", workspace_bytes=20)
    assert (run.status, run.error_code) == (RunStatus.SUCCEEDED, None)
    ((code, words),) = bench.notices(run)
    assert code == "folder_not_kept"
    assert "it has more than 20 bytes, with 'large.txt'" in words
    assert bench.says("files; read a.txt") == "a.txtbefore"
    many = bench.run("write 1 x; write 2 x; write 3 x", workspace_files=3)
    assert bench.notices(many)[0][0] == "folder_not_kept"
    assert bench.says("files") == "a.txt"


class Full(FolderStorage):
    """A disk that has no space for more than one file."""

    def batch(self, alive: Callable[[], None]) -> NoReturn:
        raise StorageFull("no space is left for files")


def test_a_folder_that_finds_no_space_is_told_and_stays_as_it_was(bench: Bench) -> None:
    bench.says("write a.txt before")
    whole, bench.parts = bench.parts, replace(bench.parts, storage=Full(bench.parts.settings.blobs))
    run = bench.run("write a.txt after")
    assert (run.status, run.error_code) == (RunStatus.SUCCEEDED, None)
    assert [code for code, _ in bench.notices(run)] == ["folder_not_kept"]
    bench.parts = whole
    assert bench.says("read a.txt") == "before"


def test_what_cannot_be_kept_is_named_and_the_rest_is(bench: Bench) -> None:
    run = bench.run("write a.txt a; link passwd /etc/passwd; link up ../home; link same a.txt")
    assert run.status is RunStatus.SUCCEEDED
    assert bench.notices(run) == [
        (
            "files_left_out",
            "Not kept with the thread's folder: 'passwd' (it is a link that leads out of the folder), "
            "'up' (it is a link that leads out of the folder).",
        )
    ]
    assert bench.says("files; read same") == "a.txt samea"


def test_a_folder_whose_bytes_are_gone_starts_no_agent_and_is_not_written_over(bench: Bench) -> None:
    bench.says("write a.txt unique-bytes-of-this-test")
    before = bench.state.id
    (entry,) = bench.kept.entries
    path = bench.parts.settings.blobs / entry.sha256[:2] / entry.sha256
    kept = path.read_bytes()
    path.unlink()
    run = bench.run("files")
    assert (run.error_code, run.error_message) == (
        "spawn_failed",
        "The thread's folder could not be restored: the bytes are not in storage.",
    )
    assert bench.state.id == before
    path.write_bytes(kept)
    assert bench.says("read a.txt") == "unique-bytes-of-this-test"


# What its user attached


@pytest.mark.parametrize("agent", ["keeper", "guest"])
def test_attached_files_are_in_the_folder(agent: str, bench: Bench) -> None:
    bench.attach("data.csv", "old")
    bench.attach("data.csv", "new")
    bench.attach("docs/deep/plan.md", "plan")
    assert bench.says("read data.csv; read docs/deep/plan.md; files", agent) == (
        "newplandata.csv docs docs/deep docs/deep/plan.md"
    )
    assert bench.notices(bench.run("files", agent)) == []


def test_what_the_agent_made_of_an_attached_file_stays_until_a_newer_one_comes(bench: Bench) -> None:
    bench.attach("data.csv", "one")
    bench.attach("other.csv", "other")
    assert bench.says("read data.csv; write data.csv edited; remove other.csv") == "one"
    assert bench.says("read data.csv; files") == "editeddata.csv"
    bench.attach("data.csv", "two")
    assert bench.says("read data.csv; files") == "twodata.csv"


def test_what_is_attached_while_a_run_goes_on_is_there_for_the_next(bench: Bench, tmp_path: Path) -> None:
    run = bench.ask(f"say 1 0; wait {tmp_path / 'gate'}; files")
    running = bench.pool.submit(execute, bench.worker(), run.id)
    bench.wait_until_it_has_said(run, "0")
    bench.attach("late.txt", "late")
    (tmp_path / "gate").touch()
    running.result(20)
    assert bench.fresh(run).output_text == "0 "
    assert bench.says("read late.txt") == "late"


def test_attached_files_that_do_not_fit_are_named_and_harm_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.says("write taken mine; write folder/file mine; link out ..")
    for name in ("taken/below", "folder", "artifacts/report.md"):
        bench.attach(name, "theirs")
    bench.attach("large", "x" * 100)
    run = bench.run("read taken; read folder/file; files", workspace_bytes=90)
    assert run.output_text == "minemineartifacts folder folder/file taken".replace("artifacts ", "")
    ((code, words),) = bench.notices(run)
    assert code == "files_not_placed"
    for said in (
        "'taken/below' (Not a directory)",
        "'folder' (Is a directory)",
        "'artifacts/report.md' (what is in ./artifacts/ is for the agent to leave there)",
        "'large' (the folder would be over its limit)",
    ):
        assert said in words
