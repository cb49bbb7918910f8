"""`python -m benchmarks`: starts Longwick anew for each round and engine, measures, and prints a table."""

import argparse
import asyncio
import os
import sqlite3
import sys
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import psycopg
import uvloop
from postgres import Postgres

from benchmarks import report
from benchmarks.capacity import capacity
from benchmarks.measures import MEASURES, QUICK, Scale
from benchmarks.recovery import RECOVERIES
from benchmarks.stack import stack

KNOWN = MEASURES | RECOVERIES | {"capacity": capacity}
ON_THE_PAGE = [*MEASURES, "restart", "lost-host"]
ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def main() -> None:
    """Measure what the command line names; everything, and the page of the docs is written anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(KNOWN)} (default: all of the page)")
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    parser.add_argument("--runs", type=int, default=5, help="rounds, of which the medians are taken")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that everything works")
    given = parser.parse_args()
    if unknown := set(given.names) - set(KNOWN):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    engines = list(ENGINES) if given.engine == "both" else [given.engine]
    bench = Bench(given.names or ON_THE_PAGE, QUICK if given.quick else Scale())
    rounds = 1 if given.quick else given.runs
    versions = bench.measure_all(engines, rounds)
    words = report.table({ENGINES[engine]: bench.values[engine] for engine in engines})
    about = report.machine(rounds, bench.loads, versions)
    print(f"\n{about}\n\n{words}")
    if bench.failures:
        sys.exit(f"{bench.failures} measures failed")
    if not given.quick and not given.names and len(engines) == len(ENGINES):
        report.write(f"{about}\n\n{words}")


class Bench:
    """The figures so far."""

    def __init__(self, names: Sequence[str], scale: Scale) -> None:
        self._names = names
        self._scale = scale
        self.values: dict[str, dict[str, list[float]]] = {engine: defaultdict(list) for engine in ENGINES}
        self.loads: list[float] = []
        self.failures = 0

    def measure_all(self, engines: Sequence[str], rounds: int) -> str:
        """Round by round, engine by engine, so that a change of the machine's mood meets both; names the versions."""
        with ExitStack() as servers:
            postgres = servers.enter_context(Postgres()) if "postgresql" in engines else None
            for number in range(1, rounds + 1):
                for engine in engines:
                    print(f"round {number} on {ENGINES[engine]}", flush=True)
                    with _database(postgres if engine == "postgresql" else None) as url:
                        self._round(engine, url)
            return _versions(postgres)

    def _round(self, engine: str, url: str | None) -> None:
        with (
            stack(url, seconds=self._scale.seconds, lines=self._scale.lines) as longwick,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            for name in self._names:
                runner.run(longwick.client.idle())
                load = os.getloadavg()[0]
                try:
                    figures = runner.run(KNOWN[name](longwick, self._scale))
                except Exception:
                    # What is left of it would falsify what comes after.
                    traceback.print_exc()
                    self.failures += 1
                    return
                print(f"  load {load:4.1f}  " + "  ".join(f"{key}: {value:.4g}" for key, value in figures.items()))
                self.loads.append(load)
                for key, value in figures.items():
                    self.values[engine][key].append(value)


@contextmanager
def _database(postgres: Postgres | None) -> Iterator[str | None]:
    """An empty database on the server; nothing where there is no server, for SQLite needs only its file."""
    if postgres is None:
        yield None
        return
    with postgres.database() as url:
        yield url


def _versions(postgres: Postgres | None) -> str:
    versions = f"SQLite {sqlite3.sqlite_version}"
    if postgres:
        with psycopg.connect(postgres.url("postgres")) as connection:
            versions += f", PostgreSQL {connection.info.server_version // 10_000}"
    return versions


if __name__ == "__main__":
    main()
