"""`longwick top`, on a terminal and in a pipe, over the record of a running product."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyte
import pytest
from recording import COLUMNS, PLAIN, Terminal
from scene import new_thread, queued_run, running_run
from stack import Stack
from waiting import wait_for

from longwick import events
from longwick.database import Database
from longwick.events import Event, EventType
from longwick.standing import Watcher

LONGWICK = str(Path(sys.executable).with_name("longwick"))


@pytest.fixture
def stack(stacks: dict[str, Stack]) -> Stack:
    return stacks["sqlite"]


def top(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **PLAIN, "LONGWICK_DATA_DIR": str(stack.data_dir)}
    return subprocess.run([LONGWICK, "top", *words], env=env, capture_output=True, text=True, timeout=60, check=False)


class Screen:
    """What is to be seen on a terminal now."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    @property
    def lines(self) -> list[str]:
        screen = pyte.Screen(COLUMNS, self._terminal.rows)
        pyte.ByteStream(screen).feed(b"".join(self._terminal.chunks))
        return [line.rstrip() for line in screen.display]

    def shows(self, pattern: str) -> bool:
        return any(re.search(pattern, line) for line in self.lines)


def test_what_runs_what_waits_and_who_works_is_seen_as_it_changes(stack: Stack, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = stack.run(f"cost 0.25; say 1 0; wait {gate}; kanarienvogel")
    waits = stack.run("say 1 0", thread=run["thread_id"])
    wait_for(lambda: stack.text_of(run) == "0 ", what="the run to run")
    with Terminal([LONGWICK, "top", "--every", "0.3"], {"LONGWICK_DATA_DIR": str(stack.data_dir)}, rows=40) as terminal:
        screen = Screen(terminal)
        of_run = rf"^{run['id']} +local +script +running +\d+ s +\d+ s +1 +\$0\.25$"
        wait_for(lambda: screen.shows(of_run), 20, "the run to be shown")
        # Another look has seen a worker beat.
        wait_for(lambda: screen.shows(r"background \d+ +\d+ s +\d+ (s|min)"), what="a beat to be seen")
        assert screen.shows(r"^longwick top · 1 workers · \d+ runs · \d+ wait")
        assert screen.shows(r"^[\w.-]+:\d+ +1 +chat \d+ background \d+ +\d+ s")
        assert screen.shows(r"^chat +local +\d+ +\d+ +\d+ s")
        gate.touch()
        stack.settled(waits)
        wait_for(lambda: not screen.shows(run["id"]), what="the run to be gone")
        assert "kanarienvogel" not in terminal.text
        terminal.press("q")
        assert terminal.wait(30) == 0
        written = b"".join(terminal.chunks)
    # The other screen was for us alone, and the cursor is there again.
    assert written.count(b"\x1b[?1049h") == written.count(b"\x1b[?1049l") == 1
    assert written.rindex(b"\x1b[?25h") > written.rindex(b"\x1b[?25l")


def test_ctrl_c_ends_it_as_well(stack: Stack) -> None:
    with Terminal([LONGWICK, "top"], {"LONGWICK_DATA_DIR": str(stack.data_dir)}) as terminal:
        terminal.wait_for("longwick top")
        terminal.press("\x03")
        assert terminal.wait(30) == 0


def test_in_a_pipe_it_is_one_look_as_words_or_as_json(stack: Stack, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = stack.run(f"cost 0.25; say 1 0; wait {gate}", kind="background")
    wait_for(lambda: stack.text_of(run) == "0 ", what="the run to run")
    words, line = top(stack), top(stack, "--json")
    gate.touch()
    assert words.returncode == line.returncode == 0, words.stderr + line.stderr
    (row,) = [row for row in words.stdout.splitlines() if row.startswith(run["id"])]
    assert re.search(r"local +script +running +\d+ s +\d+ s +1 +\$0\.25$", row)
    seen = json.loads(line.stdout)
    (going,) = [one for one in seen["runs"] if one["id"] == run["id"]]
    assert (going["kind"], going["tokens"], going["cost_usd"]) == ("background", 1, 0.25)
    assert {worker["runs"] for worker in seen["workers"]} != {0}
    stack.settled(run)


def test_without_a_record_it_says_so(tmp_path: Path) -> None:
    env = {**os.environ, **PLAIN, "LONGWICK_DATA_DIR": str(tmp_path)}
    done = subprocess.run([LONGWICK, "top"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "there is no record at" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_an_agent_has_used_is_read_once(database: Database) -> None:
    run = running_run(database)
    queued_run(database, new_thread(database))
    watcher = Watcher()

    def say(kind: EventType, **data: object) -> None:
        database.write(lambda db: events.append(db, run.id, run.attempt, [Event(kind, data)]))

    def used() -> tuple[int | None, float | None]:
        (going,) = database.read(watcher.look).runs
        return going.tokens, going.cost_usd

    assert used() == (None, None)
    say(EventType.USAGE_UPDATED, input_tokens=3, output_tokens=4, cost_usd=0.5)
    assert used() == (7, 0.5)
    say(EventType.PROGRESS, message="so far", fraction=None)
    assert used() == (7, 0.5)
    say(EventType.USAGE_UPDATED, input_tokens=3, output_tokens=8, cost_usd="much")
    assert used() == (11, None)
    standing = database.read(watcher.look)
    assert [(queue.lane, queue.waiting, queue.next) for queue in standing.queues] == [("chat", 1, 1)]
