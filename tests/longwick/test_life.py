"""The life of runs as a state machine: whatever happens in whatever order, the record is what a plain model says."""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from scene import OWNER

from longwick import approvals, cancellation, editing, events, leases, runs, submission, threads
from longwick.audit import audit_run
from longwick.database import Database, Db
from longwick.editing import Edit
from longwick.errors import Conflict, Fenced, Invalid, NotFound
from longwick.events import Event, EventType
from longwick.kinds import OnWorkerLost, RunStatus
from longwick.leases import Held
from longwick.models import Lease, Run
from longwick.outcomes import Outcome
from longwick.runs import MOST_ATTEMPTS, NewRun
from longwick.submission import IfBusy, Once

WORKER = "wrk_life"
ACTIVE = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING)
PICK = st.integers(0, 30)
MACHINES = itertools.count()


@dataclass
class Known:
    """What the model knows of a run."""

    id: str
    thread: str
    may_retry: bool
    status: RunStatus = RunStatus.QUEUED
    attempt: int = 0
    spawned: bool = False
    wanted_cancelled: bool = False
    parked: int = 0
    """How many of its attempts ended to wait for a decision."""
    asked: list[str] = field(default_factory=list)
    """Approvals that nobody has decided, as long as its attempt asks or it waits for them."""
    seen: list[Held] = field(default_factory=list)
    """Leases as sweepers have seen them, some of them long ago."""

    @property
    def waits(self) -> bool:
        """For its first start."""
        return self.status is RunStatus.QUEUED and self.attempt == 0

    @property
    def tries(self) -> int:
        """Attempts that were not just parked."""
        return self.attempt - self.parked


