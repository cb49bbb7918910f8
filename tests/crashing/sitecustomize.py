"""Puts a crash into a seam of Longwick's processes, and sets their clocks: Python runs this at its start where
`PYTHONPATH` names the folder.

`LONGWICK_FAIL_AT=NAME[:NTH]` is the seam, and how often each process passes it before it is killed there (the first
time, if nothing is said). `LONGWICK_FAIL_ONCE` names a file that the one process makes that dies; the others live on.
`LONGWICK_FAIL_IN` names a folder instead: in its file `seam` the seam can be written at any time, and `died` is made.
`LONGWICK_HASTY` has `longwick up` start again at once what ends, however often.
`LONGWICK_OBEYS` has a worker obey whoever tells it, over Redis, to take no more hints, or to take them again.
`LONGWICK_CLOCKS` names a folder: by how many seconds the clock of a process is wrong stands there in a file that is
called by its pid. Clocks of the record are right.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta


def arm(seam: str, nth: int, once: str) -> None:
    """Have this process die at the seam."""
    from longwick import seams

    if seam not in seams.SEAMS:
        raise SystemExit(f"there is no seam {seam!r}")
    passed = 0

    def die(name: str) -> None:
        nonlocal passed
        passed += name == seam
        if name == seam and passed >= nth:
            with suppress(FileExistsError):
                os.close(os.open(once, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)

    seams.passed = die


def arm_later(folder: str) -> None:
    """Have this process die at the seam that the folder names, as long as none has died there."""
    from longwick import seams

    def die(name: str) -> None:
        with suppress(FileNotFoundError, FileExistsError), open(f"{folder}/seam") as file:
            if file.read() == name:
                os.close(os.open(f"{folder}/died", os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)

    seams.passed = die


def hurry() -> None:
    """Have this process, if it is `longwick up`, never wait before it starts a tier again."""
    if any(os.path.basename(part) == "longwick" for part in sys.orig_argv[:2]):
        from longwick import embedded

        embedded.PAUSES_SECONDS = (0.1,)


def obey() -> None:
    """Have this process, if it is a worker, know two commands more."""
    if "worker" in sys.orig_argv:
        from worker import inbox

        inbox.HEARD |= {"add_consumer", "cancel_consumer"}


def mislead(clocks: str) -> None:
    """Have this process believe the clock of its own that is kept in the folder."""
    from longwick import database

    right, right_ns = time.time, time.time_ns

    def wrong_by() -> int:
        with suppress(FileNotFoundError), open(f"{clocks}/{os.getpid()}") as file:
            return int(file.read())
        return 0

    time.time = lambda: right() + wrong_by()
    time.time_ns = lambda: right_ns() + wrong_by() * 10**9
    # All modules that need the time of day take it from there, later than this.
    database.utc_now = lambda: datetime.now(UTC) + timedelta(seconds=wrong_by())


# Longwick refuses settings that it does not know, and knows nothing of these; its child processes get them, too.
for given in (
    "LONGWICK_FAIL_AT",
    "LONGWICK_FAIL_ONCE",
    "LONGWICK_FAIL_IN",
    "LONGWICK_HASTY",
    "LONGWICK_OBEYS",
    "LONGWICK_CLOCKS",
):
    if given in os.environ:
        os.environ[given.removeprefix("LONG")] = os.environ.pop(given)
if "WICK_FAIL_AT" in os.environ:
    name, _, number = os.environ["WICK_FAIL_AT"].partition(":")
    arm(name, int(number or 1), os.environ["WICK_FAIL_ONCE"])
if "WICK_FAIL_IN" in os.environ:
    arm_later(os.environ["WICK_FAIL_IN"])
if "WICK_HASTY" in os.environ:
    hurry()
if "WICK_OBEYS" in os.environ:
    obey()
if "WICK_CLOCKS" in os.environ:
    mislead(os.environ["WICK_CLOCKS"])
