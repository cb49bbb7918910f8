"""`longwick top`: how everything stands, on a terminal, looked at again and again. It asks nothing but the record."""

import json as jsonlib
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from longwick.database import Database
from longwick.errors import BadSetting, LongwickError
from longwick.settings import Settings
from longwick.standing import AtWork, Standing, Watcher
from longwick.wording import age_of, clean

ENDS = Text("\nq ends", "dim")
OTHER_LINES = 10
"""What stands around the tables' rows: titles, headings, and lines between."""
LEAST_RUNS = 3
PIPE_WIDTH = 200
MAY_SHRINK = {"WORKER", "ROOM", "AGENTS", "OWNER", "AGENT"}
QUIET_SECONDS = 10.0
"""After so long without a beat, a worker is marked."""


class Beats:
    """How long ago each worker has beaten, as far as it was seen to."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float | None]] = {}

    def see(self, workers: Sequence[AtWork]) -> None:
        """Take note of the beats as they are now."""
        now = time.monotonic()
        seen = {}
        for worker in workers:
            beat, at = self._seen.get(worker.id, (worker.beat, None))
            seen[worker.id] = (worker.beat, now) if beat != worker.beat else (beat, at)
        self._seen = seen

    def ago(self, worker: AtWork) -> float | None:
        """Seconds, or None where none was seen yet."""
        at = self._seen[worker.id][1]
        return None if at is None else time.monotonic() - at


def top(data_dir: Path | None, *, seconds: float, once: bool, json: bool) -> None:
    """Show how everything stands: once, or until somebody presses q or Ctrl-C.

    Raises:
        BadSetting: a setting is wrong, or there is no record.
        Unavailable: the record does not answer; who watches is told so and goes on watching.
    """
    settings = Settings.from_environ(data_dir=data_dir)
    database = Database(settings.database)
    if database.sqlite and not Path(database.url.database or "").exists():
        raise BadSetting(f"there is no record at {database.url.database} (LONGWICK_DATA_DIR, LONGWICK_DATABASE_URL)")
    watcher, beats = Watcher(), Beats()
    # Whatever else the environment wishes for, a terminal is one.
    console = Console(highlight=False, markup=False, force_terminal=sys.stdout.isatty())
    try:
        if json:
            sys.stdout.write(jsonlib.dumps(asdict(database.read(watcher.look)), default=datetime.isoformat) + "\n")
        elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            if not sys.stdout.isatty():
                console.width = PIPE_WIDTH
            standing = database.read(watcher.look)
            beats.see(standing.workers)
            console.print(frame(standing, beats, most_runs=len(standing.runs)))
        else:
            _watch(database, watcher, beats, console, seconds)
    finally:
        database.dispose()


def _watch(database: Database, watcher: Watcher, beats: Beats, console: Console, seconds: float) -> None:
    shown: RenderableType = ""
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                standing = database.read(watcher.look)
                beats.see(standing.workers)
                rows = console.height - OTHER_LINES - len(standing.workers) - len(standing.queues)
                shown = frame(standing, beats, most_runs=max(LEAST_RUNS, rows))
                live.update(Group(shown, ENDS), refresh=True)
            except LongwickError as error:
                live.update(Group(Text(f"! {clean(error.detail)}", "red"), shown, ENDS), refresh=True)
            if pressed(seconds) in ("q", "Q"):
                return


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Waits for a key for so many seconds; the terminal is given back as it was."""
    before = termios.tcgetattr(sys.stdin)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(sys.stdin)
        yield pressed
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def frame(standing: Standing, beats: Beats, *, most_runs: int) -> RenderableType:
    """All of it, with so many runs at most."""
    waiting = sum(queue.waiting for queue in standing.queues)
    head = f"{len(standing.workers)} workers · {standing.going} runs · {waiting} wait · {standing.at:%H:%M:%S} UTC"
    runs = standing.runs[:most_runs]
    more = standing.going - len(runs)
    parts: list[RenderableType] = [
        Text(f"longwick top · {head}", "bold"),
        Text(),
        _table(
            {
                "WORKER": lambda worker: f"{worker.host}:{worker.pid}",
                "RUNS": lambda worker: worker.runs,
                "ROOM": lambda worker: " ".join(f"{lane} {room}" for lane, room in worker.room.items()) or "leaving",
                "BEAT": lambda worker: _ago(beats.ago(worker)),
                "UP": lambda worker: age_of(worker.started_at),
                "AGENTS": lambda worker: ", ".join(worker.agents),
            },
            standing.workers,
            lambda worker: "red" if (beats.ago(worker) or 0) > QUIET_SECONDS else "",
        ),
        *([] if standing.workers else [Text("no worker is there: what is accepted waits", "red")]),
        Text(),
    ]
    if standing.queues:
        columns: dict[str, Callable[[Any], object]] = {
            "LANE": lambda queue: queue.lane,
            "OWNER": lambda queue: queue.owner,
            "WAITING": lambda queue: queue.waiting,
            "NEXT": lambda queue: queue.next,
            "OLDEST": lambda queue: age_of(queue.oldest_at),
        }
        parts += [_table(columns, standing.queues), Text()]
    if runs:
        columns = {
            "RUN": lambda run: run.id,
            "OWNER": lambda run: run.owner,
            "AGENT": lambda run: run.agent,
            "STATUS": lambda run: f"{run.status} {run.attempt}" if run.attempt > 1 else run.status,
            "FOR": lambda run: age_of(run.started_at) if run.started_at else "",
            "HEARD": lambda run: age_of(run.last_at) if run.last_at else "",
            "TOKENS": lambda run: "" if run.tokens is None else f"{run.tokens:,}",
            "COST": lambda run: "" if run.cost_usd is None else f"${run.cost_usd:.4g}",
        }
        parts.append(_table(columns, runs))
    if more > 0:
        parts.append(Text(f"… and {more} more", "dim"))
    return Group(*parts)


def _table(
    columns: dict[str, Callable[[Any], object]],
    rows: Sequence[Any],
    style: Callable[[Any], str] = lambda row: "",
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    cells = [[clean(str(shown(row))) for shown in columns.values()] for row in rows]
    for name, column in zip(columns, zip(*cells, strict=True), strict=True) if cells else ():
        # What is typed into other commands, and figures, are whole.
        table.add_column(name, min_width=None if name in MAY_SHRINK else max(map(len, (name, *column))))
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(*(Text(text, no_wrap=True, overflow="ellipsis") for text in texts), style=style(row))
    return table


def _ago(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.0f} s"
