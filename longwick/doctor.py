"""A look at everything that Longwick needs on this machine: what is installed, reachable and safe, in words.

It asks and reads; it starts and repairs nothing, and makes nothing but an object in a bucket, to see that it may.
"""

import json as jsonlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import redis
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from longwick import __version__, agents, binaries, exposure, isolation, schema, valkey
from longwick.audit import Audited, audit
from longwick.broadcast import connect
from longwick.client import Client
from longwick.database import Database
from longwick.errors import BadSetting, LongwickError
from longwick.profiles import Profile
from longwick.settings import Settings, is_loopback
from longwick.storage import find_fault, storage_of
from longwick.wording import clean, size_of

PROGRAM_SECONDS = 10.0
FULL_BYTES = 256 * 2**20
LOW_BYTES = 2 * 2**30
PIPE_WIDTH = 300
OTHERS_REACH, OTHERS_WRITE = 0o001, 0o002
NOT_THE_OWNER = 0o077


class Level(StrEnum):
    """How a finding is meant."""

    OK = "ok"
    CARE = "care"
    WRONG = "wrong"


_MARKS = {Level.OK: ("✓", "green"), Level.CARE: ("!", "yellow"), Level.WRONG: ("✗", "red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of one part, and what to do about it."""

    part: str
    level: Level
    words: str


def examine(data_dir: Path | None = None) -> Iterator[Finding]:
    """Look at one part after another, each as far as the ones before it allow."""
    yield Finding("python", Level.OK, f"{platform.python_version()} at {sys.executable}, with Longwick {__version__}")
    try:
        settings = Settings.from_environ(data_dir=data_dir)
    except BadSetting as error:
        yield Finding("settings", Level.WRONG, error.detail)
        return
    yield from _programs(settings)
    yield _address(settings)
    yield from _data_dir(settings.data_dir)
    yield _space(settings.data_dir)
    record = _record(settings)
    yield record
    if record.level is Level.OK:
        yield _entrance(settings)
    if settings.storage_url:
        fault = find_fault(storage_of(settings))
        yield Finding("files", Level.WRONG if fault else Level.OK, fault or "the object store takes them")
    yield from _redis(settings)
    yield from _server(settings)


def examine_record(data_dir: Path | None = None) -> Iterator[Finding]:
    """Hold all that is in the record and the storage to what Longwick promises of it."""
    try:
        settings = Settings.from_environ(data_dir=data_dir)
    except BadSetting as error:
        yield Finding("settings", Level.WRONG, error.detail)
        return
    record = _record(settings)
    yield record
    if record.level is not Level.OK:
        return
    database, audited, kept = Database(settings.database), Audited(), True
    try:
        for violation in audit(database, storage_of(settings), audited):
            kept = False
            yield Finding("audit", Level.WRONG, f"{violation.subject}: {violation.promise}: {violation.words}")
    except LongwickError as error:
        yield Finding("audit", Level.WRONG, error.detail)
        return
    finally:
        database.dispose()
    looked_at = f"{audited.runs:,} runs with {audited.events:,} events, and {audited.files:,} files"
    yield Finding("audit", Level.OK if kept else Level.WRONG, f"{looked_at}: {'all is' if kept else 'not all is'} well")


def report(findings: Iterable[Finding], *, json: bool) -> bool:
    """Print what was found, as it is found; whether something is wrong."""
    console = Console(highlight=False, markup=False)
    if not sys.stdout.isatty():
        console.width = PIPE_WIDTH
    wrong = False
    for finding in findings:
        wrong = wrong or finding.level is Level.WRONG
        if json:
            sys.stdout.write(jsonlib.dumps(asdict(finding)) + "\n")
            continue
        mark, style = _MARKS[finding.level]
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        row.add_column(width=9)
        row.add_column(overflow="fold")
        row.add_row(Text(mark, style), Text(finding.part, "bold"), clean(finding.words))
        console.print(row)
    return wrong


def _programs(settings: Settings) -> Iterator[Finding]:
    """The two programs from outside of Python."""
    if settings.redis_url:
        yield Finding("valkey", Level.OK, "not needed: LONGWICK_REDIS_URL names a server")
    else:
        yield _program("valkey", lambda: [str(valkey._server_binary()), "--version"])
    kept = isolation.of(settings.sandbox)
    yield Finding("sandbox", Level.OK if kept.bwrap else Level.CARE, kept.bwrap or f"agents have none: {kept.reason}")
    yield _program("setpriv", lambda: [valkey._setpriv(), "--pdeathsig", "KILL", "--", "true"])


def _program(name: str, command: Callable[[], list[str]]) -> Finding:
    """Whether a program is there and runs."""
    try:
        words = command()
        done = subprocess.run(words, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False)  # noqa: S603 - ours
    except BadSetting as error:
        return Finding(name, Level.WRONG, error.detail)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, Level.WRONG, f"does not run: {error}")
    if done.returncode:
        return Finding(name, Level.WRONG, f"{words[0]} does not run: {done.stderr.strip() or done.returncode}")
    return Finding(name, Level.OK, words[0])


def _address(settings: Settings) -> Finding:
    if is_loopback(settings.host):
        return Finding("address", Level.OK, f"{settings.host} can be reached from this machine only")
    words = f"{settings.host} can be reached from other machines: keys travel in the clear but behind a proxy with TLS"
    return Finding("address", Level.CARE, words)


def _entrance(settings: Settings) -> Finding:
    """Who may get in; to be asked of a record that is well."""
    database = Database(settings.database)
    try:
        exposure.check_bind(settings, settings.host, database)
        return Finding("entrance", Level.OK, f"lets in {exposure.in_words(settings, database)}")
    except LongwickError as error:
        return Finding("entrance", Level.WRONG, error.detail)
    finally:
        database.dispose()


def _data_dir(folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        yield Finding("data dir", Level.OK, f"{folder} is not there yet; `longwick up` makes it")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("data dir", Level.WRONG, f"{folder} cannot be read and written by this user")
        return
    mode = folder.stat().st_mode
    if mode & OTHERS_WRITE:
        words = f"{folder} can be changed by every user of this machine; chmod 700 it"
        yield Finding("data dir", Level.WRONG, words)
    elif all(place.stat().st_mode & OTHERS_REACH for place in [folder, *folder.parents]):
        words = f"every user of this machine gets into {folder}; chmod 700 it if there are others"
        yield Finding("data dir", Level.CARE, words)
    else:
        yield Finding("data dir", Level.OK, f"{folder} is private")
    for secret in (folder / "valkey" / "valkey.conf", folder / "flower.password"):
        if secret.exists() and secret.stat().st_mode & NOT_THE_OWNER:
            yield Finding("data dir", Level.WRONG, f"{secret} has a password and can be read by others; chmod 600 it")


def _space(folder: Path) -> Finding:
    place = next(place for place in [folder, *folder.parents] if place.exists())
    free = shutil.disk_usage(place).free
    words = f"{size_of(free)} are free for {folder}"
    if free < FULL_BYTES:
        return Finding("disk", Level.WRONG, f"{words}: runs will fail")
    return Finding("disk", Level.CARE if free < LOW_BYTES else Level.OK, words)


def _record(settings: Settings) -> Finding:
    try:
        with ExitStack() as leaving:
            database = Database(settings.database)
            leaving.callback(database.dispose)
            shown = database.url.render_as_string(hide_password=True)
            # A look would make the file.
            if database.sqlite and not Path(database.url.database or "").exists():
                words = f"{shown} is not there yet; `longwick up` or `longwick migrate` makes it"
                return Finding("record", Level.CARE, words)
            database.read(lambda db: db.connection())
            current, newest = schema.current(database), schema.newest()
    except LongwickError as error:
        return Finding("record", Level.WRONG, error.detail)
    except SQLAlchemyError as error:
        return Finding("record", Level.WRONG, f"cannot be read: {getattr(error, 'orig', None) or error}")
    if current != newest:
        words = f"{shown} is at revision {current}, and this Longwick wants {newest}: run `longwick migrate`"
        return Finding("record", Level.WRONG, f"{words}, or a newer Longwick where the record is the newer one")
    return Finding("record", Level.OK, f"{shown} is at the newest revision, {current}")


def _redis(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir / "valkey"
    if not settings.redis_url and not (folder / "valkey.conf").exists():
        yield Finding("redis", Level.CARE, "`longwick up` has not started one here yet")
        return
    url = urlsplit(settings.redis_url or valkey.Valkey(folder).url)
    place = url.path if url.scheme == "unix" else f"{url.hostname}:{url.port or 6379}"
    try:
        with connect(url.geturl()) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        yield Finding("redis", Level.WRONG, f"{place} does not answer: {error}; what is accepted waits")
        return
    yield Finding("redis", Level.OK, f"{place} answers")
    if url.scheme != "unix" and not is_loopback(url.hostname or "localhost"):
        if not url.password:
            yield Finding("redis", Level.CARE, f"{place} asks for no password, and is inside the trust boundary")
        if url.scheme != "rediss":
            yield Finding("redis", Level.CARE, f"{place} is reached without encryption: rediss:// has it")


def _server(settings: Settings) -> Iterator[Finding]:
    """What a client meets: the web tier, and through it the others."""
    with Client() as client:
        try:
            health = client.health()
            listed = {agent.id: None if agent.available else agent.reason or "" for agent in client.list_agents()}
        except LongwickError as error:
            yield Finding("web", Level.WRONG, error.detail)
            health, listed = None, None
    if health is not None:
        level = Level.WRONG if health.status == "unavailable" else Level.OK
        yield Finding("web", level, f"{client.url} answers: {health.status}")
        for part, words in health.checks.items():
            if part in ("worker", "mcp") or words != "ok":
                yield Finding(part, Level.OK if words == "ok" else Level.WRONG, f"the web tier says: {words}")
    yield from _agents(settings, listed)


def _agents(settings: Settings, listed: dict[str, str | None] | None) -> Iterator[Finding]:
    """Which agents can run, by the server's word, or else by what is on this machine."""
    try:
        profiles = agents.load(settings)
    except BadSetting as error:
        kept = " (a server that runs keeps the agents it had)" if listed is not None else ""
        yield Finding("agents", Level.WRONG, error.detail + kept)
        profiles = {}
    yield from _versions(profiles)
    if listed is None:
        listed = {agent: profile.unavailable() for agent, profile in profiles.items()}
    if not listed:
        return
    able = [agent for agent, reason in listed.items() if reason is None]
    yield Finding("agents", Level.OK if able else Level.WRONG, f"can run: {', '.join(able) or 'none'}")
    for agent, reason in listed.items():
        if reason is not None:
            yield Finding("agents", Level.CARE, f"{agent} cannot run: {reason}")


def _versions(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Which Claude Code and which Codex there are on this machine."""
    programs = {(p.adapter, p.command[0]) for p in profiles.values() if p.adapter in binaries.TRIED and p.command}
    for adapter, program in sorted(programs):
        version, tried = binaries.version(program), binaries.TRIED[adapter]
        if version is None:
            yield Finding("agents", Level.CARE, f"{program} does not say which version of {adapter} it is")
        elif version in tried:
            yield Finding("agents", Level.OK, f"{program} is {adapter} {version}")
        else:
            words = f"{program} is {adapter} {version}, with which Longwick was never tried; {' and '.join(tried)} were"
            yield Finding("agents", Level.CARE, words)
