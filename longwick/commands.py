"""The commands that talk to a server as any client does: `run`, `attach`, `approvals`, `artifacts`, …"""

import math
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from longwick import completion
from longwick.attendance import Interrupts, attend, start_cancelling
from longwick.client import Artifact, Client, Run
from longwick.client.answers import ACTIVE, Used
from longwick.errors import LongwickError
from longwick.tables import print_lines, print_table
from longwick.terminal import JsonView, LiveView, PipeView, View
from longwick.wording import age_of, brief, clean, size_of

app = typer.Typer()
artifacts = typer.Typer(help="The files that agents saved.", no_args_is_help=True)
app.add_typer(artifacts, name="artifacts")

EXIT_STATUS = {"succeeded": 0, "cancelled": 130}


def _client() -> Client:
    # Somebody is there who can press Ctrl-C.
    return Client(patience_seconds=math.inf)


Json = Annotated[bool, typer.Option("--json", help="One line of JSON for each thing, for a pipe.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id: run_…", autocompletion=completion.runs)]
ApprovalId = Annotated[str, typer.Argument(metavar="APPROVAL", help="Its id: apr_…", autocompletion=completion.pending)]
SaveTo = Annotated[Path | None, typer.Option("--save-to", help="Save its files into this folder.", file_okay=False)]


@app.command()
def run(
    text: Annotated[str, typer.Argument(help="What the agent shall do; - reads it from standard input.")],
    agent: Annotated[str | None, typer.Option(help="Who shall do it.", autocompletion=completion.agents)] = None,
    thread: Annotated[str | None, typer.Option(help="Go on with this conversation: thr_…")] = None,
    background: Annotated[bool, typer.Option("--background", help="Print its id and come back at once.")] = False,
    json: Json = False,
    save_to: SaveTo = None,
) -> None:
    """Have an agent do something, and watch. Ctrl-C cancels it; the exit status tells how it ended."""
    if background and save_to:
        raise typer.BadParameter(
            "nothing is saved in the background: `artifacts get` does it later", param_hint="--save-to"
        )
    asked = sys.stdin.read() if text == "-" else text
    with _client() as client, Interrupts() as interrupts:
        started = client.create_run(asked, thread_id=thread, agent=agent, kind="background" if background else None)
        if background:
            typer.echo(started.model_dump_json() if json else started.id)
            return
        _watch(client, started, json, interrupts, save_to=save_to, cancels=True)


@app.command()
def attach(run_id: RunId, json: Json = False, save_to: SaveTo = None) -> None:
    """Watch a run from its beginning, also one that is over. Ctrl-C leaves; the run goes on."""
    with _client() as client, Interrupts() as interrupts:
        _watch(client, client.get_run(run_id), json, interrupts, save_to=save_to, cancels=False)


def _watch(
    client: Client, run: Run, json: bool, interrupts: Interrupts, *, save_to: Path | None, cancels: bool
) -> NoReturn:
    """Show a run to its end, save its files, and exit as it ended."""
    view = _view(json)

    def cancel() -> None:
        view.state("cancelling; Ctrl-C again leaves at once")
        start_cancelling(client, run.id)

    def leave() -> None:
        raise KeyboardInterrupt

    try:
        ended = attend(client, run.id, view, interrupts, interrupt=cancel if cancels else leave)
    except KeyboardInterrupt:
        typer.echo(
            f"longwick: left; `longwick attach {run.id}` comes back, `longwick cancel {run.id}` ends it", err=True
        )
        raise typer.Exit(130) from None
    status = EXIT_STATUS.get(ended or client.get_run(run.id).status, 1)
    if save_to is not None and not _save(client, _newest(client.list_artifacts(run.id)), save_to, overwrite=False):
        status = status or 1
    raise typer.Exit(status)


def _view(json: bool) -> View:
    if json:
        return JsonView()
    return LiveView(sys.stdout) if sys.stdout.isatty() and not Console().is_dumb_terminal else PipeView()


