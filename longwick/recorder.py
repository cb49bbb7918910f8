"""The Recorder: one thread that commits what all runs of this process append, as one transaction for many runs.

Door one of the log (longwick/events.py) for the attempts that this process runs. It coalesces deltas, keeps a fenced
or poisoned run from harming the others, and never doubles a write whose COMMIT answer was lost.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from longwick import events, metrics, seams
from longwick.database import Database, Work
from longwick.errors import Fenced, Unavailable
from longwick.events import DELTA_CHARACTERS, DELTAS, Append, Event

T = TypeVar("T")

log = logging.getLogger(__name__)

DELTA_SECONDS = 0.040
ENOUGH_BYTES = 1024
PENDING_BYTES = 1024 * 1024
GROUP_BYTES = 4 * 1024 * 1024
LOCK_SECONDS = 1.0
# One run that stays blocked is tried again and again; each try holds up the others for no longer than this.
LOCK_SECONDS_ALONE = 0.1
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
# Other threads, which want to write too, get a turn between two commits; and groups are larger.
PAUSE_SECONDS = 0.002


class RunLog:
    """One attempt's way into the log: `append` queues, `flush` waits until all of it is in the record."""

    def __init__(
        self,
        recorder: "Recorder",
        run_id: str,
        attempt: int,
        on_fenced: Callable[[], None],
        on_first: Callable[[], None],
    ) -> None:
        self.run_id = run_id
        self.attempt = attempt
        self._recorder = recorder
        self._on_fenced = on_fenced
        self._on_first: Callable[[], None] | None = on_first
        self._pending: list[Event] = []
        self._pending_bytes = 0
        self._urgent = False
        self._unanswered: Append | None = None
        self._tries = 0
        self._due_at = 0.0
        self.error: Exception | None = None

    def append(self, *new: Event, wait: Callable[[], None] = lambda: None) -> None:
        """Queue events, in order; deltas of one block are merged. While too much waits, calls `wait` now and then.

        Raises:
            Fenced: the attempt is no longer the run's.
            Exception: why the record refused an earlier event of this run.
        """
        for event in new:
            for piece in _pieces(event):
                self._recorder.queue(self, piece, wait)

    def flush(self, wait: Callable[[], None] = lambda: None) -> None:
        """Return once everything appended is committed; calls `wait` now and then. Raises as `append` does."""
        self._recorder.flush(self, wait)

    def _due(self) -> float:
        """When the next write may be made: deltas at the leading edge, then at intervals or once enough is there."""
        if self._unanswered is None and (self._urgent or self._pending_bytes >= ENOUGH_BYTES):
            return 0.0
        return self._due_at


