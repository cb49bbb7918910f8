"""Removes what is old, at leisure. One thread in every worker; of all of them one does it at a time."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Self

from longwick import retention
from longwick.database import Database
from longwick.errors import LongwickError
from longwick.retention import Pruning, Step
from longwick.settings import Settings
from longwick.storage import Storage

log = logging.getLogger(__name__)

ROWS_SECONDS = 3600.0
FILES_SECONDS = 24 * 3600.0
LOOK_SECONDS = 60.0
RENEW_SECONDS = 300.0
SHARE = 0.1
"""How much of the time it is at work, while there is work: the rest is for others."""


class _Stopped(Exception):
    pass


class Pruner:
    """The thread. Enter it to start it, leave it to end it between two transactions."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self._database = database
        self._pruning = Pruning(database, storage, settings, pause=self._pause)
        self._stopping = threading.Event()
        self._paused_at = self._claimed_at = time.monotonic()
        self._doing = ""
        self._thread = threading.Thread(target=self._run, name="pruner", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.prune()
            except _Stopped:
                return
            except LongwickError as error:
                log.warning("what is old could not be removed: %s", error)
            except Exception:
                log.exception("what is old could not be removed")

    def prune(self) -> None:
        """Do what is due."""
        self._paused_at = time.monotonic()
        if self._is_due("rows", ROWS_SECONDS):
            _tell(self._pruning.rows())
        if self._is_due("files", FILES_SECONDS):
            _tell(self._pruning.files())

    def _is_due(self, name: str, seconds: float) -> bool:
        self._doing, self._claimed_at = name, time.monotonic()
        return self._database.write(lambda db: retention.claim(db, name, seconds))

    def _pause(self) -> None:
        if time.monotonic() - self._claimed_at > RENEW_SECONDS:
            # It may take longer than until it is due again.
            self._database.write(lambda db: retention.go_on(db, self._doing))
            self._claimed_at = time.monotonic()
        took = time.monotonic() - self._paused_at
        if self._stopping.wait(took * (1 / SHARE - 1)):
            raise _Stopped
        self._paused_at = time.monotonic()


def _tell(steps: Iterator[Step]) -> None:
    for step in steps:
        if step.removed:
            log.info("removed %d %s", step.removed, step.words)
