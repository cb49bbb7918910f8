"""`make bench PART=warm`: how long it takes until a CLI asks its model, cold, warm, and by itself."""

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import binaries
import clis
from providers.anthropic import Anthropic
from providers.openai import OpenAI
from providers.serving import Provider
from stack import Stack
from waiting import wait_for

PROMPT = "text Yes."


def main() -> None:
    """Measure each start in turn, several rounds of them, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warm", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="starts of each kind")
    rounds = parser.parse_args().runs
    print(f"medians of {rounds} starts, load {os.getloadavg()[0]:.1f}\n")
    print("| agent | by itself | cold | warm | cold / by itself | warm / by itself |\n|---|---|---|---|---|---|")
    for version in binaries.CLAUDES:
        alone, cold, warm = (median(take(version, rounds)) for take in (_alone, _cold, _warm))
        print(
            f"| Claude Code {version} | {alone:.3f} s | {cold:.3f} s | {warm:.3f} s "
            f"| {cold / alone:.2f} | {warm / alone:.2f} |",
            flush=True,
        )
    first, *following = _codex(rounds + 1)
    print(f"| Codex, in its app server | | {first:.3f} s | {median(following):.3f} s | | |")


def _alone(version: str, rounds: int) -> list[float]:
    """From its start to its first request, without us."""
    taken = []
    with Anthropic() as provider:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                began = time.monotonic()
                with clis.claude(version, provider.url, Path(folder)) as talk:
                    clis.tell_claude(talk, PROMPT)
                taken.append(provider.asked[-1].at - began)
    return taken


def _cold(version: str, rounds: int) -> list[float]:
    with Anthropic() as provider, _stack(provider, version, spares=0) as stack:
        return [_ask(stack, provider, "claude") for _ in range(rounds)]


def _warm(version: str, rounds: int) -> list[float]:
    taken = []
    with Anthropic() as provider, _stack(provider, version, spares=1) as stack:
        _ask(stack, provider, "claude")
        for _ in range(rounds):
            wait_for(lambda: "is ready" in _worker_log(stack).rpartition("is taken")[2], 60, "a spare")
            taken.append(_ask(stack, provider, "claude"))
    return taken


def _codex(rounds: int) -> list[float]:
    with ExitStack() as parts:
        provider = parts.enter_context(OpenAI())
        env = {"LONGWICK_CODEX_BIN": str(binaries.codex()), "OPENAI_API_KEY": "sk-test"}
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        stack = parts.enter_context(Stack(folder / "stack", {**env, "OPENAI_BASE_URL": f"{provider.url}/v1"}))
        return [_ask(stack, provider, "codex") for _ in range(rounds)]


def _stack(provider: Provider, version: str, spares: int) -> Stack:
    env = {"LONGWICK_CLAUDE_BIN": str(binaries.claude(version)), "ANTHROPIC_API_KEY": "sk-ant-test"}
    env |= {"ANTHROPIC_BASE_URL": provider.url, "LONGWICK_WARM_SPARES": str(spares), "LONGWICK_LOG_LEVEL": "info"}
    return Stack(Path(tempfile.mkdtemp()) / "stack", env)


def _worker_log(stack: Stack) -> str:
    return (stack.data_dir / "logs" / "worker.log").read_text()


def _ask(stack: Stack, provider: Provider, agent: str) -> float:
    """Seconds from the submission of a thread's first run to its first request to the model."""
    before = len(provider.asked)
    began = time.monotonic()
    run = stack.run(PROMPT, agent=agent)
    wait_for(lambda: len(provider.asked) > before, 60, "a request")
    taken = provider.asked[before].at - began
    stack.settled(run, 60)
    return taken


if __name__ == "__main__":
    main()
