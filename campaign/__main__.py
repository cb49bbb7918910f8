"""`python -m campaign`: a stack under load, one fault after the other, and what is left of it held to the promises."""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from audited import audit_stack
from postgres import Postgres
from processes import free_port
from stack import Stack

from campaign.faults import Faults
from campaign.load import Load
from campaign.report import Report

ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
TIMES = {"LONGWICK_BEAT_SECONDS": "0.5", "LONGWICK_LEASE_SECONDS": "3", "LONGWICK_CONCURRENCY": "16"}
PATIENCE_SECONDS = 120.0
"""For everything to be over, once nothing more is broken."""


def main() -> None:
    """Break it, on one engine or on both in turn, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m campaign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each engine (default 60)")
    parser.add_argument("--faults", type=int, default=10**9, help="or until there were so many")
    parser.add_argument("--pause", type=float, default=0.25, help="seconds between two faults, on average")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    given = parser.parse_args()
    reports = []
    for engine in ENGINES if given.engine == "both" else [given.engine]:
        print(f"{ENGINES[engine]}, seed {given.seed}", flush=True)
        with (
            record(engine) as (postgres, env),
            tempfile.TemporaryDirectory(prefix="longwick-campaign-") as folder,
            Stack(Path(folder), settings(env)) as stack,
        ):
            report = campaign(stack, postgres, given.seed, given.seconds, given.faults, given.pause)
        report.engine = ENGINES[engine]
        print(report.table(), flush=True)
        reports.append(report)
    if any(report.violations for report in reports):
        sys.exit(f"promises were broken; the same again: make chaos SECONDS={given.seconds:g} SEED={given.seed}")


def settings(env: Mapping[str, str]) -> dict[str, str]:
    """A campaign's own, beside those of its record; the port is the same after each crash, for readers come back."""
    return {**TIMES, **env, "LONGWICK_PORT": str(free_port())}


def campaign(
    stack: Stack, postgres: Postgres | None, seed: int, seconds: float, most: int = 10**9, pause: float = 0.25
) -> Report:
    """Load the stack and break it for so many seconds, or until `most` faults; then let it come to rest."""
    chance = random.Random(seed)
    injected: Counter[str] = Counter()
    # Asked now: at the end, a worker that has crashed often may be about to be started again.
    record_url = stack.environ["LONGWICK_DATABASE_URL"]
    began = time.monotonic()
    with Load(stack.url, random.Random(seed + 1)) as load:
        faults = Faults(stack, chance, postgres, load.accepted)
        while time.monotonic() - began < seconds and injected.total() < most:
            name = faults.choose()
            if faults.inject(name):
                injected[name] += 1
            time.sleep(chance.uniform(0, 2 * pause))
            faults.thaw(time.monotonic())
        faults.thaw(float("inf"))
        seen = load.come_to_rest(PATIENCE_SECONDS)
        audited, violations = audit_stack(stack, record_url, seen)
        return Report.of(load, injected, seen, audited, violations, seed, time.monotonic() - began)


@contextlib.contextmanager
def record(engine: str) -> Iterator[tuple[Postgres | None, dict[str, str]]]:
    """The PostgreSQL of a campaign, if it needs one, and the settings that name its record."""
    if engine == "sqlite":
        yield None, {}
        return
    with Postgres() as postgres:
        postgres.create("campaign")
        yield postgres, {"LONGWICK_DATABASE_URL": postgres.url("campaign")}


if __name__ == "__main__":
    main()
