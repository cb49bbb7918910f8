"""Threads in the whole product: deleted while they are busy, interrupted, attached to, watched."""

import contextlib
import io
import json
import socket
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from processes import gone
from stack import Json, Reader, Stack, check_whole
from waiting import wait_for

from longwick.database import Database
from longwick.kinds import RunStatus
from longwick.leases import all_held
from longwick.models import Run


class Feed:
    """Somebody who watches the feed."""

    def __init__(self, stack: Stack) -> None:
        self._url = f"{stack.url}/api/v1/feed"
        self.frames: list[Json] = []
        self._connected: socket.socket | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Feed":
        self._thread.start()
        wait_for(lambda: self.frames, what="the snapshot")
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._connected is not None
        self._connected.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)

    def statuses(self, run: Json) -> list[str]:
        """What was told of a run, one after the other."""
        told = [frame["run"] for frame in self.frames if frame["type"] == "run"]
        return [found["status"] for found in told if found["id"] == run["id"]]

    def files(self, run: Json) -> list[str]:
        """The names of the files that were told of a run."""
        told = [frame["artifact"] for frame in self.frames if frame["type"] == "artifact"]
        return [file["name"] for file in told if file["run_id"] == run["id"]]

    def snapshots(self) -> list[list[str]]:
        """The ids of the runs in each snapshot."""
        return [[run["id"] for run in frame["runs"]] for frame in self.frames if frame["type"] == "snapshot"]

    def _read(self) -> None:
        with httpx2.Client(timeout=30, trust_env=False) as http, http.stream("GET", self._url) as answer:
            self._connected = answer.extensions["network_stream"].get_extra_info("socket")
            with contextlib.suppress(httpx2.TransportError):
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.frames.append(json.loads(line[6:]))


def record(stack: Stack) -> Database:
    """The stack's record, to see what no route shows any more."""
    return Database(stack.environ["LONGWICK_DATABASE_URL"])


def busy(stack: Stack, folder: Path) -> tuple[Json, int]:
    """A run that waits for a gate, and the process of its CLI."""
    run = stack.run(f"pid {folder / 'pid'}; say 3 0; wait {folder / 'gate'}")
    wait_for(lambda: stack.text_of(run).endswith("2 "), 20, "the run to be under way")
    return run, int((folder / "pid").read_text())


def test_f52_a_busy_thread_that_is_deleted_leaves_nothing_running(stack: Stack, tmp_path: Path) -> None:
    run, agent = busy(stack, tmp_path)
    waiting = stack.run("say 1 0", thread=run["thread_id"])
    with Reader(stack, run) as reader:
        wait_for(lambda: len(reader.events) >= 3, what="the reader to read")
        assert stack.http.delete(f"/threads/{run['thread_id']}").status_code == 204
        for path in (f"threads/{run['thread_id']}", f"runs/{run['id']}", f"runs/{waiting['id']}/events"):
            assert stack.http.get(f"/{path}").status_code == 404
        with pytest.raises(AssertionError, match="404"):
            # The open stream ended, and there is nothing to come back to.
            reader.wait(30)
    wait_for(lambda: gone(agent), what="the CLI to be gone")
    database = record(stack)
    try:

        def found() -> list[RunStatus]:
            return database.read(lambda db: [db.get_one(Run, each["id"]).status for each in (run, waiting)])

        wait_for(lambda: found() == [RunStatus.CANCELLED] * 2, what="both to be over")
        held = database.read(all_held)
        assert run["id"] not in [lease.run_id for lease in held]
    finally:
        database.dispose()


def test_an_interrupted_thread_runs_what_interrupted_it(stack: Stack, tmp_path: Path) -> None:
    run, agent = busy(stack, tmp_path)
    after = stack.run("history", thread=run["thread_id"], if_busy="interrupt")
    assert stack.settled(after, 30)["status"] == "succeeded"
    assert stack.settled(run)["status"] == "cancelled"
    wait_for(lambda: gone(agent), what="the CLI to be gone")
    assert '["assistant", "0 1 2 "]' in stack.get(f"/runs/{after['id']}")["output_text"]


def test_a_run_that_costs_too_much_is_ended(stack: Stack, tmp_path: Path) -> None:
    run = stack.run(f"say 2 0; cost 0.3; wait {tmp_path / 'never'}", max_cost_usd=0.25)
    ended = stack.settled(run, 30)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "budget_exceeded")
    assert (ended["cost_usd"], ended["output_text"]) == (0.3, "0 1 ")
    check_whole(stack.log_of(run))
    cheap = stack.run("say 1 0; cost 0.25", max_cost_usd=0.25)
    assert stack.settled(cheap)["status"] == "succeeded"


def test_a_retry_runs_the_same_again(stack: Stack) -> None:
    run = stack.run("say 2 0; exit 3")
    assert stack.settled(run)["error"]["code"] == "cli_exit"
    again = stack.post(f"/runs/{run['id']}/retry")
    ended = stack.settled(again)
    assert (ended["retry_of"], ended["error"]["code"], ended["output_text"]) == (run["id"], "cli_exit", "0 1 ")


def test_equal_posts_at_once_run_once(stack: Stack) -> None:
    def post(n: int) -> str:
        body = {"input": "say 1 0", "agent": "script"}
        answer = stack.http.post("/runs", json=body, headers={"idempotency-key": f"flow-{stack.url}"})
        assert answer.status_code == 202, answer.text
        run_id: str = answer.json()["id"]
        return run_id

    with ThreadPoolExecutor(16) as pool:
        (run_id,) = set(pool.map(post, range(32)))
    assert stack.settled({"id": run_id})["status"] == "succeeded"


def test_attached_and_generated_files_come_in_one_archive(stack: Stack) -> None:
    run = stack.run("leave notes/plan.md")
    stack.settled(run)
    path = f"/threads/{run['thread_id']}"
    for content in (b"one", b"two"):
        answer = stack.http.post(f"{path}/files", files={"file": ("a.txt", content)})
        assert answer.status_code == 201, answer.text
    with zipfile.ZipFile(io.BytesIO(stack.http.get(f"{path}/artifacts.zip").content)) as made:
        assert {name: made.read(name) for name in made.namelist()} == {
            "a.txt": b"two",
            "notes/plan.md": f"left by {run['id']}\n".encode(),
        }


def test_who_watches_the_feed_sees_runs_and_files_come_and_go(stack: Stack, tmp_path: Path) -> None:
    with Feed(stack) as feed:
        run = stack.run(f"wait {tmp_path / 'gate'}; save a.txt; say 2 0")
        wait_for(lambda: "running" in feed.statuses(run), 20, "the feed to tell that it runs")
        (tmp_path / "gate").touch()
        ended = stack.settled(run)
        wait_for(lambda: feed.statuses(run)[-1] == "succeeded", what="the feed to tell the end")
        told = [frame["run"] for frame in feed.frames if frame["type"] == "run" and frame["run"]["id"] == run["id"]]
        assert told[-1] == ended
        wait_for(lambda: feed.files(run), what="the feed to tell of the file")
        assert feed.files(run) == ["a.txt"]
        assert stack.http.delete(f"/threads/{run['thread_id']}").status_code == 204
        wait_for(lambda: len(feed.snapshots()) == 2, what="a new snapshot")
        assert run["id"] not in feed.snapshots()[-1]
