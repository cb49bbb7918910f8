"""`longwick-worker`, and `python -m worker`."""

import argparse

from longwick import descriptors, logs, traces
from longwick.errors import BadSetting
from longwick.kinds import RunKind
from longwick.settings import Settings
from worker.app import work


def main() -> None:
    """Run a worker with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="longwick-worker", description="Runs agents.")
    parser.add_argument("--lanes", default="chat,background", help="chat, background or both (default)")
    parser.add_argument("--concurrency", type=int, help="runs at once (default: LONGWICK_CONCURRENCY)")
    given = parser.parse_args()
    try:
        settings = Settings.from_environ(concurrency=given.concurrency)
        lanes = [RunKind(lane) for lane in given.lanes.split(",")]
        logs.configure(settings, "worker")
        traces.configure("worker")
        descriptors.raise_limit()
        work(settings, lanes, settings.concurrency)
    except (BadSetting, ValueError) as error:
        parser.exit(2, f"longwick: {error}\n")


if __name__ == "__main__":
    main()
