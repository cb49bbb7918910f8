"""How a CLI is ended before its turn is over, and what then becomes of its run."""

import time

from longwick.kinds import RunStatus
from longwick.outcomes import Outcome
from worker.agents import Adapter
from worker.cli import Cli

PATIENCE_SECONDS = 5.0
"""How long a CLI has for each way of being asked to stop."""


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
