import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres import Postgres
from processes import Launch
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from waiting import wait_for

from longwick import database as database_module
from longwick.database import Database, Db, announce, record_now, unhurried, utc_now
from longwick.errors import BadSetting, StorageFull, Unavailable
from longwick.models import Thread

# The pattern that a database loses updates in: read, think, write.
INCREMENT = """
import sys
from longwick.database import Database
from longwick.models import Thread

def increment(db):
    db.get_one(Thread, "thr_a", with_for_update=True).turns += 1

database = Database(sys.argv[1])
for _ in range(int(sys.argv[2])):
    database.write(increment)
"""


def new_thread(db: Db, thread_id: str) -> None:
    now = utc_now()
    db.add(Thread(id=thread_id, owner="local", title="", extra={}, turns=0, created_at=now, updated_at=now))


def increment(db: Db, thread_id: str = "thr_a") -> None:
    db.get_one(Thread, thread_id, with_for_update=True).turns += 1
    db.flush()


def turns(db: Db) -> dict[str, int]:
    return {thread.id: thread.turns for thread in db.scalars(select(Thread))}


@pytest.fixture
def record(database: Database) -> Database:
    """A record with the threads `thr_a` and `thr_b`."""
    for name in ("thr_a", "thr_b"):
        database.write(partial(new_thread, thread_id=name))
    return database


@contextmanager
def held(record: Database, *, write: bool) -> Iterator[None]:
    """While this is open, another thread stands in the middle of a transaction."""
    entered, release = threading.Event(), threading.Event()

    def stand(db: Db) -> None:
        increment(db) if write else turns(db)
        entered.set()
        assert release.wait(20)

    with ThreadPoolExecutor(1) as pool:
        standing: Future[None] = pool.submit(record.write if write else record.read, stand)
        try:
            assert entered.wait(30)
            yield
        finally:
            release.set()
        standing.result(30)


def test_threads_lose_no_updates(record: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whose turn it is among them is chance.
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 60.0)

    def increment_often() -> None:
        for _ in range(25):
            record.write(increment)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(increment_often) for _ in range(8)]:
            done.result(60)
    assert record.read(turns)["thr_a"] == 8 * 25


def test_processes_lose_no_updates(record: Database, database_url: str, launch: Launch) -> None:
    processes = [launch([sys.executable, "-c", INCREMENT, database_url, "50"]) for _ in range(3)]
    assert [(process.wait(), process.output) for process in processes] == [(0, "")] * 3
    assert record.read(turns)["thr_a"] == 3 * 50


def test_a_unit_of_work_that_fails_changes_and_announces_nothing(record: Database) -> None:
    announced: list[Any] = []
    record.after_commit = announced.extend

    def fail(db: Db) -> None:
        increment(db)
        announce(db, "incremented")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record.write(fail)
    assert record.read(turns)["thr_a"] == 0
    assert announced == []


def test_what_is_announced_is_already_committed(record: Database) -> None:
    seen: list[tuple[list[Any], int]] = []
    record.after_commit = lambda announced: seen.append((announced, record.read(turns)["thr_a"]))

    def work(db: Db) -> None:
        increment(db)
        announce(db, "one")
        announce(db, "two")

    record.write(work)
    assert seen == [(["one", "two"], 1)]


def test_nothing_is_announced_where_nothing_was_said(record: Database) -> None:
    announced: list[Any] = []
    record.after_commit = announced.append
    record.write(increment)
    assert announced == []


def test_a_rival_for_the_same_key_is_retried_and_announced_once(record: Database) -> None:
    announced: list[Any] = []
    record.after_commit = announced.extend
    names = iter(["thr_a", "thr_c"])  # as two that number their rows at once: the second try sees the first

    def work(db: Db) -> str:
        name = next(names)
        new_thread(db, name)
        announce(db, name)
        db.flush()
        return name

    assert record.write(work) == "thr_c"
    assert announced == ["thr_c"]


def test_a_key_that_is_always_taken_is_given_up(record: Database) -> None:
    tries: list[None] = []

    def work(db: Db) -> None:
        tries.append(None)
        new_thread(db, "thr_a")

    with pytest.raises(Exception, match=r"(?i)unique"):
        record.write(work)
    assert len(tries) == database_module.ATTEMPTS


