"""One engine a process and one way to use it: a unit of work is a function of `db`, run in one transaction.

A unit of work may run twice (a deadlock is retried), so between BEGIN and COMMIT stands only SQL, never I/O.
"""

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import psycopg.errors
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from longwick import seams
from longwick.columns import Timestamp
from longwick.errors import BadSetting, StorageFull, Unavailable
from longwick.models import Base
from longwick.turnstile import Turnstile

Db = Session
T = TypeVar("T")
Work = Callable[[Db], T]

ATTEMPTS = 5
BUSY_SECONDS = 5.0
POOL_WAIT_SECONDS = 5.0
LOCK_WAIT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
HOLD_SECONDS = 5.0
"""How long a transaction may say nothing before PostgreSQL ends it: what a host that vanished holds is free within a
lease."""
ANSWER_SECONDS = 12.0
"""Longer than PostgreSQL itself gives a statement: whoever says nothing for so long does not live."""
SILENT_SECONDS = 1.0
"""How long nobody asks a record that has just said nothing: whoever waits for a thread in vain is told at once."""
_ANNOUNCEMENTS = "announcements"


def announce(db: Db, announcement: object) -> None:
    """Have `announcement` handed to the database's `after_commit` once this unit of work is committed, or never."""
    db.info.setdefault(_ANNOUNCEMENTS, []).append(announcement)


def have_alone(db: Db, what: str) -> None:
    """Wait until nobody else has `what`, a name, and have it until the end of the unit of work, which is to write.

    On SQLite nobody else has anything: one writes at a time.
    """
    if db.get_bind().dialect.name == "postgresql":
        db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))


