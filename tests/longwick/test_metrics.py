import logging
import socket
from urllib.request import urlopen

import pytest
from processes import unheard_port
from prometheus_client import REGISTRY
from scene import new_thread, queued_run, running_run, spawned_run

from longwick import leases, metrics
from longwick.database import Database
from longwick.kinds import RunKind


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_a_unit_of_work_told_is_counted_once_it_is_committed(database_url: str) -> None:
    database = Database(database_url, after_commit=metrics.count)
    labels = {"status": "failed", "code": "worker_lost"}
    accepted = value("longwick_runs_accepted_total", kind="background")
    settled = value("longwick_runs_settled_total", **labels)
    committed = value("longwick_events_committed_total")
    spawned_run(database, kind=RunKind.BACKGROUND)
    (held,) = database.read(leases.all_held)
    leases.recover(database, held, "gone")
    assert value("longwick_runs_accepted_total", kind="background") == accepted + 1
    assert value("longwick_runs_settled_total", **labels) == settled + 1
    # run.queued, run.started, run.attempt_lost, run.failed
    assert value("longwick_events_committed_total") == committed + 4

    def refused(db: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.write(refused)
    assert value("longwick_events_committed_total") == committed + 4
    database.dispose()


def test_what_is_not_settled_is_counted_by_kind_and_status(database: Database) -> None:
    thread = new_thread(database)
    running_run(database, thread)
    queued_run(database, thread)
    queued_run(database, kind=RunKind.BACKGROUND)
    database.read(metrics.count_unsettled)
    counted = {
        (kind, status): value("longwick_runs", kind=kind, status=status)
        for kind in ("chat", "background")
        for status in ("queued", "running", "waiting")
    }
    assert {state for state, runs in counted.items() if runs == 1} == {
        ("chat", "running"),
        ("chat", "queued"),
        ("background", "queued"),
    }
    assert sum(counted.values()) == 3


def test_a_port_that_is_taken_is_said_and_keeps_nobody_from_working(caplog: pytest.LogCaptureFixture) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        caplog.at_level(logging.WARNING),
        metrics.served(*taken.getsockname()),
    ):
        pass
    assert "no metrics can be had" in caplog.text


def test_they_are_shown_where_they_are_wanted() -> None:
    with unheard_port() as port, metrics.served("127.0.0.3", port):
        assert b"longwick_runs_settled_total" in urlopen(f"http://127.0.0.3:{port}/metrics", timeout=5).read()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_without_a_port_nothing_is_shown() -> None:
    with metrics.served("127.0.0.1", 0):
        pass
