"""`python -m campaign`: a stack under load, one fault after the other, and what is left of it held to the promises."""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audited import audit_stack
from postgres import Postgres
from processes import free_port
from stack import Stack

from campaign.faults import Faults
from campaign.load import Load
from campaign.report import Injected, Report

ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
CRASHING = Path(__file__).parents[1] / "tests" / "crashing"
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
    parser.add_argument("--only", metavar="NAME,NAME", default="", help="only these faults, as the table names them")
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    given = parser.parse_args()
    reports = []
    for engine in ENGINES if given.engine == "both" else [given.engine]:
        print(f"{ENGINES[engine]}, seed {given.seed}", flush=True)
        with (
            record(engine) as (postgres, env),
            tempfile.TemporaryDirectory(prefix="longwick-campaign-") as folder,
            Stack(Path(folder), settings(env, Path(folder))) as stack,
        ):
            plan = Plan(
                given.seed, given.seconds, given.faults, given.pause, given.only.split(",") if given.only else []
            )
            report = campaign(stack, postgres, plan)
        report.engine = ENGINES[engine]
        print(report.table(), flush=True)
        reports.append(report)
    if any(report.violations for report in reports):
        sys.exit(f"promises were broken; the same again: make chaos SECONDS={given.seconds:g} SEED={given.seed}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign is to do: the same plan chooses the same faults and the same load."""

    seed: int
    seconds: float
    faults: int = 10**9
    """It ends when there were so many, if that is earlier."""
    pause: float = 0.25
    """Seconds between two faults, on average."""
    only: Sequence[str] = ()
    """The names of the faults; all, if there are none."""


def settings(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """A campaign's own, beside those of its record; the port is the same after each crash, for readers come back."""
    clocks = {"PYTHONPATH": str(CRASHING), "LONGWICK_CLOCKS": str(folder / "clocks")}
    return {**TIMES, **clocks, **env, "LONGWICK_SANDBOX": "auto", "LONGWICK_PORT": str(free_port())}


def campaign(stack: Stack, postgres: Postgres | None, plan: Plan) -> Report:
    """Load the stack and break it as planned; then let it come to rest."""
    chance = random.Random(plan.seed)
    injected: list[Injected] = []
    # Asked now: at the end, a worker that has crashed often may be about to be started again.
    record_url = stack.environ["LONGWICK_DATABASE_URL"]
    began = time.monotonic()
    with Load(stack.url, random.Random(plan.seed + 1)) as load:
        faults = Faults(stack, chance, postgres, load.accepted, plan.only)
        while time.monotonic() - began < plan.seconds and len(injected) < plan.faults:
            name, at = faults.choose(), time.monotonic()
            if faults.inject(name):
                injected.append(Injected(at, name))
            time.sleep(chance.uniform(0, 2 * plan.pause))
            faults.end_due(time.monotonic())
        faults.end_all()
        seen = load.come_to_rest(PATIENCE_SECONDS)
        audited, violations = audit_stack(stack, record_url, seen)
        return Report.of(load, injected, seen, audited, violations, plan.seed, time.monotonic() - began)


@contextlib.contextmanager
def record(engine: str) -> Iterator[tuple[Postgres | None, dict[str, str]]]:
    """The PostgreSQL of a campaign, if it needs one, and the settings that name its record."""
    if engine == "sqlite":
        yield None, {}
        return
    with Postgres() as postgres:
        yield postgres, {"LONGWICK_DATABASE_URL": postgres.create()}


if __name__ == "__main__":
    main()
