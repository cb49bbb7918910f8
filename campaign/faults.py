"""The faults: each does one harm to a running stack, and leaves it to the stack to get over it."""

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable

import psutil
import redis
from kombu.exceptions import OperationalError
from postgres import Postgres
from stack import Stack

from longwick.kinds import RunKind
from longwick.queue import EXECUTE_TASK, celery_app

FREEZE_SECONDS = (0.2, 5.0)
"""From hardly to longer than the campaign's lease."""
HINTS = 5


class Faults:
    """What can be done to a stack; `runs` are the ids that hints are doubled for."""

    def __init__(self, stack: Stack, chance: random.Random, postgres: Postgres | None, runs: list[str]) -> None:
        self._stack = stack
        self._chance = chance
        self._runs = runs
        self._thawing: list[tuple[float, int]] = []
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
            "worker told to stop": (1, lambda: self.kill("worker", signal.SIGTERM)),
            "`up` killed": (0.5, stack.crash),
        }
        if postgres:
            self.kinds["PostgreSQL crashed"] = (1, postgres.crash)

    def choose(self) -> str:
        """The name of the next fault."""
        return self._chance.choices(list(self.kinds), [often for often, _ in self.kinds.values()])[0]

    def inject(self, name: str) -> bool:
        """Do it; False where there was nothing to do it to."""
        self.thaw(time.monotonic())
        try:
            self.kinds[name][1]()
        except (psutil.Error, redis.RedisError, OperationalError, LookupError, OSError, ValueError):
            return False
        return True

    def thaw(self, until: float) -> None:
        """Let go on what was frozen until then."""
        for item in [item for item in self._thawing if item[0] <= until]:
            self._thawing.remove(item)
            with contextlib.suppress(ProcessLookupError):
                os.kill(item[1], signal.SIGCONT)

    def kill(self, tier: str, how: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self._pid(tier), how)

    def freeze(self, tier: str) -> None:
        self._freeze(self._pid(tier))

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
            for run_id in self._chance.choices(self._runs, k=HINTS):
                lane = self._chance.choice(list(RunKind)).value
                celery.send_task(EXECUTE_TASK, args=[run_id], task_id=run_id, queue=lane, retry=False)

    def _freeze(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._thawing.append((time.monotonic() + self._chance.uniform(*FREEZE_SECONDS), pid))

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
