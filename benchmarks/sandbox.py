"""What a sandbox adds to the start of a CLI: from its start to its first line, without one and with one.

`make bench PART=sandbox`
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

from longwick import isolation
from longwick.settings import Settings
from worker.process import CliProcess
from worker.sandbox import Limits, Sandbox

STARTS = 100
ARGV = ["sh", "-c", "echo ready"]


def main() -> None:
    settings = Settings.from_environ({})
    limits = Limits(
        settings.run_memory_bytes,
        settings.run_processes,
        settings.run_open_files,
        settings.run_file_bytes,
        settings.run_cpu_seconds,
    )
    found = isolation.of("auto")
    if found.bwrap is None:
        raise SystemExit(found.reason)
    wake, _ = os.pipe()
    env = {"PATH": os.environ["PATH"]}
    with tempfile.TemporaryDirectory() as name:
        sandbox = Sandbox(found.bwrap, limits, Path(name, "etc"))
        taken: dict[str, list[float]] = {"without": [], "with": []}
        for number in range(STARTS):
            for how, seconds in taken.items():
                folder = Path(name, f"{how}-{number}")
                (folder / "tmp").mkdir(parents=True)
                began = time.perf_counter()
                room = sandbox.room(ARGV, folder, env["PATH"]) if how == "with" else None
                with CliProcess(ARGV, env=env, folder=folder, wake=wake, room=room) as process:
                    while not process.poll(1.0):
                        pass
                    seconds.append(time.perf_counter() - began)
    for how, seconds in taken.items():
        print(f"{how}: median {statistics.median(seconds) * 1000:.1f} ms, least {min(seconds) * 1000:.1f} ms")
    print(f"at a load of {os.getloadavg()[0]:.0f}")


if __name__ == "__main__":
    main()
