"""Tables and lines of JSON on standard output."""

import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from longwick.wording import clean

PIPE_WIDTH = 200

T = TypeVar("T")


def print_table(columns: dict[str, Callable[[T], str]], rows: Iterable[T]) -> None:
    """Columns of text; the last one takes what is left of the line."""
    console = Console(highlight=False)
    if not sys.stdout.isatty():
        console.width = PIPE_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    *names, last = columns
    for name in names:
        table.add_column(name, no_wrap=True)
    table.add_column(last)
    for row in rows:
        cells = (clean(shown(row)) for shown in columns.values())
        # The column may shrink, as the others may not; the text in it must not wrap then.
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
    console.print(table)


def print_lines(lines: Iterable[str]) -> None:
    """One for each thing."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
