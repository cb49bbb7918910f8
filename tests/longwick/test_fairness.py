"""Owners take turns: how long one waits for another, measured in the time that a run takes, on the real record.

The clock is the test's own, and a worker is as many slots as it has; what is next, and who may start, is the record's.
"""

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

import pytest

from longwick import leases, runs, threads
from longwick.database import Database, Db
from longwick.hints import Hint, take_hints
from longwick.kinds import RunKind, RunStatus
from longwick.leases import Listed
from longwick.limits import Limits
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.runs import NewRun
from worker.parts import capacity

AGENTS = {"demo": {"unavailable": None, "concurrency": None}}
GOLDEN = 0.618
BOTH = (RunKind.CHAT, RunKind.BACKGROUND)


class Slots:
    """A worker whose runs take the time 1, or a little less, and which takes its hints in the order of their coming."""

    def __init__(
        self,
        database: Database,
        slots: int,
        lanes: Sequence[RunKind] = BOTH,
        *,
        usual: Limits | None = None,
        uneven: float = 0,
    ):
        self.now = 0.0
        self.started: list[tuple[float, Run]] = []
        self._database = database
        self._usual = usual or Limits()
        self._uneven = uneven
        self._free = slots
        self._hints: deque[Hint] = deque()
        self._ends: list[tuple[float, str, int]] = []
        database.write(lambda db: leases.list_worker(db, Listed("wrk_a", "host", 1, capacity(lanes, slots), AGENTS)))

    def submit(self, owner: str, number: int = 1, kind: RunKind = RunKind.CHAT) -> None:
        """Have runs wait, each in a thread of its own."""

        def several(db: Db) -> None:
            for _ in range(number):
                runs.create(db, threads.create(db, owner), NewRun("hello", "demo", kind=kind))

        self._database.write(several)
        self.look()

    def look(self) -> None:
        """Dispatch, and start what there are slots for."""
        self._hints.extend(take_hints(self._database, self._usual))
        while self._free and self._hints:
            hint = self._hints.popleft()
            run = self._database.write(lambda db, hint=hint: runs.claim(db, hint.run_id, "wrk_a", {}, self._usual))  # type: ignore[misc]
            if run is not None:
                self._free -= 1
                self.started.append((self.now, run))
                takes = 1 - self._uneven * (len(self.started) * GOLDEN % 1)
                heappush(self._ends, (self.now + takes, run.id, run.attempt))

    def end_one(self) -> None:
        """Go on to the end of the run that ends next."""
        self.now, run_id, attempt = heappop(self._ends)
        done = Outcome(RunStatus.SUCCEEDED, "Done.")
        self._database.write(lambda db: runs.settle(db, run_id, attempt, done))
        self._free += 1
        self.look()

    def until(self, time: float) -> None:
        """Go on until then."""
        while self._ends and self._ends[0][0] <= time:
            self.end_one()
        self.now = time

    def first_start(self, owner: str) -> float:
        """When the first run of an owner is started."""
        while True:
            for at, run in self.started:
                if run.owner == owner:
                    return at
            self.end_one()


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_a_thousand_runs_of_one_owner_delay_anothers_first_by_no_more_than_a_run(
    database: Database, slots: int
) -> None:
    """The figures of docs/operations.md."""
    worker = Slots(database, slots)
    worker.submit("greedy", 1000)
    # All begin at once, which is the worst: nobody's end comes early.
    worker.until(0.25)
    asked_at = worker.now
    worker.submit("modest")
    waited = worker.first_start("modest") - asked_at
    before = sum(1 for at, run in worker.started if run.owner == "greedy" and at > asked_at)
    print(
        f"{slots} slots, 1000 runs wait: the other owner's first waited {waited:.2f} of a run's time, {before} between"
    )
    assert waited <= 1
    assert before <= slots


def test_late_comers_share_what_the_early_one_had(database: Database) -> None:
    """Three owners with more than enough to do come to have a third each, and stay so."""
    worker = Slots(database, 6, uneven=0.3)
    worker.submit("first", 200)
    worker.until(0.5)
    worker.submit("second", 60)
    worker.submit("third", 60)
    began = worker.now + 2
    worker.until(began + 8)
    shares = [run.owner for at, run in worker.started if at > began]
    counts = [shares.count(owner) for owner in ("first", "second", "third")]
    print(f"6 slots, 200 + 60 + 60 runs wait, for 8 times a run's time: {counts} runs of the three owners were started")
    assert sum(counts) >= 6 * 8
    assert max(counts) - min(counts) <= 0.2 * max(counts)


def test_chats_wait_for_no_background_run(database: Database) -> None:
    """However many background runs wait, of however many owners: half of the slots are for chats."""
    worker = Slots(database, 4)
    for owner in ("one", "two", "three"):
        worker.submit(owner, 100, RunKind.BACKGROUND)
    worker.until(0.5)
    at_work = [run for at, run in worker.started if at > worker.now - 1]
    assert [run.kind for run in at_work] == [RunKind.BACKGROUND] * 2
    worker.submit("one")
    worker.submit("four")
    chats = [at for at, run in worker.started if run.kind is RunKind.CHAT]
    assert chats == [0.5, 0.5]


def test_an_owner_with_a_limit_leaves_the_slots_to_others_and_gets_all_done(database: Database) -> None:
    worker = Slots(database, 8, usual=Limits(running=2))
    worker.submit("greedy", 10)
    worker.submit("modest", 4)
    while worker._ends:
        at_work = [run.owner for at, run in worker.started if at > worker.now - 1]
        assert max(at_work.count("greedy"), at_work.count("modest")) <= 2
        worker.end_one()
    assert len(worker.started) == 14
    # Nothing was lost between a hint that came too early and the next: two at a time, one after the other.
    assert worker.now == 5
