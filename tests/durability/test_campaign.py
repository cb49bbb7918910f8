"""A moment of the campaign: everything breaks at random, and nothing is lost."""

import os
import random
from pathlib import Path

from stack import Stack

from campaign.__main__ import Plan, campaign, record, settings

SECONDS = float(os.environ.get("SECONDS", "15"))


def test_whatever_breaks_at_random_every_promise_is_kept(engine_name: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    print(f"make chaos SECONDS={SECONDS:g} SEED={seed}")
    with (
        record(engine_name) as (postgres, env),
        Stack(tmp_path / "stack", settings(env, tmp_path / "stack")) as stack,
    ):
        report = campaign(stack, postgres, Plan(seed, SECONDS))
    print(report.table())
    assert not report.violations
    # Enough happened for that to mean something, on a slow machine, too.
    assert report.injected.total() > SECONDS / 4
    assert report.audited.runs > SECONDS / 4