def test_readers_do_not_wait_for_a_writer(record: Database) -> None:
    with held(record, write=True):
        assert record.read(turns)["thr_a"] == 0
    assert record.read(turns)["thr_a"] == 1


def test_a_writer_does_not_wait_for_readers(record: Database) -> None:
    with held(record, write=False):
        record.write(increment)
    assert record.read(turns)["thr_a"] == 1


def test_a_read_sees_one_state_of_the_record(record: Database) -> None:
    def read_twice(db: Db) -> tuple[dict[str, int], dict[str, int]]:
        first = turns(db)
        record.write(increment)
        db.expire_all()
        return first, turns(db)

    first, second = record.read(read_twice)
    assert first == second == {"thr_a": 0, "thr_b": 0}


def test_what_a_read_writes_is_not_kept(record: Database) -> None:
    with suppress(DBAPIError):  # an engine may refuse it, or forget it
        record.read(increment)
    assert record.read(turns)["thr_a"] == 0


@pytest.mark.parametrize("engine_name", ["postgresql"])  # SQLite has one lock, and none to take in another order
def test_a_deadlock_is_retried(record: Database) -> None:
    both_hold_one = threading.Barrier(2)
    one_is_done = threading.Event()
    tries: list[str] = []

    def in_order(first: str, second: str) -> None:
        def work(db: Db) -> None:
            tries.append(first)
            # Whoever was undone might else be quick enough to meet the other again.
            assert len(tries) <= 2 or one_is_done.wait(20)
            increment(db, first)
            if len(tries) <= 2:
                both_hold_one.wait(30)
            increment(db, second)

        record.write(work)
        one_is_done.set()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(in_order, "thr_a", "thr_b"), pool.submit(in_order, "thr_b", "thr_a")]:
            done.result(30)
    assert record.read(turns) == {"thr_a": 2, "thr_b": 2}
    assert len(tries) == 3


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_a_row_that_stays_locked_is_unavailable_in_bounded_time(record: Database) -> None:
    with held(record, write=True), pytest.raises(Unavailable):
        record.write(increment, lock_seconds=0.1)


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_who_vanishes_in_the_middle_of_a_write_holds_its_rows_for_a_moment(
    record: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "HOLD_SECONDS", 3.0)
    vanished = Database(database_url)
    with held(vanished, write=True):
        record.write(increment)
        assert record.read(turns)["thr_a"] == 1
    # It may come back, and does its own anew.
    assert record.read(turns)["thr_a"] == 2

    def stand_still(db: Db) -> None:
        pid = db.scalar(text("SELECT pg_backend_pid()"))
        others = text(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")
        wait_for(lambda: record.read(lambda looking: looking.scalar(others)) == 0, 20, "PostgreSQL to end it")
        turns(db)

    with pytest.raises(Unavailable):
        vanished.read(stand_still)
    vanished.write(increment)
    vanished.dispose()


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_file_that_another_process_keeps_locked_is_unavailable_in_bounded_time(
    record: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
    other = Database(database_url)  # with a lock of its own, as a process would have
    with held(record, write=True), pytest.raises(Unavailable):
        other.write(increment)
    other.write(increment)
    other.dispose()


def test_f30_a_postgresql_that_says_nothing_any_more_is_unavailable_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_module, "SILENT_SECONDS", 10.0)
    with Postgres() as server:
        record = Database(server.url("postgres"))
        try:
            record.write(lambda db: db.execute(text("CREATE TABLE frozen (n int)")))
            server.freeze()

            def refused_after() -> float:
                asked = time.monotonic()
                with pytest.raises(Unavailable):
                    record.read(lambda db: db.execute(text("SELECT 1")))
                return time.monotonic() - asked

            with monkeypatch.context() as hurried:
                hurried.setattr(database_module, "ANSWER_SECONDS", 0.5)
                # Over a connection that was there, then at once, then over one that cannot be made, and at once again.
                times = [refused_after(), refused_after()]
                record._silent_until = 0.0
                times += [refused_after(), refused_after()]
            assert 0.4 < times[0] < 12
            assert 4 < times[2] < 20
            assert max(times[1], times[3]) < 4, "it was asked again"
            server.thaw()
            record._silent_until = 0.0
            record.write(lambda db: db.execute(text("INSERT INTO frozen VALUES (1)")))
            # What may take long is waited for.
            with record.engine.connect() as connection, unhurried(connection), monkeypatch.context() as hurried:
                hurried.setattr(database_module, "ANSWER_SECONDS", 0.5)
                connection.execute(text("SELECT pg_sleep(1)"))
        finally:
            server.thaw()
            record.dispose()


def test_f31_a_full_pool_is_unavailable_in_bounded_time(
    record: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "POOL_WAIT_SECONDS", 0.1)
    small = Database(database_url, pool_size=1)
    with held(small, write=False), held(small, write=False), pytest.raises(Unavailable, match="busy"):
        small.read(turns)
    assert small.read(turns)
    small.dispose()


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/record.db", "postgresql://longwick@/record?host=/no/such"])
def test_a_record_that_is_not_there_is_unavailable(url: str) -> None:
    nowhere = Database(url)
    with pytest.raises(Unavailable):
        nowhere.read(turns)
    with pytest.raises(Unavailable):
        nowhere.write(increment)
    nowhere.dispose()


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_f33_a_full_disk_is_storage_full(record: Database) -> None:
    def work(db: Db) -> None:
        db.execute(text("PRAGMA max_page_count = 1"))  # as small as the file is already
        for number in range(1000):
            new_thread(db, f"thr_{number}")
        db.flush()

    with pytest.raises(StorageFull):
        record.write(work)
    assert record.read(lambda db: db.scalar(select(func.count()).select_from(Thread))) == 2


def test_other_databases_are_refused() -> None:
    with pytest.raises(BadSetting, match="sqlite:/// or postgresql://"):
        Database("mysql://localhost/record")


def test_moments_come_back_in_utc(record: Database) -> None:
    now = record.read(record_now)
    assert now.tzinfo == UTC
    assert abs(now - utc_now()) < timedelta(seconds=5)
    assert record.read(lambda db: db.get_one(Thread, "thr_a").created_at).tzinfo == UTC


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_commit_reaches_the_disk_before_it_is_answered(record: Database, tmp_path: Path) -> None:
    def pragmas(db: Db) -> list[object]:
        return [db.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert record.read(pragmas) == ["wal", 2, 1]


def test_a_process_with_busy_threads_starves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a single writer beside many gets, compared with what one of the many gets; no matter of speed."""
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 60.0)
    url = f"sqlite:///{tmp_path / 'record.db'}"
    greedy, modest = Database(url, pool_size=40), Database(url)
    greedy.write(lambda db: db.execute(text("CREATE TABLE turns (who TEXT)")))
    done = threading.Event()

    def write_on() -> None:
        while not done.is_set():
            greedy.write(lambda db: db.execute(text("INSERT INTO turns VALUES ('greedy')")))

    crowd = [threading.Thread(target=write_on) for _ in range(20)]
    for each in crowd:
        each.start()
    try:
        for _ in range(30):
            modest.write(lambda db: db.execute(text("INSERT INTO turns VALUES ('modest')")))
    finally:
        done.set()
        for each in crowd:
            each.join(20)
    turns = greedy.read(lambda db: list(db.scalars(text("SELECT who FROM turns ORDER BY rowid"))))
    last = len(turns) - 1 - turns[::-1].index("modest")
    assert turns[:last].count("greedy") < 30 * len(crowd)
    greedy.dispose()
    modest.dispose()


def test_f32_a_frozen_writer_of_another_process_is_an_error_and_not_a_wait_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longwick.database.BUSY_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path / 'record.db'}"
    frozen, other = Database(url), Database(url)
    inside, leave = threading.Event(), threading.Event()

    def hold(db: Any) -> None:
        inside.set()
        leave.wait(20)

    holder = threading.Thread(target=lambda: frozen.write(hold))
    holder.start()
    try:
        assert inside.wait(30)
        with pytest.raises(Unavailable):
            other.write(lambda db: None)
    finally:
        leave.set()
        holder.join(30)
    other.write(lambda db: None)
    frozen.dispose()
    other.dispose()


def test_a_connection_that_is_in_use_when_all_are_closed_is_closed_after_its_use(database: Database) -> None:
    def close_all(db: Db) -> Any:
        driver = db.connection().connection.driver_connection
        database.dispose()
        assert db.scalar(text("SELECT 1")) == 1
        return driver

    driver = database.read(close_all)
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError)):
        driver.execute("SELECT 1")
