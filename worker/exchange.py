"""What reaches a CLI while it works: what somebody has decided of that which it asked, and what its user adds."""

import json
import re
import time
from collections.abc import Callable

from longwick import approvals, steering
from longwick.approvals import Decision
from longwick.database import Db
from longwick.errors import Unavailable
from longwick.models import JsonObject, Run
from longwick.recorder import RunLog
from longwick.steering import Input
from longwick.text import clean_json
from worker.agents import Adapter, Ask
from worker.cli import Cli
from worker.keeper import Hold
from worker.parts import Parts


class Exchange:
    """One turn's worth of it."""

    def __init__(self, parts: Parts, run: Run, hold: Hold, log: RunLog, still_ours: Callable[[], None]) -> None:
        self._parts = parts
        self._run = run
        self._hold = hold
        self._log = log
        self._still_ours = still_ours
        self.decided: list[Decision] = []
        """What was decided for the attempt before this one, and not asked for again yet."""
        self._asks: dict[str, Ask] = {}
        """By the ids of their approvals."""
        self._inputs: list[Input] = []
        self.moved_at = 0.0
        """When somebody was last asked, or has answered, by the monotonic clock."""

    @property
    def waits(self) -> bool:
        """Whether the CLI waits for a decision."""
        return bool(self._asks)

    def ask(self, ask: Ask, process: Cli, adapter: Adapter) -> None:
        """Have somebody decide; it is done at once where it was decided for an earlier attempt."""
        for decision in self.decided:
            if decision.tool == ask.tool and self._in_any_attempt(decision.input) == self._in_any_attempt(ask.input):
                self.decided.remove(decision)
                process.write(adapter.answer(ask, decision))
                return
        seconds = self._parts.settings.approval_seconds
        # What led to it comes first, for a reader.
        self._log.flush(wait=self._still_ours)
        asked = self._parts.database.write(
            lambda db: approvals.request(db, self._run, ask.tool, clean_json(ask.input), seconds)
        )
        self._asks[asked.id] = ask
        self._hold.asking = tuple(self._asks)
        self.moved_at = time.monotonic()

    def _in_any_attempt(self, given: JsonObject) -> str:
        """What a tool is given, the same in each attempt: their folders have the attempt's number in their names."""
        return re.sub(rf"{self._run.id}-\d+", self._run.id, json.dumps(clean_json(given), sort_keys=True))

    def pass_on(self, process: Cli, adapter: Adapter) -> bool:
        """Hand the CLI what the record has for it; whether its user has added something.

        What it cannot take now is offered again.
        """
        if self._hold.news.is_set():
            self._hold.news.clear()
            try:
                decisions, self._inputs = self._parts.database.read(self._look)
            except Unavailable:
                # The next beat brings the news again.
                return False
            for decision in decisions:
                process.write(adapter.answer(self._asks.pop(decision.approval_id), decision))
                self.moved_at = time.monotonic()
            self._hold.asking = tuple(self._asks)
        added = False
        while self._inputs and (said := adapter.steer(self._inputs[0].text)) is not None:
            given = self._inputs.pop(0)
            self._log.flush(wait=self._still_ours)
            self._parts.database.write(lambda db, given=given: steering.deliver(db, self._run, given))  # type: ignore[misc]
            process.write(said)
            added = True
        return added

    def _look(self, db: Db) -> tuple[list[Decision], list[Input]]:
        return approvals.decided(db, list(self._asks)), steering.undelivered(db, self._run.id)