@app.command()
def ps(
    all_runs: Annotated[bool, typer.Option("--all", "-a", help="Those that are over, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """What runs and what waits, newest first."""
    with _client() as client:
        found = _in_turn(client.list_runs(status=() if all_runs else ACTIVE, limit=limit))
    if json:
        print_lines(run.model_dump_json() for run in found)
        return
    if not found:
        typer.echo(
            "nothing has run here yet" if all_runs else "nothing runs or waits (--all shows what is over)", err=True
        )
        return
    print_table(
        {
            "RUN": lambda run: run.id,
            "STATUS": lambda run: run.status,
            "AGENT": lambda run: run.agent,
            "KIND": lambda run: run.kind,
            "TURN": lambda run: str(run.turn),
            "MADE": lambda run: age_of(run.created_at),
            "TOOK": lambda run: f"{run.duration.total_seconds():.0f} s" if run.duration is not None else "",
            "WHAT": lambda run: brief(run.input, 200),
        },
        found,
    )


def _in_turn(found: list[Run]) -> list[Run]:
    """Runs that come newest first; those of a thread in the order of their turns, which may have been edited."""
    of_thread: dict[str, list[Run]] = {}
    for run in sorted(found, key=lambda run: run.turn):
        of_thread.setdefault(run.thread_id, []).append(run)
    return [of_thread[run.thread_id].pop() for run in found]


@app.command()
def usage(json: Json = False) -> None:
    """What you may have, and how much of it is used."""
    with _client() as client:
        found = client.usage()
    if json:
        typer.echo(found.model_dump_json())
        return
    amounts = [(name.replace("_", " "), amount) for name, amount in found if isinstance(amount, Used)]
    print_table(
        {
            "WHAT": lambda row: row[0],
            "USED": lambda row: f"{row[1].used:.15g}",
            "LIMIT": lambda row: "none" if row[1].limit is None else f"{row[1].limit:.15g}",
        },
        amounts,
    )
    tokens, resets = sum(found.tokens_today.values()), found.resets_at.astimezone()
    typer.echo(f"{tokens} tokens today, which ends {resets:%Y-%m-%d %H:%M}", err=True)


@app.command()
def cancel(run_id: RunId) -> None:
    """Stop a run. What it has done is kept."""
    with _client() as client:
        run = client.cancel_run(run_id)
    typer.echo("it is cancelled" if run.over else "it is being cancelled", err=True)


@app.command()
def say(
    run_id: RunId, text: Annotated[str, typer.Argument(help="What it is told; - reads it from standard input.")]
) -> None:
    """Say more to a run at work. What does not reach its agent in time is the thread's next run."""
    with _client() as client:
        told = client.say(run_id, sys.stdin.read() if text == "-" else text)
    typer.echo("its agent has it" if told.delivered else "its agent gets it when it can take it", err=True)


@app.command()
def approvals(json: Json = False) -> None:
    """What agents ask leave for, newest first: `longwick allow` and `longwick deny` answer."""
    with _client() as client:
        found = client.list_approvals(limit=None)
    if json:
        print_lines(approval.model_dump_json() for approval in found)
        return
    if not found:
        typer.echo("nobody asks for anything", err=True)
        return
    print_table(
        {
            "APPROVAL": lambda approval: approval.id,
            "RUN": lambda approval: approval.run_id,
            "ASKED": lambda approval: age_of(approval.created_at),
            "WHAT": lambda approval: f"{approval.tool}({brief(approval.input, 1000)})",
        },
        found,
    )


@app.command()
def allow(approval_id: ApprovalId) -> None:
    """Let an agent use the tool that it asks for, this once."""
    _decide(approval_id, "allow", None)


@app.command()
def deny(
    approval_id: ApprovalId,
    message: Annotated[str | None, typer.Option("--message", "-m", help="What the agent is told.")] = None,
) -> None:
    """Do not let it; the agent goes on without."""
    _decide(approval_id, "deny", message)


def _decide(approval_id: str, decision: str, message: str | None) -> None:
    with _client() as client:
        decided = client.decide(approval_id, decision, message=message)
    typer.echo(f"{decided.status}: {clean(decided.tool)}({brief(decided.input, 200)})", err=True)


@artifacts.command("ls")
def list_(
    of: Annotated[str, typer.Argument(metavar="RUN|THREAD", help="run_… or thr_…", autocompletion=completion.runs)],
    json: Json = False,
) -> None:
    """The files of a run or of a conversation, newest first, all versions."""
    with _client() as client:
        found = client.list_artifacts(of)
    if json:
        print_lines(artifact.model_dump_json() for artifact in found)
        return
    if not found:
        typer.echo("no files", err=True)
        return
    print_table(
        {
            "ARTIFACT": lambda file: file.id,
            "VERSION": lambda file: str(file.version),
            "SIZE": lambda file: size_of(file.size),
            "TYPE": lambda file: file.media_type,
            "MADE": lambda file: age_of(file.created_at),
            "NAME": lambda file: file.name,
        },
        found,
    )


@artifacts.command()
def get(
    of: Annotated[list[str], typer.Argument(metavar="ARTIFACT|RUN|THREAD...", help="art_…, or all of run_… or thr_…")],
    save_to: Annotated[Path, typer.Option("--save-to", help="The folder.", file_okay=False)] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print what is in them instead.")] = False,
) -> None:
    """Save files into a folder; of a run or a conversation the newest version of each."""
    with _client() as client:
        found = [file for name in of for file in _named(client, name)]
        if stdout:
            for file in found:
                content = client.read_artifact(file.id)
                # A terminal does what some bytes say.
                sys.stdout.buffer.write(
                    clean(content.decode(errors="replace")).encode() if sys.stdout.isatty() else content
                )
        elif not _save(client, found, save_to, overwrite=force):
            raise typer.Exit(1)


def _named(client: Client, name: str) -> list[Artifact]:
    if name.startswith("art_"):
        return [client.get_artifact(name)]
    return _newest(client.list_artifacts(name))


def _newest(files: list[Artifact]) -> list[Artifact]:
    """The newest version of each file, of a list that has the newest first."""
    newest: dict[str, Artifact] = {}
    for file in files:
        newest.setdefault(file.name, file)
    return list(newest.values())


def _save(client: Client, files: list[Artifact], folder: Path, *, overwrite: bool) -> bool:
    """Save what can be saved and say so; whether that was all of it."""
    whole = True
    for file in files:
        try:
            path = client.save_artifact(file, folder, overwrite=overwrite)
        except LongwickError as error:
            whole = False
            typer.echo(f"longwick: not saved: {clean(error.detail)}", err=True)
        else:
            typer.echo(f"saved {clean(str(path))}", err=True)
    return whole
