"""A copy of the record and of its files, made while everything runs; and the way back.

The record comes first: each file that the copy lists was in storage before it was listed, and what is copied of the
files is what the copy lists.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import URL, func, inspect, select, text

from longwick import __version__, schema
from longwick.database import Database, unhurried
from longwick.errors import Conflict, Invalid, NotFound, Unavailable
from longwick.hints import forget_hints
from longwick.models import Blob
from longwick.settings import environ_values
from longwick.storage import CHUNK, FolderStorage, Storage

ABOUT = "backup.json"
RECORDS = {"sqlite": "record.db", "postgresql": "record.dump"}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class About:
    """What a back-up says of itself, once it is whole."""

    longwick: str
    engine: str
    revision: str
    files: int
    lacking: int = 0
    """Files that the record lists and storage did not have."""


def back_up(database: Database, storage: Storage, folder: Path, say: Say, *, with_files: bool = True) -> About:
    """Copy the record and its files into a folder: a new one, or one with an older back-up, which this one replaces.

    Files that are there already are not copied again. Until this one is whole, the older one is.

    Raises:
        Conflict: the folder has something else in it.
        LongwickError: something does not answer, or there is no space.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / ABOUT).exists():
        raise Conflict(f"{folder} is not empty, and no back-up")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    record = folder / RECORDS[_engine(database)]
    new = record.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    digests = _copy_sqlite(database, new) if database.sqlite else _dump_postgresql(database, new)
    say(f"the record is copied: {new.stat().st_size:,} bytes")
    lacking = 0
    if with_files:
        lacking = _copy_files(storage, FolderStorage(folder / "blobs"), digests, say)
    about = About(__version__, _engine(database), schema.current(database) or "", len(digests), lacking)
    written = (folder / ABOUT).with_suffix(".new")
    written.write_text(json.dumps(asdict(about), indent=1) + "\n")
    for path in (new, written, folder):
        _sync(path)
    new.replace(record)
    written.replace(folder / ABOUT)
    _sync(folder)
    return about


def restore(database: Database, storage: Storage, folder: Path, say: Say) -> About:
    """Make an empty record and storage what they were in a back-up, the files first; and bring it to the newest schema.

    Raises:
        Invalid: it is no back-up, or one of another engine, or of a newer Longwick.
        Conflict: there is a record, or there are files, already.
        LongwickError: something does not answer, or there is no space.
    """
    try:
        about = About(**json.loads((folder / ABOUT).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise Invalid(f"{folder} has no back-up that is whole") from error
    if about.engine != _engine(database):
        raise Invalid(f"the back-up is of {about.engine}, and LONGWICK_DATABASE_URL is {_engine(database)}")
    if about.revision > (schema.newest() or ""):
        raise Invalid(f"the back-up is of a newer Longwick, {about.longwick}")
    _check_empty(database, storage)
    files = FolderStorage(folder / "blobs")
    digests = [path.name for path in sorted(files.folder.glob("??/*"))]
    lacking = _copy_files(files, storage, digests, say)
    record = folder / RECORDS[about.engine]
    if database.sqlite:
        _place_sqlite(record, Path(database.url.database or ""))
    else:
        _program("pg_restore", database.url, "--no-owner", "--exit-on-error", "--single-transaction", str(record))
    schema.upgrade(database)
    # Whatever was sent is nowhere any more.
    database.write(forget_hints)
    say("the record is restored")
    return replace(about, lacking=lacking)


def _engine(database: Database) -> str:
    return database.url.get_backend_name()


def _check_empty(database: Database, storage: Storage) -> None:
    if isinstance(storage, FolderStorage) and any(storage.folder.glob("??/*")):
        raise Conflict(f"there are files in {storage.folder}: restore into a new data dir")
    if database.sqlite:
        # A look would make the file; and what is left of another's journal would be played into this one.
        record = Path(database.url.database or "")
        there: list[Any] = list(record.parent.glob(f"{record.name}*"))
    else:
        there = database.read(lambda db: inspect(db.connection()).get_table_names())
    if there:
        shown = database.url.render_as_string(hide_password=True)
        raise Conflict(f"there is a record in {shown}: restore into an empty one")


def _copy_sqlite(database: Database, to: Path) -> list[str]:
    database.read(lambda db: db.scalar(select(func.count()).select_from(Blob)))
    try:
        with closing(sqlite3.connect(str(database.url.database))) as source, closing(sqlite3.connect(to)) as target:
            # All at once: one state of the record. Writers go on meanwhile.
            source.backup(target, pages=-1)
            target.execute("PRAGMA journal_mode = DELETE")
            return [row[0] for row in target.execute("SELECT sha256 FROM blobs ORDER BY sha256")]
    except sqlite3.Error as error:
        raise Unavailable(f"the record cannot be copied: {error}") from error


def _place_sqlite(record: Path, to: Path) -> None:
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = to.with_suffix(".restored")
    new.touch(mode=0o600)
    shutil.copyfile(record, new)
    _sync(new)
    new.replace(to)
    _sync(to.parent)


def _dump_postgresql(database: Database, to: Path) -> list[str]:
    # One state of the record for what lists the files, and for what is dumped.
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        with unhurried(connection):
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
            digests = list(connection.scalars(select(Blob.sha256).order_by(Blob.sha256)))
        _program("pg_dump", database.url, "--format=custom", f"--snapshot={snapshot}", f"--file={to}")
        connection.rollback()
    return digests


def _program(name: str, url: URL, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs; the password is seen by nobody who lists processes."""
    shown = url.set(drivername="postgresql", password=None).render_as_string()
    env = environ_values(["PATH", "HOME", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"])
    if url.password:
        env["PGPASSWORD"] = url.password
    try:
        subprocess.run([name, f"--dbname={shown}", *arguments], env=env, check=True, capture_output=True, text=True)  # noqa: S603 - PostgreSQL's
    except FileNotFoundError as error:
        raise Invalid(f"{name} is not installed: it comes with the client programs of PostgreSQL") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{name} failed: {error.stderr.strip()[-500:]}") from error


def _copy_files(source: Storage, target: Storage, digests: list[str], say: Say) -> int:
    """Copy what the target lacks; how many files the source does not have, or has others in their place."""
    lacking, copied = 0, 0
    for sha256 in digests:
        try:
            if not _has(target, sha256):
                _copy_file(source, target, sha256)
                copied += 1
        except NotFound:
            lacking += 1
            say(f"{sha256} is listed, and is not there, or is another file")
    say(f"{copied:,} files are copied, {len(digests) - copied - lacking:,} were there")
    return lacking


def _has(target: Storage, sha256: str) -> bool:
    try:
        with target.open(sha256):
            return True
    except NotFound:
        return False


def _copy_file(source: Storage, target: Storage, sha256: str) -> None:
    with source.open(sha256) as file, target.incoming(limit=2**63) as incoming:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            incoming.write(chunk)
        if digest.hexdigest() != sha256:
            raise NotFound("it is another file")
        incoming.keep()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
