"""The record's schema: to the newest version, by whoever starts first; the only importer of alembic."""

import fcntl
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import longwick.accounts  # noqa: F401 - its tables are among them
from longwick.database import Database, unhurried
from longwick.entrance import ApiKey
from longwick.errors import Unavailable

# Any number; all that matters is that every Longwick uses the same one.
MIGRATION_LOCK = 0x10_4E_67_71
TRIES = 20
METADATA = ApiKey.metadata
"""All tables: longwick/entrance.py adds its own to those of longwick/models.py."""


def migrations() -> Path:
    """The folder of the migration scripts: inside the wheel, or at the top of a checkout."""
    packed = Path(__file__).with_name("migrations")
    return packed if packed.is_dir() else Path(__file__).parents[1] / "alembic"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    return config


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema to `revision`; safe to call from many processes at once, again, and while others work on it.

    Raises:
        Unavailable: others hold its tables for too long.
    """
    with _only_one(database):
        config = _config()
        config.attributes["engine"] = database.engine
        for tries_left in reversed(range(TRIES)):
            try:
                command.upgrade(config, revision)
                return
            except DBAPIError as error:
                # It is undone as a whole, so whoever was in its way is let pass.
                if not isinstance(error.orig, DeadlockDetected | LockNotAvailable):
                    raise
                if not tries_left:
                    raise Unavailable("others hold the record's tables, as a back-up does: migrate later") from error
                time.sleep(random.uniform(0, 1))  # noqa: S311 - spreads rivals, hides nothing


def current(database: Database) -> str | None:
    """The revision that the database is at, or None before the first migration."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """The revision that this code wants."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def differences(database: Database) -> list[object]:
    """What autogenerate would change: empty when the models and the database agree."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": known_table, "compare_type": True})
        return list(compare_metadata(context, METADATA))


def known_table(name: str | None, kind: str, parents: object) -> bool:
    """Keeps autogenerate from dropping what no model knows: other tables, and the indexes of the full-text search."""
    if kind == "index":
        return not (name or "").startswith("ix_search_")
    return kind != "table" or name in METADATA.tables


@contextmanager
def _only_one(database: Database) -> Iterator[None]:
    if database.sqlite:
        path = Path(database.url.database or "").absolute()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.with_name(path.name + ".migrate.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    else:
        # Outside of a transaction, and for as long as it takes: the limits of everyday work are not for this.
        with (
            database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
            unhurried(connection),
        ):
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("SET lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK})
                connection.execute(text("RESET statement_timeout"))
                connection.execute(text("RESET lock_timeout"))
