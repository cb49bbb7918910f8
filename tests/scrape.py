"""What Prometheus would collect from a running product."""

import re

import httpx2
from stack import Stack

Samples = dict[tuple[str, str], float]
"""(Tier, name of the sample with its labels) -> its value."""
TIERS = ("web", "mcp", "worker")


def scrape(stack: Stack) -> Samples:
    """All samples of all tiers, found by what `up` says of them."""
    said = re.search(r"metrics: (\S+), (\S+), (\S+) \(web, MCP server, worker\)", stack.process.output)
    assert said, stack.process.output
    samples: Samples = {}
    for tier, url in zip(TIERS, said.groups(), strict=True):
        answer = httpx2.get(url, timeout=30, trust_env=False)
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        for line in answer.text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[tier, name] = float(value)
    return samples


def total(samples: Samples, name: str) -> float:
    """The sum of a metric over all tiers and labels."""
    return sum(value for (_, sample), value in samples.items() if sample.partition("{")[0] == name)


def moved(before: Samples, after: Samples) -> set[str]:
    """The names of the samples that differ."""
    differ = {key for key in before.keys() | after.keys() if before.get(key, 0) != after.get(key, 0)}
    return {sample.partition("{")[0] for _, sample in differ}
