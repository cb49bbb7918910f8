"""The whole of Longwick under measurement: `longwick up`, with a data dir, ports and a database of its own."""

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from processes import Process
from waiting import wait_for

from benchmarks import agents
from benchmarks.client import Client
from longwick.valkey import Valkey

LONGWICK = Path(sys.executable).with_name("longwick")
START_SECONDS = 60.0
CONCURRENCY = 100


class Stack:
    """A running Longwick and what is needed to look at it from outside."""

    def __init__(self, folder: Path, up: Process, environ: Mapping[str, str], url: str) -> None:
        self._folder = folder
        self._up = up
        self._environ = environ
        self._on_postgresql = "LONGWICK_DATABASE_URL" in environ
        self.client = Client(url)
        self.printed = folder / "printed"

    def process(self, module: str) -> psutil.Process:
        """The process of a tier: `web`, `worker` or `mcp_server`."""
        found = wait_for(lambda: self._find(module), START_SECONDS, f"a process of {module}")
        assert found
        return found

    def processes(self) -> dict[str, list[psutil.Process]]:
        """All processes, by the name of what they are."""
        up = psutil.Process(self._up.pid)
        tiers = {module: [self.process(module)] for module in ("web", "worker", "mcp_server")}
        found = {**tiers, "longwick up": [up], "Valkey": _named("valkey-server", up.children())}
        if self._on_postgresql:
            found["PostgreSQL"] = _named("postgres", psutil.Process().children(recursive=True))
        return found

    def runs_of(self, worker: psutil.Process) -> set[str]:
        """The runs whose CLIs a worker process has started."""
        found = set()
        for cli in worker.children():
            with suppress(psutil.Error):
                found.add(cli.environ().get("LONGWICK_RUN_ID", ""))
        return found - {""}

    @contextmanager
    def another_worker(self) -> Iterator[psutil.Process]:
        """A worker as on another host: on the same record and Redis, with a data dir of its own."""
        own = self._folder / "other-host"
        worker = Process(
            [LONGWICK, "worker"],
            self._folder / "other-worker.log",
            env={
                "LONGWICK_DATABASE_URL": f"sqlite:///{self._folder / 'data' / 'record.db'}",
                **self._environ,
                "LONGWICK_DATA_DIR": str(own),
                "LONGWICK_REDIS_URL": Valkey(self._folder / "data" / "valkey").url,
            },
        )
        try:
            # It is listed, and so given runs, when Celery says that it is ready.
            wait_for(lambda: " ready." in worker.output or worker.returncode is not None, START_SECONDS, "the worker")
            assert worker.returncode is None, worker.output
            yield psutil.Process(worker.pid)
        finally:
            worker.end()

    def _find(self, module: str) -> psutil.Process | None:
        for child in psutil.Process(self._up.pid).children():
            with suppress(psutil.Error):
                if child.cmdline()[1:4] == ["-P", "-m", module]:
                    return child
        return None


def _named(name: str, processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of this name; any of them may be gone by now."""
    named = []
    for process in processes:
        with suppress(psutil.Error):
            if process.name() == name:
                named.append(process)
    return named


@contextmanager
def stack(database_url: str | None, *, seconds: float, lines: int, slots: int = CONCURRENCY) -> Iterator[Stack]:
    """Longwick on a new data dir and an empty database; ended and removed afterwards.

    Streams of its agents last so many `seconds`, floods have so many `lines`.
    """
    with tempfile.TemporaryDirectory(prefix="longwick-bench-") as name:
        folder = Path(name)
        (folder / "printed").mkdir()
        agents.write(folder / "agents.toml", printed=folder / "printed", seconds=seconds, lines=lines)
        environ = {
            "LONGWICK_AGENTS_FILE": str(folder / "agents.toml"),
            "LONGWICK_CONCURRENCY": str(slots),
            "LONGWICK_DRAIN_SECONDS": "0",
            **({"LONGWICK_DATABASE_URL": database_url} if database_url else {}),
        }
        command: list[str | Path] = [LONGWICK, "up", "--port", "0", "--data-dir", folder / "data", "--no-flower"]
        up = Process(command, folder / "up.log", env=environ, cwd=folder)
        try:
            wait_for(lambda: "is ready" in up.output or up.returncode is not None, START_SECONDS, "longwick up")
            url = re.search(r"is ready: (\S+)", up.output)
            assert url, up.output
            yield Stack(folder, up, environ, url[1])
        finally:
            up.end()
