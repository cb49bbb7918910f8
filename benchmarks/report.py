"""The figures as Markdown: beside them the targets, and what was measured of others on the same kind of machine."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import longwick

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: written by python -m benchmarks -->", "<!-- end of figures -->"
MISSED = " ✗"
PROCESSES = ("web", "worker", "mcp_server", "longwick up", "Valkey", "PostgreSQL")

Values = Mapping[str, Sequence[float]]
"""Figure -> its value in each round."""


@dataclass(frozen=True, slots=True)
class Row:
    """A figure, its target, and what agno, Aegra and LangGraph's server did."""

    figure: str
    says: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    others: tuple[str, str, str] = ("", "", "")

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g} {self.unit}"
        return f"≥ {self.at_least:,g} {self.unit}" if self.at_least is not None else ""

    def missed(self, value: float) -> bool:
        """Whether the target is missed."""
        return (self.at_most is not None and value > self.at_most) or (
            self.at_least is not None and value < self.at_least
        )

    def cell(self, values: Values) -> str:
        """The median of the rounds, and how far they lie apart."""
        if not (rounds := values.get(self.figure)):
            return ""
        middle = median(rounds)
        spread = f" ({number(min(rounds))} to {number(max(rounds))})" if len(rounds) > 1 else ""
        return f"**{number(middle)}** {self.unit}{MISSED if self.missed(middle) else ''}{spread}"


ROWS = (
    Row("submit p50", "submit, one after the other: p50", "ms", 10, None, ("71 ms", "49 ms", "2.3 ms")),
    Row("submit p95", "p95", "ms", None, None, ("171 ms", "76 ms", "4.0 ms")),
    Row("accepted", "accepted, 50 at the same time", "/s", None, 120, ("42 to 48 /s", "56 /s", "312 /s")),
    Row("accepted p50", "submit then: p50", "ms", None, None, ("975 to 1151 ms", "799 ms", "153 ms")),
    Row("runs", "trivial runs, from accepted to ended", "/s", None, 40, ("21 /s (2 of 300 never)", "21 /s", "90 /s")),
    Row("first event p50", "first event, one run: p50", "ms", 100, None, ("124 ms", "1140 ms", "about 1 s (10 runs)")),
    Row("first event max", "slowest", "ms"),
    Row("burst p50", "first event, burst of 50: p50", "ms", 1000, None, ("2470 ms", "2844 ms", "830 ms")),
    Row("burst max", "slowest", "ms", 1000),
    Row("64 streams p50", "64 streams of 20 pieces/s: p50", "ms", None, None, ("6.4 ms", "53 ms", "")),
    Row("64 streams p95", "p95", "ms", 40, None, ("51 ms", "93 ms", "")),
    Row("64 streams max", "slowest piece", "ms"),
    Row("64 streams p95 of all", "p95 with the time in which they are started and ended", "ms"),
    Row("64 streams lost", "pieces lost or doubled", "", 0, None, ("49 of 6,400", "0", "")),
    Row("100 streams p50", "100 streams: p50", "ms", None, None, ("streams hang", "not judged", "13 ms")),
    Row("100 streams p95", "p95", "ms", 40, None, ("streams hang", "not judged", "29 ms")),
    Row("100 streams max", "slowest piece", "ms"),
    Row("100 streams p95 of all", "p95 with the time in which they are started and ended", "ms"),
    Row("100 streams lost", "pieces lost or doubled", "", 0, None, ("streams hang", "not judged", "0")),
    Row(
        "lines", "one stream as fast as it goes", "lines/s", None, 10_000, ("872 to 1243", "471 to 669", "1250 to 1990")
    ),
    Row("restart", "`kill -9` of the worker, next event", "s", 3),
    Row("lost host", "a host lost, next event", "s", 12, None, ("57.9 s", "30.5 s", "not durable")),
    Row("worker stopped", "SIGTERM of a worker with 50 runs, none to be waited for: all are over", "s", 20),
    Row("web restart", "`kill -9` of the web tier, 200 streams, all go on", "s", 5),
    Row("web restart holes", "streams with a hole then", "", 0),
    Row("away lag", "Valkey frozen for a minute: the latest piece of 10 streams", "s", 1.5),
    Row("away submit", "the slowest of 30 submissions meanwhile", "ms", 500),
    Row("away ended", "until all of these have run, once it is back", "s", 15),
    Row("capacity accepts", "a second of a web process: runs accepted", ""),
    Row("capacity events", "events sent to readers", ""),
    Row("capacity runs", "a second of a worker: trivial runs", ""),
    Row("capacity heard", "pieces of text recorded", ""),
    Row("capacity calls", "a second of an MCP server: files saved", ""),
    Row("capacity memory", "a run that is at work, in its worker", "KiB"),
    Row("connections", "an open, silent stream", "KiB", 60),
    Row("connections opened", "1,000 of them opened in", "s"),
)


def number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(engines: Mapping[str, Values]) -> str:
    """All figures of all engines, and the memory of the processes below."""
    heads = ["", "target", *engines, "agno 3.1.10", "Aegra 0.11.0", "langgraph-api 0.16.7 in memory"]
    rows = [
        [row.says, row.target, *(row.cell(values) for values in engines.values()), *row.others]
        for row in ROWS
        if any(row.figure in values for values in engines.values())
    ]
    memory = [
        [name, *(_memory(values, name) for values in engines.values())]
        for name in PROCESSES
        if any(f"{name} RSS" in values for values in engines.values())
    ]
    tables = [_markdown(heads, rows)] if rows else []
    if memory:
        tables.append(_markdown(["memory after all streams, RSS / PSS in MB", *engines], memory))
    return "\n\n".join(tables)


def machine(rounds: int, loads: Sequence[float], versions: str) -> str:
    """What was measured on what, in a paragraph."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Longwick {longwick.__version__}, Python {platform.python_version()}, {versions}, Linux {platform.release()}; "
        f"{os.cpu_count()} processors ({_processor()}), {memory:.0f} GiB. Medians of {rounds} rounds, in brackets "
        f"the lowest and the highest; ✗ marks a missed target. One-minute load average at the start of a measure: "
        f"median {median(loads):.1f}, at most {max(loads):.1f}, most of it the benchmark's own."
    )


def write(words: str) -> None:
    """Put the figures into the page, between its markers."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{words}\n\n{END}{after}")


def _memory(values: Values, name: str) -> str:
    rss, pss = values.get(f"{name} RSS"), values.get(f"{name} PSS")
    return f"{median(rss):.0f} / {median(pss):.0f}" if rss and pss and any(rss) else ""


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _processor() -> str:
    found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return found[0].partition(": ")[2] if found else platform.machine()
