"""How a CLI is ended, and what becomes of its run where its turn was not over yet."""

import threading
import time

from longwick.kinds import RunStatus
from longwick.outcomes import Outcome
from worker.agents import Adapter
from worker.cli import Cli
from worker.keeper import Hold, Stop

PATIENCE_SECONDS = 5.0
"""How long a CLI has for each way of being asked to stop."""
LINGER_SECONDS = 30.0
"""How long a CLI that has given its result may take to exit."""
LOOK_SECONDS = 1.0


def failure(code: str, message: str) -> Outcome:
    """A run that failed, with what was shown of it kept."""
    return Outcome(RunStatus.FAILED, partial=True, error_code=code, error_message=message)


class Ending:
    """Ends a CLI step by step: its own way of being interrupted, then SIGINT, then SIGKILL to the group."""

    def __init__(self, process: Cli, adapter: Adapter) -> None:
        self.outcome: Outcome | None = None
        self._steps = [
            lambda: process.write(adapter.interrupt()),
            process.interrupt,
            process.kill,
        ]
        self._next_at = 0.0

    def begin(self, outcome: Outcome) -> None:
        """End it, for a reason that becomes the run's outcome; the first reason stays."""
        if self.outcome is None:
            self.outcome = outcome
            self._next_at = time.monotonic()

    def step(self) -> None:
        """Take the next step if it is due."""
        if self.outcome is not None and self._steps and time.monotonic() >= self._next_at:
            self._steps.pop(0)()
            self._next_at = time.monotonic() + PATIENCE_SECONDS

    def next_step_in(self, at_most: float) -> float:
        """Seconds to wait for the next step."""
        if self.outcome is None or not self._steps:
            return at_most
        return min(at_most, max(0.0, self._next_at - time.monotonic()))


def let_it_exit(process: Cli, hold: Hold, draining: threading.Event) -> None:
    """The run is over; give its CLI time to end by itself, and drop what it still says."""

    def told_to_stop() -> bool:
        # Only now is it no news that the lease is gone.
        return hold.stop not in (None, Stop.FENCED) or draining.is_set()

    process.close_input()
    deadline = time.monotonic() + LINGER_SECONDS
    while not process.ended and time.monotonic() < deadline and not told_to_stop():
        process.poll(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        hold.hear()
