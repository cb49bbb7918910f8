"""What a CLI in a sandbox uses, with all that it has started, and whether that is more than it may.

The kernel's own limits are each process's own, and memory that is only reserved counts for them, of which some CLIs
reserve terabytes: so the worker looks by itself what is really used.
"""

import contextlib
import os
import time
from dataclasses import dataclass

from worker.sandbox import Limits

LOOK_SECONDS = 0.5
FULL = 0.95
"""Of the processes that it may have, how many mean that it wants more than those."""
KIB = 1024


@dataclass(frozen=True, slots=True)
class Consumption:
    """What there was at one look."""

    memory_bytes: int
    processes: int
    """With their threads, as the kernel counts them."""


def look(proc: int) -> Consumption:
    """What the processes of an opened /proc use, as each counts it for itself."""
    own = shared = tasks = 0
    for name in filter(str.isdigit, os.listdir(proc)):
        status = _numbers(proc, f"{name}/status")
        own += status.get(b"RssAnon", 0) + status.get(b"VmSwap", 0)
        # What several share is in the figure of each.
        shared = max(shared, status.get(b"RssShmem", 0))
        tasks += status.get(b"Threads", 0)
    return Consumption((own + shared) * KIB, tasks)


def look_closely(proc: int) -> int:
    """The bytes of memory that they use, with what forked processes share counted once; it takes its time."""
    total = 0
    for name in filter(str.isdigit, os.listdir(proc)):
        rollup = _numbers(proc, f"{name}/smaps_rollup")
        status = {} if rollup else _numbers(proc, f"{name}/status")
        counted = ("Pss_Anon", "Pss_Shmem", "SwapPss") if rollup else ("RssAnon", "VmSwap")
        total += sum((rollup or status).get(kind.encode(), 0) for kind in counted)
    return total * KIB


class Scales:
    """The looks at one CLI, now and then."""

    def __init__(self, limits: Limits, proc: int) -> None:
        self._limits = limits
        self._proc = proc
        self._look_at = 0.0
        self._was_full = False

    def excess(self) -> str | None:
        """What it uses too much of, as the code of a run's end."""
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        used = look(self._proc)
        most = self._limits.memory_bytes
        if used.memory_bytes > most and look_closely(self._proc) > most:
            return "out_of_memory"
        is_full = used.processes >= FULL * self._limits.processes
        was_full, self._was_full = self._was_full, is_full
        return "too_many_processes" if is_full and was_full else None


def _numbers(proc: int, file: str) -> dict[bytes, int]:
    """The lines of such a file that are a name and a number; none, where it is gone."""
    found: dict[bytes, int] = {}
    with contextlib.suppress(OSError):
        opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            lines = os.read(opened, 8192).splitlines()
        finally:
            os.close(opened)
        for line in lines:
            name, _, value = line.partition(b":")
            number = value.split()[:1]
            if number and number[0].isdigit():
                found[name] = int(number[0])
    return found
