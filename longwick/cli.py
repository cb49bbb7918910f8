"""The `longwick` command: what runs on this machine. (The commands of a client are in longwick/commands.py.)

The record's libraries take a second to import: only the commands that need them do it.
"""

import os
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from longwick import __version__, commands, exceptions, keyring, wording
from longwick.errors import LongwickError
from longwick.settings import Settings

if TYPE_CHECKING:
    from longwick.database import Database
    from longwick.storage import Storage

app = typer.Typer(
    help="Runs CLI agents behind a web chat, as durable jobs.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(commands.app)
app.add_typer(keyring.app, name="keys")

Host = Annotated[str | None, typer.Option(help="The address to listen on (LONGWICK_HOST).")]
Port = Annotated[int | None, typer.Option(help="The port to listen on (LONGWICK_PORT); 0 takes a free one.")]
DataDir = Annotated[Path | None, typer.Option(help="Where everything is kept (LONGWICK_DATA_DIR).")]


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Leave out Flower.")] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Everything on this machine, with one command: Valkey, migrations, web page, MCP server, worker and Flower."""
    from longwick import embedded, logs

    settings = Settings.from_environ(host=host, port=port, data_dir=data_dir)
    logs.configure(settings.model_copy(update={"log_format": "text"}), "up")

    def when_ready(url: str) -> None:
        typer.echo(f"\n  Longwick is ready: {url}\n", err=True)
        if open_page:
            webbrowser.open(url)

    embedded.up(settings, _say, when_ready, with_flower=not no_flower)


@app.command()
def migrate() -> None:
    """Bring the record to the newest schema; safe to run twice, at once, and while older code runs."""
    from longwick import schema
    from longwick.database import Database

    settings = Settings.from_environ()
    database = Database(settings.database)
    schema.upgrade(database)
    typer.echo(f"the record is at revision {schema.current(database)}")


app.command()(exceptions.limits)


@app.command()
def web(host: Host = None, port: Port = None) -> None:
    """The web tier alone: HTTP, streams and the page."""
    _become("web", **{"--host": host, "--port": port})


@app.command()
def mcp(host: Host = None, port: Port = None) -> None:
    """The MCP server alone: what agents call back."""
    _become("mcp_server", **{"--host": host, "--port": port})


@app.command()
def worker(
    lanes: Annotated[str | None, typer.Option(help="chat, background, or both with a comma.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Runs at once (LONGWICK_CONCURRENCY).")] = None,
) -> None:
    """The worker tier alone: runs agents."""
    _become("worker", **{"--lanes": lanes, "--concurrency": concurrency})


@app.command()
def flower(
    host: Annotated[str | None, typer.Option(help="The address to listen on; 127.0.0.1 if left out.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on (LONGWICK_FLOWER_PORT).")] = None,
) -> None:
    """Flower alone: shows the runs as tasks of Celery, to whoever has its password."""
    _become("longwick.flower", **{"--host": host, "--port": port})


@app.command()
def doctor(
    data_dir: DataDir = None,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON for each finding, for a pipe.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="Look at the whole record instead, run by run.")] = False,
) -> None:
    """What is installed, reachable and safe, in words; the exit status is 1 when something is wrong."""
    from longwick.doctor import examine, examine_record, report

    if report(examine_record(data_dir) if audit else examine(data_dir), json=json):
        raise typer.Exit(1)


@app.command()
def prune(
    data_dir: DataDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove what is older than the settings keep, now; workers do it by themselves, now and then."""
    from longwick.retention import Pruning

    with _record_and_storage(data_dir) as (database, storage, settings):
        pruning = Pruning(database, storage, settings, dry=dry_run)
        for steps in (pruning.rows(), pruning.files()):
            for step in steps:
                typer.echo(f"{'would remove' if dry_run else 'removed'} {step.removed:,} {step.words}")


BackUp = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the back-up is.", file_okay=False)]


@app.command()
def backup(
    folder: BackUp,
    data_dir: DataDir = None,
    no_files: Annotated[bool, typer.Option("--no-files", help="The record alone.")] = False,
) -> None:
    """Copy the record and its files, while everything runs; what an older back-up has there is not copied again."""
    from longwick.backup import back_up

    with _record_and_storage(data_dir) as (database, storage, _):
        about = back_up(database, storage, folder, _say, with_files=not no_files)
    if about.lacking:
        raise typer.Exit(1)


@app.command()
def restore(folder: BackUp, data_dir: DataDir = None) -> None:
    """Make an empty record, and a data dir without files, what they were in a back-up."""
    from longwick.backup import restore as restore_from

    with _record_and_storage(data_dir) as (database, storage, settings):
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = restore_from(database, storage, folder, _say)
    if about.lacking:
        raise typer.Exit(1)


@contextmanager
def _record_and_storage(data_dir: Path | None) -> Iterator[tuple["Database", "Storage", Settings]]:
    from longwick.database import Database
    from longwick.storage import storage_of

    settings = Settings.from_environ(data_dir=data_dir)
    database = Database(settings.database)
    try:
        yield database, storage_of(settings), settings
    finally:
        database.dispose()


def _say(words: str) -> None:
    typer.echo(f"longwick: {words}", err=True)


@app.command()
def top(
    data_dir: DataDir = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One look, and no more.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One look, as a line of JSON for a pipe.")] = False,
) -> None:
    """Workers, queues and runs of all owners, live; q ends it. It reads the record, as `doctor` does."""
    from longwick import top as view

    view.top(data_dir, seconds=every, once=once, json=json)


@app.command()
def version() -> None:
    """The version of Longwick."""
    typer.echo(__version__)


def _become(module: str, **options: object) -> NoReturn:
    """Turn into a tier's process; it is reached by name, for this package imports no tier."""
    given = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *given])  # noqa: S606 - our own modules


def main() -> None:
    """Run the command; what went wrong is said in a line."""
    try:
        app()
    except LongwickError as error:
        typer.echo(f"longwick: {wording.clean(error.detail)}", err=True)
        sys.exit(1)
