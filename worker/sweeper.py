"""Finds runs that nobody answers for any more. One thread in every worker; what it does is safe to do twice."""

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from longwick import approvals, leases, metrics
from longwick.database import Database, Db
from longwick.errors import LongwickError, Unavailable
from longwick.hints import forget_hints
from longwick.leases import Held, Watch
from longwick.models import Run
from longwick.queue import Dispatcher
from longwick.settings import Settings
from worker import strays
from worker.process import live_pids
from worker.workspace import left_over, remove

log = logging.getLogger(__name__)


class Sweeper:
    """The thread: watches the leases of all workers, ends what stands still, and keeps dispatch going."""

    def __init__(self, settings: Settings, database: Database, dispatcher: Dispatcher) -> None:
        self._settings = settings
        self._database = database
        self._dispatcher = dispatcher
        self._runs: Watch[Held] = Watch(time.monotonic)
        self._workers: Watch[tuple[str, int]] = Watch(time.monotonic)
        self._zombies: set[int] = set()
        self._stopping = threading.Event()
        self._swept_at = time.monotonic()
        metrics.SWEEP_AGE_SECONDS.set_function(lambda: time.monotonic() - self._swept_at)
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.sweep_seconds):
            outcome = "failed"
            try:
                self.sweep()
                self._swept_at = time.monotonic()
                outcome = "ok"
            except LongwickError as error:
                log.warning("the record could not be swept: %s", error)
            except Exception:
                log.exception("a sweep failed")
            finally:
                metrics.SWEEPS.labels(outcome).inc()

    def sweep(self) -> None:
        """One look at everything."""
        held, beats = self._database.read(
            lambda db: (leases.all_held(db), [(worker.id, worker.beat) for worker in leases.living_workers(db)])
        )
        for lease in self._runs.standing_still(held, self._settings.lease_seconds):
            try:
                run = leases.recover(self._database, lease, "its worker showed no sign of life")
            except Unavailable as error:
                # Its worker may have vanished in the middle of a write, and others need not wait for what it holds.
                log.warning("%s cannot be taken yet: %s", lease.run_id, error)
                continue
            if run:
                log.warning("%s was taken from worker %s, which is silent", lease.run_id, lease.worker_id)
                self._dispatcher.tell_end(run)
        # A worker without a lease's worth of beats takes no more runs; it lists itself again if it comes back.
        for worker_id, _ in self._workers.standing_still(beats, self._settings.lease_seconds):
            self._database.write(lambda db, gone=worker_id: _retire_dead(db, gone))  # type: ignore[misc]
        if self._database.read(approvals.any_due):
            self._database.write(approvals.expire_due)
        self._zombies = strays.bury(self._zombies, live_pids)
        self._dispatcher.wake()


@contextmanager
def proof_of_life(
    settings: Settings, database: Database, worker_id: str, tell_end: Callable[[Run], None] = lambda run: None
) -> Iterator[None]:
    """Hold a locked file in the data dir as long as this worker lives; first, recover the runs of the dead ones.

    The lock of a process that is gone is free at once, so that a worker started again on the same host need not wait
    for the leases of its predecessor.
    """
    folder = settings.data_dir / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("wrk_*.lock")):
        _recover_if_dead(database, path, tell_end)
    _tidy_up(settings, database)
    path = folder / f"{worker_id}.lock"
    with path.open("w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        path.unlink(missing_ok=True)


def _retire_dead(db: Db, worker_id: str) -> None:
    """Take a dead worker off the list. The hints that it had taken are gone with it, and nobody knows which."""
    leases.retire_worker(db, worker_id)
    forget_hints(db)


def _tidy_up(settings: Settings, database: Database) -> None:
    """End and remove what attempts have left on this host that are over, wherever they were ended."""
    running = {(held.run_id, held.attempt) for held in database.read(leases.all_held)}
    for run_id, attempt, folder in left_over(settings.data_dir):
        if (run_id, attempt) not in running:
            strays.kill_strays(run_id)
            remove(folder)


def _recover_if_dead(database: Database, path: Path, tell_end: Callable[[Run], None]) -> None:
    worker_id = path.stem
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        for held in database.read(lambda db: leases.all_held(db, worker_id)):
            strays.kill_strays(held.run_id)
            while database.read(lambda db, held=held: held in leases.all_held(db, worker_id)):  # type: ignore[misc]
                if run := leases.recover(database, held, "its worker ended without a word"):
                    log.warning("%s was taken from worker %s, which is dead", held.run_id, worker_id)
                    tell_end(run)
        database.write(lambda db: _retire_dead(db, worker_id))
        remove(path.with_suffix(".home"))
        path.unlink(missing_ok=True)
