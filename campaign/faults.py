"""The faults: each does one harm to a running stack, and leaves it to the stack to get over it."""

import contextlib
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Collection, Mapping

import psutil
import redis
from kombu.exceptions import OperationalError
from postgres import Postgres
from stack import Stack

from longwick.kinds import RunKind
from longwick.queue import EXECUTE_TASK, celery_app

LASTING_SECONDS = (0.2, 5.0)
"""How long something is frozen, or a disk full: from hardly to longer than the campaign's lease."""
HINTS = 5
JUMPS_SECONDS = (-86_400, -3_600, -10, 0, 10, 3_600, 86_400)
"""How wrong a clock may be; 0 is right again."""


class Faults:
    """What can be done to a stack; `runs` are the ids that hints are doubled for, `only` the names of the faults."""

    def __init__(
        self,
        stack: Stack,
        chance: random.Random,
        postgres: Postgres | None,
        runs: Mapping[str, float],
        only: Collection[str] = (),
    ) -> None:
        self._stack = stack
        self._chance = chance
        self._runs = runs
        self._ending: list[tuple[float, Callable[[], object]]] = []
        self.kinds: dict[str, tuple[float, Callable[[], None]]] = {
            # Name -> how often, relative to the others, and what it does.
            "hints doubled": (80, self.double_hints),
            "pub/sub clients cut": (80, self.cut_subscribers),
            "FLUSHALL": (20, self.flush),
            "CLI killed": (60, self.kill_cli),
            "worker killed": (4, lambda: self.kill("worker")),
            "web killed": (4, lambda: self.kill("web")),
            "MCP server killed": (4, lambda: self.kill("mcp")),
            "Valkey killed": (3, lambda: self.kill("valkey")),
            "Valkey killed, its file lost": (1, self.lose_valkey),
            "worker frozen": (2, lambda: self.freeze("worker")),
            "web frozen": (2, lambda: self.freeze("web")),
            "MCP server frozen": (2, lambda: self.freeze("mcp")),
            "Valkey frozen": (2, lambda: self.freeze("valkey")),
            "CLI frozen": (12, self.freeze_cli),
            "worker's disk full": (1, lambda: self.fill_disk("worker")),
            "web's disk full": (1, lambda: self.fill_disk("web")),
            "MCP server's disk full": (1, lambda: self.fill_disk("mcp")),
            "worker's clock set": (1, lambda: self.set_clock("worker")),
            "web's clock set": (1, lambda: self.set_clock("web")),
            "MCP server's clock set": (1, lambda: self.set_clock("mcp")),
            "worker told to stop": (1, lambda: self.kill("worker", signal.SIGTERM)),
            "`up` killed": (0.5, lambda: stack.crash(self.end_all)),
        }
        if postgres:
            self.kinds["PostgreSQL crashed"] = (1, postgres.crash)
            self.kinds["PostgreSQL frozen"] = (1, lambda: self.freeze_postgres(postgres))
        if only:
            self.kinds = {name: self.kinds[name] for name in self.kinds if name in only}

    def choose(self) -> str:
        """The name of the next fault."""
        return self._chance.choices(list(self.kinds), [often for often, _ in self.kinds.values()])[0]

    def inject(self, name: str) -> bool:
        """Do it; False where there was nothing to do it to."""
        self.end_due(time.monotonic())
        try:
            self.kinds[name][1]()
        except (psutil.Error, redis.RedisError, OperationalError, LookupError, OSError, ValueError):
            return False
        return True

    def end_due(self, until: float) -> None:
        """End the harms that were to last until then."""
        for item in [item for item in self._ending if item[0] <= until]:
            self._ending.remove(item)
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                item[1]()

    def end_all(self) -> None:
        """End the harms that last: what is started now is to get ready."""
        self.end_due(float("inf"))

    def kill(self, tier: str, how: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self._pid(tier), how)

    def freeze(self, tier: str) -> None:
        self._freeze(self._pid(tier))

    def freeze_postgres(self, postgres: Postgres) -> None:
        postgres.freeze()
        self._end_later(postgres.thaw)

    def fill_disk(self, tier: str) -> None:
        """Let no file of a process, or of what it starts, grow: to it, that is a disk without space."""
        process = psutil.Process(self._pid(tier))
        process.rlimit(psutil.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self._end_later(lambda: process.rlimit(psutil.RLIMIT_FSIZE, unlimited))

    def set_clock(self, tier: str) -> None:
        """Have a process's clock jump; it stays wrong until it jumps again (tests/crashing)."""
        clocks = self._stack.folder / "clocks"
        clocks.mkdir(exist_ok=True)
        written = clocks / "written"
        written.write_text(str(self._chance.choice(JUMPS_SECONDS)))
        written.rename(clocks / str(self._pid(tier)))

    def kill_cli(self) -> None:
        os.kill(self._chance.choice(self._clis()), signal.SIGKILL)

    def freeze_cli(self) -> None:
        self._freeze(self._chance.choice(self._clis()))

    def lose_valkey(self) -> None:
        pid = self._pid("valkey")
        os.kill(pid, signal.SIGSTOP)
        shutil.rmtree(self._stack.data_dir / "valkey" / "appendonlydir", ignore_errors=True)
        os.kill(pid, signal.SIGKILL)

    def flush(self) -> None:
        with self._redis() as client:
            client.flushall()

    def cut_subscribers(self) -> None:
        with self._redis() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    def double_hints(self) -> None:
        """Hints of runs that are queued, running or long over, sent several times."""
        if not self._runs:
            raise LookupError("no runs")
        with celery_app(self._stack.redis_url, socket_timeout=0.5) as celery:
            for run_id in self._chance.choices(list(self._runs), k=HINTS):
                lane = self._chance.choice(list(RunKind)).value
                celery.send_task(EXECUTE_TASK, args=[run_id], task_id=run_id, queue=lane, retry=False)

    def _freeze(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._end_later(lambda: os.kill(pid, signal.SIGCONT))

    def _end_later(self, end: Callable[[], object]) -> None:
        self._ending.append((time.monotonic() + self._chance.uniform(*LASTING_SECONDS), end))

    def _pid(self, tier: str) -> int:
        pid = self._stack.find_pid(tier)
        if pid is None:
            raise LookupError(tier)
        return pid

    def _clis(self) -> list[int]:
        children = psutil.Process(self._pid("worker")).children()
        return [child.pid for child in children if "script.py" in " ".join(child.cmdline())]

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self._stack.redis_url, socket_timeout=0.5, socket_connect_timeout=0.5)
