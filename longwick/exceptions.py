"""`longwick limits`: what single owners may have, for the operator, who needs the record for it and no server."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longwick.settings import Settings
from longwick.tables import print_table
from longwick.wording import clean

if TYPE_CHECKING:
    from longwick.accounts import OwnerLimits

USUAL = "usual"


def limits(
    owner: Annotated[str | None, typer.Argument(help="Whose; all who are an exception, if left out.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=NUMBER...", help="0 is no limit, and NAME=usual what the settings say again."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept (LONGWICK_DATA_DIR).")] = None,
) -> None:
    """What single owners may have, where it is not what the settings say; it holds from now on."""
    from longwick import limits
    from longwick.database import Database

    changed = dict(map(_change, changes or []))
    database = Database(Settings.from_environ(data_dir=data_dir).database)
    if owner and changed:
        database.write(lambda db: limits.make_exception(db, owner, changed))
    found = [one for one in database.read(limits.exceptions) if owner in (None, one.owner)]
    if not found:
        typer.echo(f"the settings hold for {clean(owner) if owner else 'everybody'}", err=True)
        return
    columns: dict[str, Callable[[OwnerLimits], str]] = {"OWNER": lambda one: one.owner}
    for name in limits.EXCEPTIONAL:
        columns[name] = lambda one, name=name: _shown(getattr(one, name))  # type: ignore[misc]
    print_table(columns, found)


def _change(change: str) -> tuple[str, float | None]:
    name, _, limit = change.partition("=")
    try:
        return name, None if limit == USUAL else float(limit)
    except ValueError:
        raise typer.BadParameter(f"{change!r} is not of the form NAME=NUMBER, or NAME={USUAL}") from None


def _shown(limit: float | None) -> str:
    if limit is None:
        return USUAL
    return f"{limit:.15g}" if limit else "none"