class Recorder:
    """The thread, and the runs that write through it. Enter it to start, leave it to commit the rest and stop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._logs: set[RunLog] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(10)

    def open(
        self,
        run_id: str,
        attempt: int,
        on_fenced: Callable[[], None] = lambda: None,
        on_first: Callable[[], None] = lambda: None,
    ) -> RunLog:
        """The log of an attempt.

        The Recorder's thread calls `on_first` once the record has taken something, and `on_fenced` when it refuses it.
        """
        run_log = RunLog(self, run_id, attempt, on_fenced, on_first)
        with self._changed:
            self._logs.add(run_log)
        return run_log

    def close(self, run_log: RunLog) -> None:
        """Forget a log; what it has not flushed is dropped."""
        with self._changed:
            self._logs.discard(run_log)
            run_log.error = run_log.error or Fenced(f"the log of {run_log.run_id} is closed")
            self._changed.notify_all()

    def queue(self, run_log: RunLog, event: Event, wait: Callable[[], None]) -> None:
        with self._changed:
            while run_log.error is None and run_log._pending_bytes >= PENDING_BYTES:
                self._changed.wait(0.5)
                wait()
            if run_log.error is not None:
                raise run_log.error
            size = _size(event)
            merged = _merge(run_log._pending[-1], event) if run_log._pending else None
            if merged is not None:
                run_log._pending[-1] = merged
            else:
                run_log._pending.append(event)
            run_log._pending_bytes += size
            run_log._urgent |= event.type not in DELTAS
            if run_log._urgent or run_log._pending_bytes >= ENOUGH_BYTES or len(run_log._pending) == 1:
                self._changed.notify_all()

    def flush(self, run_log: RunLog, wait: Callable[[], None]) -> None:
        with self._changed:
            run_log._urgent = True
            self._changed.notify_all()
            while run_log.error is None and (run_log._pending or run_log._unanswered):
                self._changed.wait(0.5)
                wait()
            if run_log.error is not None:
                raise run_log.error

    def _run(self) -> None:
        working = True
        while working:
            group: list[tuple[RunLog, Append]] = []
            try:
                group = self._next_group()
                self._commit(group)
                working = bool(group)
            except Exception as error:  # the outermost loop: a bug must not leave the runs waiting for ever
                log.exception("the recorder failed")
                for run_log in [run_log for run_log, _ in group] or list(self._logs):
                    self._refuse(run_log, error)
            time.sleep(PAUSE_SECONDS)

    def _next_group(self) -> list[tuple[RunLog, Append]]:
        """Wait until some runs are due, and take what they have pending; empty when it is time to stop."""
        with self._changed:
            while True:
                now = time.monotonic()
                waiting = [run_log for run_log in self._logs if run_log._pending or run_log._unanswered]
                due = [run_log for run_log in waiting if self._stopping or run_log._due() <= now]
                if due:
                    break
                if self._stopping:
                    return []
                soonest = min((run_log._due() for run_log in waiting), default=None)
                self._changed.wait(None if soonest is None else soonest - now)
            group: list[tuple[RunLog, Append]] = []
            size = 0
            for run_log in sorted(due, key=RunLog._due):
                if run_log._unanswered is None:
                    if group and size + run_log._pending_bytes > GROUP_BYTES:
                        break
                    size += run_log._pending_bytes
                    tails = [event.encoded_tail() for event in run_log._pending]
                    run_log._unanswered = Append(run_log.run_id, run_log.attempt, tails)
                    run_log._pending, run_log._pending_bytes, run_log._urgent = [], 0, False
                    run_log._due_at = now + DELTA_SECONDS
                group.append((run_log, run_log._unanswered))
            self._changed.notify_all()
        return group

    def _commit(self, group: Sequence[tuple[RunLog, Append]]) -> None:
        """Commit the group as one; where that fails, each run for itself, so that it harms nobody else."""
        fresh = [(run_log, append) for run_log, append in group if not run_log._tries]
        alone = [(run_log, append) for run_log, append in group if run_log._tries]
        try:
            if fresh:
                appends = [append for _, append in fresh]
                metrics.COMMIT_RUNS.observe(len(appends))
                batches = self._write(lambda db: events.append_group(db, appends), LOCK_SECONDS)
                for run_log, append in fresh:
                    self._answer(run_log, taken=append.run_id in batches)
        except Exception as error:  # whatever it is, it is some run's, and told to it below
            if len(fresh) > 1:
                log.warning("a group of %d runs is committed one by one: %s", len(fresh), error)
            alone += fresh
        for run_log, append in alone:
            self._commit_alone(run_log, append)

    def _write(self, work: Work[T], lock_seconds: float) -> T:
        with metrics.COMMIT_SECONDS.time():
            taken = self._database.write(work, lock_seconds=lock_seconds)
        seams.passed("batch committed")
        return taken

    def _commit_alone(self, run_log: RunLog, append: Append) -> None:
        """Take one more try at a run's write, which may have been committed and not answered."""
        try:
            taken = self._write(lambda db: events.append_again(db, append), LOCK_SECONDS_ALONE)
            self._answer(run_log, taken=taken is not None)
        except Unavailable as error:
            pause = RETRY_SECONDS[min(run_log._tries, len(RETRY_SECONDS) - 1)]
            log.warning("events of %s are kept for another try in %s s: %s", append.run_id, pause, error.detail)
            with self._changed:
                run_log._tries += 1
                run_log._due_at = time.monotonic() + pause
        except Exception as error:  # the run is told, and fails with it
            log.exception("the record refused events of %s", append.run_id)
            self._refuse(run_log, error)

    def _answer(self, run_log: RunLog, *, taken: bool) -> None:
        if not taken:
            self._refuse(run_log, Fenced(f"attempt {run_log.attempt} of {run_log.run_id} is over"))
            return
        with self._changed:
            run_log._unanswered, run_log._tries = None, 0
            self._changed.notify_all()
        if run_log._on_first:
            run_log._on_first()
            run_log._on_first = None

    def _refuse(self, run_log: RunLog, error: Exception) -> None:
        with self._changed:
            run_log.error = run_log.error or error
            run_log._pending, run_log._pending_bytes, run_log._unanswered = [], 0, None
            self._changed.notify_all()
        run_log._on_fenced()


def _size(event: Event) -> int:
    """About how many bytes an event takes; exact only for what can be large."""
    return 100 + sum(len(value) if isinstance(value, str) else 50 for value in event.data.values())


def _merge(last: Event, new: Event) -> Event | None:
    """Both deltas as one, where they belong to the same block and fit."""
    block = DELTAS.get(new.type)
    if block is None or last.type is not new.type or last.data[block] != new.data[block]:
        return None
    merged = last.data["text"] + new.data["text"]
    return Event(last.type, {**last.data, "text": merged}, last.at) if len(merged) <= DELTA_CHARACTERS else None


def _pieces(event: Event) -> list[Event]:
    """The event, or a delta that is too long as several."""
    if event.type not in DELTAS or len(event.data["text"]) <= DELTA_CHARACTERS:
        return [event]
    whole = event.data["text"]
    cuts = range(0, len(whole), DELTA_CHARACTERS)
    return [Event(event.type, {**event.data, "text": whole[cut : cut + DELTA_CHARACTERS]}, event.at) for cut in cuts]
