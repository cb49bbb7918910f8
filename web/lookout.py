"""Which workers live: their beats, watched from this process."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Self

from longwick import leases
from longwick.database import Database
from longwick.errors import LongwickError
from longwick.leases import Watch
from longwick.models import Worker

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Lookout:
    """A thread that looks at the list of workers once a second, so that one that died is known to have."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._watch: Watch[tuple[str, int]] = Watch(time.monotonic)
        self._watching = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(2 * LOOK_SECONDS)

    def look(self) -> Sequence[Worker]:
        """The workers on the list, without those whose beat has stood still for a lease.

        Raises:
            Unavailable: the record does not answer.
        """
        listed = self._database.read(leases.living_workers)
        with self._watching:
            still = self._watch.standing_still([(worker.id, worker.beat) for worker in listed], self._lease_seconds)
        return [worker for worker in listed if (worker.id, worker.beat) not in still]

    def _run(self) -> None:
        failing = False
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
                failing = False
            except LongwickError as error:
                if not failing:
                    log.warning("the workers cannot be watched for now: %s", error)
                failing = True
            except Exception:
                log.exception("the lookout failed")
