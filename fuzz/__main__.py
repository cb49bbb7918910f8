"""`python -m fuzz`: all parts in turn, and a table of what was tried and found."""

import argparse
import random
import sys

from fuzz import api, frames, names, translators

PARTS = {"api": api.fuzz, "translators": translators.fuzz, "frames": frames.fuzz, "names": names.fuzz}


def main() -> None:
    """Fuzz, print the table, and fail where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each part (default 60)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", choices=PARTS, help="only this part")
    given = parser.parse_args()
    done = []
    for name in [given.only] if given.only else PARTS:
        print(f"{name}, seed {given.seed}", file=sys.stderr, flush=True)
        done.append(PARTS[name](given.seconds, given.seed))
    print("| what | cases | time | seed | findings |\n|---|---|---|---|---|")
    for part in done:
        print(part.row())
    for part in done:
        for words in part.found:
            print(f"\n{part.part}: {words}", file=sys.stderr)
    sys.exit(any(part.found for part in done))


if __name__ == "__main__":
    main()