def insertion(db: Db, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of the engine's own kind, which can say what is to happen on a conflict."""
    return sqlite.insert(table) if db.get_bind().dialect.name == "sqlite" else postgresql.insert(table)


def utc_now() -> datetime:
    """This process's clock; what must not depend on it is ordered by `seq` or `turn` instead."""
    return datetime.now(UTC)


def record_now(db: Db) -> datetime:
    """The database's clock (on SQLite this process's), in whole seconds at worst: what expiry is judged by."""
    now: datetime = db.scalar(select(func.current_timestamp(type_=Timestamp)))  # type: ignore[assignment] # never None
    return now


class Database:
    """The record's engine.

    `after_commit` receives all that a unit of work announced, after its commit; it must not block.
    """

    def __init__(
        self, url: str, *, pool_size: int = 20, after_commit: Callable[[list[Any]], None] = lambda announced: None
    ) -> None:
        self.url = make_url(url)
        self.after_commit = after_commit
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            self.engine = _sqlite_engine(url, pool_size)
        elif self.url.get_backend_name() == "postgresql":
            self.engine = _postgresql_engine(url, pool_size)
        else:
            raise BadSetting("LONGWICK_DATABASE_URL: the record lives in sqlite:/// or postgresql:// only")
        self._read_options = (
            {"longwick_read": True}
            if self.sqlite
            else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        self._silent_until = 0.0
        self._turnstile = Turnstile(Path(self.url.database or "").absolute()) if self.sqlite else None

    def read(self, work: Work[T]) -> T:
        """Run `work` in a transaction that sees one state of the record and changes nothing.

        Raises:
            Unavailable: the database does not answer, or all connections stay busy.
        """
        with self._answering(), _translated(), Session(self.engine, autoflush=False) as db:
            db.connection(execution_options=self._read_options)
            return work(db)

    def write(self, work: Work[T], *, lock_seconds: float = LOCK_WAIT_SECONDS) -> T:
        """Run `work` in one transaction, commit, and only then tell others what it announced.

        A deadlock, two that took the same number, or a process that stood still for too long: it is run again from the
        start.

        Raises:
            Unavailable: the database does not answer, or is busy for too long. Whether a COMMIT whose answer
                was lost took place is not known then.
            StorageFull: the disk is full.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._answering(), _translated():
                    result, announced = self._write_once(work, lock_seconds)
            except (_Undone, IntegrityError):
                if attempt == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - spreads rivals, hides nothing
                continue
            if announced:
                seams.passed("committed")
                self.after_commit(announced)
            return result
        raise AssertionError("unreachable")

    def _write_once(self, work: Work[T], lock_seconds: float) -> tuple[T, list[Any]]:
        turn = self._turnstile.turn(BUSY_SECONDS) if self._turnstile else contextlib.nullcontext()
        with turn, Session(self.engine, autoflush=False, expire_on_commit=False) as db:
            if lock_seconds != LOCK_WAIT_SECONDS and not self.sqlite:
                db.execute(select(func.set_config("lock_timeout", f"{int(lock_seconds * 1000)}ms", True)))
            result = work(db)
            db.commit()
            return result, db.info.pop(_ANNOUNCEMENTS, [])

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Whatever is asked of a record that has said nothing a moment ago is refused."""
        if time.monotonic() < self._silent_until:
            raise Unavailable("the record does not answer")
        try:
            yield
        except Unavailable as error:
            if isinstance(getattr(error.__cause__, "orig", None), psycopg.errors.ConnectionTimeout | _NoAnswer):
                self._silent_until = time.monotonic() + SILENT_SECONDS
            raise

    def dispose(self) -> None:
        """Close all connections; one that a thread still uses, when that is done with it."""
        event.listen(self.engine, "checkin", lambda driver, pooled: pooled.close())
        self.engine.dispose()
        if self._turnstile:
            self._turnstile.close()


class _Undone(Unavailable):
    """The database undid the transaction, for a rival or after a long silence; the same work may succeed now."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The one place where a database's error becomes one of ours."""
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable("all connections to the record are busy") from error
    except DBAPIError as error:
        cause = error.orig
        if isinstance(cause, _UNDONE):
            raise _Undone("the record is busy") from error
        if isinstance(cause, psycopg.errors.DiskFull) or _sqlite_name(cause) == "SQLITE_FULL":
            raise StorageFull("no space is left for the record") from error
        if isinstance(cause, _AWAY) or _sqlite_name(cause) in _PASSING:
            raise Unavailable("the record does not answer") from error
        raise


_UNDONE = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError)
# SQLite calls everything an operational error, a misspelt table too; these are the ones that may pass.
_PASSING = {f"SQLITE_{name}" for name in ("BUSY", "LOCKED", "IOERR", "CANTOPEN", "PROTOCOL", "READONLY", "INTERRUPT")}


def _sqlite_name(cause: BaseException | None) -> str:
    """SQLite's primary name of an error; its extended names add a word: SQLITE_BUSY_SNAPSHOT."""
    return "_".join(getattr(cause, "sqlite_errorname", "").split("_")[:2])


def _sqlite_engine(url: str, pool_size: int) -> Engine:
    engine = create_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_timeout=POOL_WAIT_SECONDS)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: object) -> None:
        # The driver's own idea of transactions loses updates; ours starts in `begin`.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("longwick_read")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


class _NoAnswer(psycopg.OperationalError):
    """The server has not said anything for too long."""


class _Connection(psycopg.Connection[Any]):
    """A connection whose answers are waited for only so long: a server that is frozen closes none, and says nothing."""

    hurried = True

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, ANSWER_SECONDS if self.hurried else timeout)
        except psycopg.errors._WaitTimeout as error:
            # What the server makes of it is not known any more.
            self.pgconn.finish()
            raise _NoAnswer(f"no answer within {ANSWER_SECONDS:g} s") from error


@contextlib.contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """Wait for a connection's answers for as long as they take."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, _Connection):
        yield
        return
    driver.hurried = False
    try:
        yield
    finally:
        driver.hurried = True


def _postgresql_engine(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": 5,
            "application_name": "longwick",
            "options": (
                f"-c lock_timeout={int(LOCK_WAIT_SECONDS * 1000)}"
                f" -c statement_timeout={int(STATEMENT_SECONDS * 1000)}"
                f" -c idle_in_transaction_session_timeout={int(HOLD_SECONDS * 1000)}"
            ),
        },
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: object, pooled: object, words: Any, named: Any) -> _Connection:
        return _Connection.connect(*words, **named)

    return engine
