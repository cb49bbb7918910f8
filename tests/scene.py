"""The scene of a test of the record: runs in the state that the test is about, made as the tiers make them."""

import json
from datetime import UTC, datetime
from typing import Any

from longwick import events, leases, runs, threads
from longwick.database import Database
from longwick.leases import Listed
from longwick.models import Run, Thread
from longwick.runs import NewRun

OWNER = "local"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
"""A time for tests of days, which would else fail at midnight."""
WORKER = "wrk_test"


def new_thread(database: Database, owner: str = OWNER) -> Thread:
    """An empty thread."""
    return database.write(lambda db: threads.create(db, owner))


def queued_run(database: Database, thread: Thread | None = None, text: str = "hello", **new: Any) -> Run:
    """A run that was accepted, in a thread of its own unless one is given."""
    thread = thread or new_thread(database)
    return database.write(lambda db: runs.create(db, thread, NewRun(text, **{"agent": "demo", **new})))


def running_run(database: Database, thread: Thread | None = None, worker: str = WORKER, **new: Any) -> Run:
    """A run that a worker has claimed."""
    run = queued_run(database, thread, **new)
    claimed = database.write(lambda db: runs.claim(db, run.id, worker, {}))
    assert claimed is not None
    return claimed


def spawned_run(database: Database, thread: Thread | None = None, worker: str = WORKER, **new: Any) -> Run:
    """A run whose CLI was started, or is just about to be."""
    run = running_run(database, thread, worker, **new)
    database.write(lambda db: runs.mark_spawned(db, run))
    return run


def list_worker(
    database: Database, worker: str = "wrk_a", agents: dict[str, int | None] | None = None, **lanes: int
) -> None:
    """Put a worker on the list, with an agent's limit for each of `agents`, and room in `lanes`."""
    known = {name: {"unavailable": None, "concurrency": limit} for name, limit in (agents or {"demo": None}).items()}
    listed = Listed(worker, "host", 1, lanes or {"chat": 10, "background": 5}, known)
    database.write(lambda db: leases.list_worker(db, listed))


def fresh(database: Database, run: Run) -> Run:
    """The run as the record has it now."""
    return database.read(lambda db: runs.get(db, run.owner, run.id))


def log_of(database: Database, run: Run, after: int = 0) -> list[dict[str, Any]]:
    """All events of a run past a position, as a reader gets them."""
    found: list[dict[str, Any]] = []
    while batches := database.read(lambda db: events.read(db, run.id, after)):
        found += [json.loads(line) for batch in batches for _, line in batch.after(after)]
        after = batches[-1].last_seq
    return found


def types_of(database: Database, run: Run) -> list[str]:
    """The types of a run's events, in order."""
    return [event["type"] for event in log_of(database, run)]


def check_log(database: Database, run: Run) -> list[dict[str, Any]]:
    """The run's events, after a look that they are what every reader may rely on: dense, and ended at most once."""
    log = log_of(database, run)
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert log[-1]["seq"] == fresh(database, run).last_seq
    ends = [event["seq"] for event in log if event["type"] in events.TERMINAL_EVENTS]
    assert ends == ([len(log)] if fresh(database, run).status.terminal else [])
    attempts = [event["attempt"] for event in log]
    assert attempts == sorted(attempts)
    return log
