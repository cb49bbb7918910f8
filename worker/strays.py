"""Processes that an agent left behind: started by its CLI, outside of its process group, and still there."""

import contextlib
import ctypes
import os
import signal
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of what the CLIs leave behind, instead of the host's first process."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def keep_to_itself() -> None:
    """Let no other process of this user read this one's memory and environment, but root's."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def kill_adopted(run_id: str) -> int:
    """Kill the orphans of a run that this process has adopted; returns how many there were."""
    # The children of one that is killed are adopted in turn.
    total = 0
    while killed := sum(_kill(pid) for pid in _adopted() if _belongs(pid, run_id)):
        total += killed
    return total


def kill_strays(run_id: str) -> int:
    """Kill every process on this host that carries the run's id; for a worker that comes after a dead one."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return sum(_kill(pid) for pid in pids if pid != os.getpid() and _belongs(pid, run_id))


def bury(seen: set[int], live: set[int]) -> set[int]:
    """Reap the adopted that have died by themselves: the zombies that were `seen` before already.

    A CLI of our own (`live`) is left to who waits for it. Returns what to pass as `seen` the next time.
    """
    zombies = {pid for pid in _adopted() if pid not in live and _is_zombie(pid)}
    for pid in zombies & seen:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return zombies - seen


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _adopted() -> list[int]:
    """The children of the main thread: what is adopted becomes a child of a process's first living thread."""
    pid = os.getpid()
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _belongs(pid: int, run_id: str) -> bool:
    try:
        return f"LONGWICK_RUN_ID={run_id}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    with contextlib.suppress(ChildProcessError):
        # An adopted one is ours to bury.
        os.waitpid(pid, 0)
    return True
