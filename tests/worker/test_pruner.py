"""The thread that removes what is old: it does what is due, once for all workers, and stops when it is told to."""

import os
from datetime import timedelta

import pytest
from waiting import wait_for

from longwick.artifacts import keep_blob, listed_blobs
from longwick.database import Database
from longwick.settings import Settings
from longwick.storage import FolderStorage
from worker.pruner import Pruner


def test_f49_old_bytes_that_the_record_lists_are_kept_and_others_go(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pruner.LOOK_SECONDS", 0.01)
    storage = FolderStorage(settings.blobs)
    unlisted, listed = (storage.put([data], limit=9) for data in (b"unlisted", b"listed"))
    database.write(lambda db: keep_blob(db, listed))
    for stored in (unlisted, listed):
        os.utime(storage.path(stored.sha256), (0, 0))
    with Pruner(settings, database, storage), Pruner(settings, database, storage):
        wait_for(lambda: not storage.path(unlisted.sha256).exists(), what="the unlisted file to go")
    assert storage.path(listed.sha256).exists()
    # It was done a moment ago.
    again = storage.put([b"unlisted"], limit=9)
    os.utime(storage.path(again.sha256), (0, 0))
    Pruner(settings, database, storage).prune()
    assert storage.path(again.sha256).exists()


def test_it_stops_between_two_transactions(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pruner.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("worker.pruner.SHARE", 1e-9)
    storage = FolderStorage(settings.blobs)
    stored = [storage.put([bytes([n])], limit=1) for n in range(3)]
    database.write(lambda db: keep_blob(db, *stored))
    monkeypatch.setattr("longwick.retention.GRACE", timedelta(days=-1))
    monkeypatch.setattr("longwick.unused.REMOVED_AT_ONCE", 1)

    def listed() -> int:
        return len(database.read(lambda db: listed_blobs(db, [each.sha256 for each in stored])))

    with Pruner(settings, database, storage) as pruner:
        wait_for(lambda: listed() == 2, what="it to be at work")
    assert not pruner._thread.is_alive()
    assert listed() == 2
