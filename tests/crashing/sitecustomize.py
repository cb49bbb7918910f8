"""Puts a crash into a seam of Longwick's processes: Python runs this at its start where `PYTHONPATH` names the folder.

`LONGWICK_FAIL_AT=NAME[:NTH]` is the seam, and how often each process passes it before it is killed there (the first
time, if nothing is said). `LONGWICK_FAIL_ONCE` names a file that the one process makes that dies; the others live on.
"""

import os
import signal
from contextlib import suppress


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


# Longwick refuses settings that it does not know, and knows nothing of these; its child processes get them, too.
for given in ("LONGWICK_FAIL_AT", "LONGWICK_FAIL_ONCE"):
    if given in os.environ:
        os.environ[given.removeprefix("LONG")] = os.environ.pop(given)
if "WICK_FAIL_AT" in os.environ:
    name, _, number = os.environ["WICK_FAIL_AT"].partition(":")
    arm(name, int(number or 1), os.environ["WICK_FAIL_ONCE"])