class Life(RuleBasedStateMachine):
    """What users, workers, sweepers and late messages do, and what must come of it."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.number = next(MACHINES)
        self.runs: list[Known] = []
        self.approvals: dict[str, Known] = {}
        self.deleted: set[str] = set()
        self.keys: dict[str, Known] = {}
        self.texts: dict[str, str] = {}

    def pick(self, number: int) -> Known:
        return self.runs[number % len(self.runs)]

    def busy(self, thread: str) -> list[Known]:
        return [run for run in self.runs if run.thread == thread and run.status in ACTIVE]

    def cancelled(self, run: Known) -> None:
        """The model's side of a wish to cancel."""
        if run.status in (RunStatus.QUEUED, RunStatus.WAITING):
            run.status = RunStatus.CANCELLED
            run.asked.clear()
        elif run.status is RunStatus.RUNNING:
            run.wanted_cancelled = True

    @rule(
        number=PICK, fresh=st.booleans(), retry=st.booleans(), if_busy=st.sampled_from(IfBusy), key=st.integers(-3, 2)
    )
    def submit(self, number: int, fresh: bool, retry: bool, if_busy: IfBusy, key: int) -> None:
        thread = None if fresh or not self.runs else self.pick(number).thread
        lost = OnWorkerLost.RETRY if retry else OnWorkerLost.FAIL
        body = f"{self.number} {thread} {retry} {if_busy}"
        name = f"{body} {key}"
        once = Once(name, body.encode()) if key >= 0 else None

        def accept() -> Run:
            return self.database.write(
                lambda db: submission.submit(
                    db,
                    OWNER,
                    NewRun("go", "demo", on_worker_lost=lost),
                    thread_id=thread,
                    if_busy=if_busy,
                    once=once,
                )
            )

        if thread in self.deleted:
            expect(NotFound, accept)
        elif once and name in self.keys:
            known = self.keys[name]
            if known.thread in self.deleted:
                expect(Conflict, accept)
            else:
                assert accept().id == known.id
        elif thread and if_busy is IfBusy.REJECT and self.busy(thread):
            expect(Conflict, accept)
        else:
            run = accept()
            if thread and if_busy is IfBusy.INTERRUPT:
                for before in self.busy(thread):
                    self.cancelled(before)
            self.runs.append(Known(run.id, run.thread_id, retry))
            if once:
                self.keys[name] = self.runs[-1]

    @precondition(lambda self: self.runs)
    @rule(number=PICK)
    def claim(self, number: int) -> None:
        """A hint arrives: in time, late, or once more."""
        run = self.pick(number)
        claimed = self.database.write(lambda db: runs.claim(db, run.id, WORKER, {}))
        if run.status is RunStatus.QUEUED and self.busy(run.thread)[0] is run:
            assert claimed is not None
            run.status, run.attempt, run.spawned = RunStatus.RUNNING, run.attempt + 1, False
            run.asked.clear()
        else:
            assert claimed is None

    @precondition(lambda self: self.runs)
    @rule(number=PICK, late=st.booleans())
    def mark_spawned(self, number: int, late: bool) -> None:
        run = self.pick(number)
        attempt = run.attempt - late
        of_attempt = Run(id=run.id, attempt=attempt)
        if self.holds(run, attempt):
            self.database.write(lambda db: runs.mark_spawned(db, of_attempt))
            run.spawned = True
        else:
            expect(Fenced, lambda: self.database.write(lambda db: runs.mark_spawned(db, of_attempt)))

    @precondition(lambda self: self.runs)
    @rule(number=PICK, late=st.booleans())
    def append(self, number: int, late: bool) -> None:
        run = self.pick(number)
        attempt = run.attempt - late
        said = [Event(EventType.PROGRESS, {"message": "on it", "fraction": None})]
        if self.holds(run, attempt):
            self.database.write(lambda db: events.append(db, run.id, attempt, said))
        else:
            expect(Fenced, lambda: self.database.write(lambda db: events.append(db, run.id, attempt, said)))

    @precondition(lambda self: self.runs)
    @rule(number=PICK)
    def look(self, number: int) -> None:
        """A sweeper sees the lease, and may act on it whenever it likes."""
        run = self.pick(number)
        run.seen += [held for held in self.database.read(leases.all_held) if held.run_id == run.id]

    @precondition(lambda self: self.runs)
    @rule(number=PICK)
    def beat(self, number: int) -> None:
        run = self.pick(number)
        listed = leases.Listed(WORKER, "host", 1, {}, {})
        renewed = self.database.write(lambda db: leases.beat(db, listed, [(run.id, run.attempt)]))
        assert renewed == ({run.id} if run.status is RunStatus.RUNNING else set())

    @precondition(lambda self: any(run.seen for run in self.runs))
    @rule(number=PICK, which=PICK)
    def expire(self, number: int, which: int) -> None:
        seen = [(run, held) for run in self.runs for held in run.seen]
        run, held = seen[number % len(seen)]
        lease = self.database.read(lambda db: db.get(Lease, run.id))
        in_time = lease is not None and (lease.attempt, lease.beat) == (held.attempt, held.beat)
        recovered = leases.recover(self.database, held, "test")
        assert (recovered is not None) == (self.holds(run, held.attempt) and in_time)
        if recovered is None:
            return
        run.asked.clear()
        if run.wanted_cancelled:
            run.status = RunStatus.CANCELLED
        elif (not run.spawned or run.may_retry) and run.tries < MOST_ATTEMPTS:
            run.status = RunStatus.QUEUED
        else:
            run.status = RunStatus.FAILED

    @precondition(lambda self: self.runs)
    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        run = self.pick(number)

        def ask() -> Run:
            return self.database.write(lambda db: cancellation.request(db, OWNER, run.id))

        if run.thread in self.deleted:
            expect(NotFound, ask)
        elif run.status in (RunStatus.SUCCEEDED, RunStatus.FAILED):
            expect(Conflict, ask)
        else:
            ask()
            self.cancelled(run)

    @precondition(lambda self: self.runs)
    @rule(number=PICK, other=PICK, last=st.booleans(), text=st.sampled_from([None, "go", "stop"]))
    def edit(self, number: int, other: int, last: bool, text: str | None) -> None:
        """The user has second thoughts of what waits. The model has its runs in the order of their turns."""
        run, before = self.pick(number), None if last else self.pick(other)
        wanted = Edit(text, moves=True, before=before.id if before else None)

        def change() -> Run:
            return self.database.write(lambda db: editing.edit(db, OWNER, run.id, wanted))

        if run.thread in self.deleted:
            expect(NotFound, change)
        elif not run.waits:
            expect(Conflict, change)
        elif before and (before is run or before.thread != run.thread):
            expect(Invalid, change)
        elif before and not before.waits:
            expect(Conflict, change)
        else:
            assert change().input == (text or self.texts.get(run.id, "go"))
            self.texts[run.id] = text or self.texts.get(run.id, "go")
            self.runs.remove(run)
            self.runs.insert(self.runs.index(before) if before else len(self.runs), run)

    @precondition(lambda self: self.runs)
    @rule(
        number=PICK,
        late=st.booleans(),
        status=st.sampled_from([RunStatus.SUCCEEDED, RunStatus.FAILED]),
        text=st.sampled_from(["", "Done."]),
    )
    def settle(self, number: int, late: bool, status: RunStatus, text: str) -> None:
        run = self.pick(number)
        attempt = run.attempt - late
        error = "agent_error" if status is RunStatus.FAILED else None
        outcome = Outcome(status, text, status is RunStatus.FAILED, error, error)
        ended = self.database.write(lambda db: runs.settle(db, run.id, attempt, outcome))
        assert (ended is not None) == self.holds(run, attempt)
        if ended is not None:
            run.status = RunStatus.CANCELLED if run.wanted_cancelled else status
            run.asked.clear()

    @precondition(lambda self: self.runs)
    @rule(number=PICK, late=st.booleans())
    def give_back(self, number: int, late: bool) -> None:
        """A worker that is told to stop hands the run to the next."""
        run = self.pick(number)
        attempt = run.attempt - late
        again = self.database.write(lambda db: runs.requeue(db, run.id, attempt, "test"))
        may = (not run.spawned or run.may_retry) and not run.wanted_cancelled and run.tries < MOST_ATTEMPTS
        assert (again is not None) == (self.holds(run, attempt) and may)
        if again is not None:
            run.status = RunStatus.QUEUED
            run.asked.clear()

    @precondition(lambda self: self.runs)
    @rule(number=PICK)
    def ask(self, number: int) -> None:
        """The agent of a run wants to use a tool."""
        run = self.pick(number)
        now = self.database.read(lambda db: db.get_one(Run, run.id))

        def request() -> str:
            return self.database.write(lambda db: approvals.request(db, now, "Bash", {}, 60).id)

        if run.status is RunStatus.RUNNING:
            run.asked.append(request())
            self.approvals[run.asked[-1]] = run
        else:
            expect(Fenced, request)

    @precondition(lambda self: self.runs)
    @rule(number=PICK, late=st.booleans())
    def park(self, number: int, late: bool) -> None:
        """A worker keeps a CLI waiting no longer."""
        run = self.pick(number)
        attempt = run.attempt - late
        parked = self.database.write(lambda db: approvals.park(db, run.id, attempt, []))
        assert (parked is not None) == (self.holds(run, attempt) and not run.wanted_cancelled)
        if parked is not None:
            run.parked += 1
            run.status = RunStatus.WAITING if run.asked else RunStatus.QUEUED

    @precondition(lambda self: self.approvals)
    @rule(number=PICK, allowed=st.booleans())
    def decide(self, number: int, allowed: bool) -> None:
        """Somebody allows or denies: in time, once more, or when nobody waits for it any more."""
        approval, run = list(self.approvals.items())[number % len(self.approvals)]

        def decide() -> None:
            self.database.write(lambda db: approvals.decide(db, OWNER, approval, allowed))

        if run.thread in self.deleted:
            expect(NotFound, decide)
        elif approval not in run.asked:
            expect(Conflict, decide)
        else:
            decide()
            run.asked.remove(approval)
            if run.status is RunStatus.WAITING and not run.asked:
                run.status = RunStatus.QUEUED

    @precondition(lambda self: self.runs)
    @rule(number=PICK)
    def retry(self, number: int) -> None:
        run = self.pick(number)

        def accept() -> Run:
            return self.database.write(lambda db: submission.retry(db, OWNER, run.id))

        if run.thread in self.deleted:
            expect(NotFound, accept)
        elif not run.status.terminal:
            expect(Conflict, accept)
        else:
            again = accept()
            assert again.retry_of == run.id
            self.runs.append(Known(again.id, run.thread, run.may_retry))
            self.texts[again.id] = again.input

    @precondition(lambda self: self.runs)
    @rule(number=PICK, sure=st.integers(0, 4))
    def delete_thread(self, number: int, sure: int) -> None:
        thread = self.pick(number).thread
        if sure or thread in self.deleted:
            return

        def delete(db: Db) -> None:
            found = threads.lock(db, OWNER, thread)
            cancellation.request_all(db, OWNER, thread)
            threads.hide(db, found)

        self.database.write(delete)
        self.deleted.add(thread)
        for run in self.busy(thread):
            self.cancelled(run)

    @invariant()
    def the_record_is_what_the_model_says(self) -> None:
        def read(db: Db) -> list[tuple[RunStatus, int]]:
            found = [db.get_one(Run, run.id) for run in self.runs]
            return [(run.status, run.attempt) for run in found]

        assert self.database.read(read) == [(run.status, run.attempt) for run in self.runs]

    @invariant()
    def no_promise_is_broken(self) -> None:
        for run in self.runs:
            _, violations = audit_run(self.database, run.id)
            assert not violations, violations

    def holds(self, run: Known, attempt: int) -> bool:
        """Whether what this attempt writes counts."""
        return run.status is RunStatus.RUNNING and run.attempt == attempt


def expect(error: type[Exception], action: Callable[[], object]) -> None:
    """The action is refused with this error."""
    with pytest.raises(error):
        action()


def test_whatever_happens_the_record_is_what_a_plain_model_says(database: Database) -> None:
    run_state_machine_as_test(
        lambda: Life(database),  # type: ignore[arg-type]
        settings=settings(
            max_examples=int(os.environ.get("EXAMPLES", "25")),
            stateful_step_count=40,
            deadline=None,
            derandomize="EXAMPLES" not in os.environ,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            database=None,
        ),
    )
