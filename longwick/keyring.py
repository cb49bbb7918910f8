"""`longwick keys`: who may get in, for the operator, who needs the record for it and no server."""

import json as jsonlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longwick.errors import BadSetting
from longwick.kinds import Scope
from longwick.settings import Settings
from longwick.tables import print_lines, print_table
from longwick.times import rfc3339
from longwick.wording import age_of, clean

if TYPE_CHECKING:
    from longwick.database import Database
    from longwick.entrance import ApiKey

app = typer.Typer(help="Who may get in: keys of owners.", no_args_is_help=True)

UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

DataDir = Annotated[Path | None, typer.Option(help="Where everything is kept (LONGWICK_DATA_DIR).")]
Named = Annotated[str, typer.Argument(metavar="KEY", help="Its id or its prefix, as `keys list` shows them.")]


@app.command()
def create(
    owner: Annotated[str, typer.Option(help="Whose it is; `local` has all that was made before there were keys.")],
    name: Annotated[str, typer.Option(help="What it is for, as lists show it.")] = "",
    scope: Annotated[list[Scope] | None, typer.Option(help="May be repeated; read and write if left out.")] = None,
    expires: Annotated[str | None, typer.Option(help="After how long: 90d, 12h; never if left out.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, this once. From the first one on nobody gets in without."""
    from longwick import keys

    lifetime = _lifetime(expires) if expires else None
    with _record(data_dir) as record:
        made = record.write(lambda db: keys.create(db, owner, name=name, scopes=scope or (), lifetime=lifetime))
    until = f"until {rfc3339(made.key.expires_at)}" if made.key.expires_at else "until it is revoked"
    typer.echo(f"{made.key.owner} may {made.key.scopes.replace(' ', ' and ')} with this {until}:", err=True)
    typer.echo(made.text)
    typer.echo("it is kept nowhere: put it away safely now", err=True)


@app.command(name="list")
def list_(
    json: Annotated[bool, typer.Option("--json", help="One line of JSON for each.")] = False, data_dir: DataDir = None
) -> None:
    """All keys that there are, revoked ones too, newest first."""
    from longwick import keys

    with _record(data_dir) as record:
        found = record.read(keys.list_keys)
    if json:
        print_lines(jsonlib.dumps(_shown(key)) for key in found)
        return
    if not found:
        typer.echo("there are no keys: whoever is on this machine gets in, and nobody else", err=True)
        return
    columns: dict[str, Callable[[ApiKey], str]] = {
        "KEY": lambda key: key.prefix,
        "OWNER": lambda key: key.owner,
        "MAY": lambda key: key.scopes,
        "MADE": lambda key: age_of(key.created_at),
        "USED": lambda key: age_of(key.last_used_at) if key.last_used_at else "never",
        "STATE": _state,
        "NAME": lambda key: key.name,
    }
    print_table(columns, found)


@app.command()
def revoke(key: Named, data_dir: DataDir = None) -> None:
    """Refuse a key from now on; what is open by it is closed within seconds."""
    from longwick import keys

    with _record(data_dir) as record:
        revoked = record.write(lambda db: keys.revoke(db, key))
    typer.echo(f"{revoked.prefix} of {clean(revoked.owner)} lets nobody in any more", err=True)


@app.command()
def delete(key: Named, data_dir: DataDir = None) -> None:
    """Forget a key altogether; without any, whoever is on this machine gets in again."""
    from longwick import keys

    with _record(data_dir) as record:
        removed = record.write(lambda db: keys.remove(db, key))
    typer.echo(f"{removed.prefix} of {clean(removed.owner)} is forgotten", err=True)


@contextmanager
def _record(data_dir: Path | None) -> "Iterator[Database]":
    """The record, which is made where there is none yet: the first key may come before the first start."""
    from longwick import schema
    from longwick.database import Database

    database = Database(Settings.from_environ(data_dir=data_dir).database)
    try:
        if database.sqlite and not Path(database.url.database or "").exists():
            schema.upgrade(database)
        elif schema.current(database) != schema.newest():
            raise BadSetting("the record is not at the schema of this Longwick: run `longwick migrate`")
        yield database
    finally:
        database.dispose()


def _lifetime(given: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", given)
    if found is None:
        raise typer.BadParameter(f"{given!r} is no length of time like 90d, 12h or 30m", param_hint="--expires")
    return int(found[1]) * UNITS[found[2]]


def _state(key: "ApiKey") -> str:
    if key.revoked_at:
        return "revoked"
    if key.expires_at is None:
        return "good"
    return f"until {rfc3339(key.expires_at)[:16]}" if key.expires_at > datetime.now(UTC) else "over"


def _shown(key: "ApiKey") -> dict[str, object]:
    moments = {
        name: rfc3339(moment) if moment else None
        for name in ("created_at", "expires_at", "last_used_at", "revoked_at")
        for moment in [getattr(key, name)]
    }
    facts = {"id": key.id, "prefix": key.prefix, "owner": key.owner, "name": key.name}
    return {**facts, "scopes": key.scopes.split(), **moments}
