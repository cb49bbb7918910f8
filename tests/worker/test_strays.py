"""Processes that outlive the CLI that started them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import wait_for

from longwick.ids import new_id
from worker.strays import adopt_orphans, bury, kill_adopted, kill_strays

# Prints the pid of a process in a session of its own that carries the environment of this one, and ends.
ORPHAN = """
import os, signal, time
read, write = os.pipe()
if os.fork():
    print(os.read(read, 20).decode(), flush=True)
else:
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.alarm(60)
    os.write(write, str(os.getpid()).encode())
    os.closerange(0, 3)
    {then}
"""
SLEEP = "time.sleep(60)"
# Its child has a session of its own, so that nothing but the environment tells whose it is.
HAVE_A_CHILD = """
    if not os.fork():
        os.setsid()
        signal.alarm(60)
    time.sleep(60)
"""


@pytest.fixture
def adopting() -> Iterator[None]:
    adopt_orphans()
    yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture
def run_id() -> Iterator[str]:
    run_id = new_id("run")
    yield run_id
    for pid in carriers(run_id):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def orphan(run_id: str, then: str = SLEEP) -> int:
    """The pid of a process whose parent is gone."""
    env = {"PATH": os.environ["PATH"], "A": "1", "LONGWICK_RUN_ID": run_id, "Z": "2"}
    program = ORPHAN.format(then=then)
    done = subprocess.run([sys.executable, "-I", "-c", program], env=env, capture_output=True, timeout=20, check=True)
    pid = int(done.stdout)
    wait_for(lambda: parent(pid) in (1, os.getpid()) or state(pid) == "", what="its parent to end")
    return pid


def about(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on; nothing when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["", "0"]


def state(pid: int) -> str:
    return about(pid)[0]


def parent(pid: int) -> int:
    return int(about(pid)[1])


def carriers(run_id: str) -> list[int]:
    """All living processes with the run's id in their environment."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):
            if f"LONGWICK_RUN_ID={run_id}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return [pid for pid in found if state(pid) not in ("", "Z")]


@pytest.mark.usefixtures("adopting")
def test_what_outlives_its_cli_is_adopted_killed_and_buried(run_id: str) -> None:
    pid = orphan(run_id)
    assert parent(pid) == os.getpid()
    assert kill_adopted(run_id) == 1
    assert state(pid) == ""
    assert kill_adopted(run_id) == 0


@pytest.mark.usefixtures("adopting")
def test_another_runs_orphans_are_left_alone(run_id: str) -> None:
    pid = orphan(run_id)
    assert kill_adopted(new_id("run")) == 0
    assert kill_adopted(run_id[:-1]) == 0
    assert state(pid) not in ("", "Z")


@pytest.mark.usefixtures("adopting")
def test_the_children_of_an_orphan_end_with_it(run_id: str) -> None:
    orphan(run_id, HAVE_A_CHILD)
    wait_for(lambda: len(carriers(run_id)) == 2, what="its child")
    kill_adopted(run_id)
    assert carriers(run_id) == []


def test_an_orphan_that_nobody_adopted_is_found_by_its_environment(run_id: str) -> None:
    pid = orphan(run_id)
    assert parent(pid) != os.getpid()
    assert kill_adopted(run_id) == 0
    assert kill_strays(new_id("run")) == 0
    assert kill_strays(run_id) == 1
    wait_for(lambda: state(pid) in ("", "Z"), what="its end")


def test_whole_families_of_strays_are_found(run_id: str) -> None:
    orphan(run_id, HAVE_A_CHILD)
    wait_for(lambda: len(carriers(run_id)) == 2, what="its child")
    assert kill_strays(run_id) == 2
    wait_for(lambda: not carriers(run_id), what="their end")


def test_a_worker_that_was_started_inside_a_run_does_not_kill_itself(run_id: str) -> None:
    """As an agent does that works on this very project."""
    program = "import sys; from worker.strays import kill_strays; print(kill_strays(sys.argv[1]))"
    env = {**os.environ, "LONGWICK_RUN_ID": run_id}
    command = [sys.executable, "-c", program, run_id]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "0")


@pytest.mark.usefixtures("adopting")
def test_an_adopted_one_that_ended_by_itself_is_buried_at_the_second_look(run_id: str) -> None:
    """At the first it might be a CLI that has just ended, with somebody about to wait for it."""
    pid = orphan(run_id, "os._exit(3)")
    wait_for(lambda: state(pid) == "Z", what="its end")
    seen = bury(set(), live=set())
    assert pid in seen
    assert state(pid) == "Z"
    assert pid not in bury(seen, live=set())
    assert state(pid) == ""


@pytest.mark.usefixtures("adopting")
def test_a_cli_of_our_own_is_left_to_who_waits_for_it() -> None:
    with subprocess.Popen(["sh", "-c", "exit 7"]) as cli:
        wait_for(lambda: state(cli.pid) == "Z", what="its end")
        seen = bury(set(), live={cli.pid})
        assert cli.pid not in seen
        bury({cli.pid}, live={cli.pid})
        assert cli.wait() == 7


def test_what_lives_is_not_buried() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid not in bury({child.pid}, live=set())
        assert child.poll() is None
        child.kill()
