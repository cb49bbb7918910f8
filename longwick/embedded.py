"""Everything on one machine, as one process tree: Valkey and a process for each tier, kept up until told to stop."""

import fcntl
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from longwick import exposure, passwords, schema, seams
from longwick.database import Database
from longwick.errors import BadSetting, LongwickError, Unavailable
from longwick.settings import Settings
from longwick.valkey import Valkey

log = logging.getLogger(__name__)

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
DRAIN_SECONDS = 5.0
LOOK_SECONDS = 0.1
PAUSES_SECONDS: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
CALM_SECONDS = 30.0
"""A process that ran for so long before it ended is started again without a pause."""
LOG_BYTES = 10 * 2**20
BACKLOG = 2048

Say = Callable[[str], None]


class Tier:
    """One tier's process: started, started again when it ends by itself, and ended."""

    def __init__(
        self, name: str, module: str, args: list[str], settings: Settings, socket: socket.socket | None = None
    ):
        self.name = name
        self._command = [sys.executable, "-P", "-m", module, *args]
        self._sockets = [socket.fileno()] if socket else []
        self._settings = settings
        self._log = settings.data_dir / "logs" / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._failures = 0
        self._again_at: float | None = None

    def start(self) -> None:
        """Start the process. It ends with the thread that calls this, by whatever death."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                ["setpriv", "--pdeathsig", "KILL", "--", *self._command],  # noqa: S607 - of util-linux, on the PATH
                env=self._settings.child_environ(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self._sockets,
                # Ctrl-C of the terminal is for `up` alone, which ends the tiers in order.
                start_new_session=True,
            )
        self._started_at = time.monotonic()
        self._again_at = None

    def keep_up(self, say: Say) -> None:
        """Start it again if it has ended, after a pause that grows while it keeps ending soon."""
        assert self._process
        if self._process.poll() is None:
            return
        if self._again_at is None:
            calm = time.monotonic() - self._started_at > CALM_SECONDS
            self._failures = 0 if calm else self._failures + 1
            pause = PAUSES_SECONDS[min(self._failures, len(PAUSES_SECONDS) - 1)]
            self._again_at = time.monotonic() + pause
            how = f"signal {-self._process.returncode}" if self._process.returncode < 0 else "status "
            how = how if self._process.returncode < 0 else how + str(self._process.returncode)
            say(f"{self.name} ended ({how}; {self._log} may say why) and is started again in {pause:g} s")
        elif time.monotonic() >= self._again_at:
            self.start()

    def ended_at_once(self) -> str | None:
        """The last words of a process that ended during start-up, or None."""
        if self._process is None or self._process.poll() is None:
            return None
        return self._log.read_text(errors="replace").strip().rpartition("\n")[2][-1000:]

    def stop(self, seconds: float) -> None:
        """Ask it to end, and kill it when it takes too long."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end within %g s and is killed", self.name, seconds)
            self._process.kill()
            self._process.wait()


class Stop:
    """Set by Ctrl-C and SIGTERM."""

    def __enter__(self) -> Self:
        self._asked = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._asked.set())
        return self

    def __exit__(self, *exc: object) -> None:
        # Once more is meant: no more patience.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    def asked(self, within: float) -> bool:
        """Whether it was asked for, waiting for at most `within` seconds."""
        return self._asked.wait(within)


def up(
    settings: Settings, say: Say, when_ready: Callable[[str], None] = lambda url: None, *, with_flower: bool = True
) -> None:
    """Run everything until Ctrl-C or SIGTERM; `say` is told what happens, `when_ready` the URL once it answers.

    Raises:
        BadSetting: the data dir is in use, the address is taken or open to others, or a tier refuses its settings.
        Unavailable: a part does not start.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        stop = stack.enter_context(Stop())
        stack.enter_context(_only_one(settings.data_dir))
        web_socket = stack.enter_context(_listen(settings.host, settings.port))
        mcp_socket = stack.enter_context(_listen("127.0.0.1", 0))
        url = f"http://{settings.host if ':' not in settings.host else f'[{settings.host}]'}:{_port(web_socket)}"
        valkey = None
        if not settings.redis_url:
            valkey = stack.enter_context(Valkey(settings.data_dir / "valkey"))
            say(f"Valkey answers (pid {valkey.pid})")
        seams.passed("launching")
        # Somebody waits at the terminal.
        drain_seconds = settings.drain_seconds if "drain_seconds" in settings.model_fields_set else DRAIN_SECONDS
        settings = settings.model_copy(
            update={
                "redis_url": settings.redis_url or (valkey.url if valkey else ""),
                "database_url": settings.database,
                "mcp_url": f"http://127.0.0.1:{_port(mcp_socket)}/mcp",
                "port": _port(web_socket),
                "worker_metrics_port": settings.worker_metrics_port or _free_port(),
                "drain_seconds": drain_seconds,
            }
        )
        mcp = Tier("mcp", "mcp_server", ["--fd", str(mcp_socket.fileno())], settings, mcp_socket)
        web = Tier("web", "web", ["--fd", str(web_socket.fileno())], settings, web_socket)
        worker = Tier("worker", "worker", [], settings)
        # The MCP server is the slowest to start and needs no schema before it is asked.
        mcp.start()
        stack.callback(mcp.stop, STOP_SECONDS)
        database = Database(settings.database)
        _wait_for_record(database, stop, say)
        schema.upgrade(database)
        exposure.check_bind(settings, settings.host, database)
        database.dispose()
        say("the record is at the newest schema")
        web.start()
        stack.callback(web.stop, STOP_SECONDS)
        worker.start()
        stack.callback(worker.stop, settings.drain_seconds + STOP_SECONDS)
        tiers = [mcp, web, worker]
        _wait_until_ready(url, tiers, stop, say)
        if not stop.asked(0):
            say(f"ready after {time.monotonic() - began:.1f} s")
            when_ready(url)
            if with_flower:
                # Last, as nothing that only watches may hold up the others.
                tiers.append(stack.enter_context(_flower(settings, say)))
            of_mcp = f"http://127.0.0.1:{_port(mcp_socket)}/metrics"
            of_worker = f"http://{settings.worker_metrics_host}:{settings.worker_metrics_port}/metrics"
            say(f"metrics: {url}/metrics, {of_mcp}, {of_worker} (web, MCP server, worker)")
        while not stop.asked(LOOK_SECONDS):
            if valkey and not valkey.alive():
                say("Valkey ended and is started again")
                with suppress(LongwickError):
                    valkey.start()
            for tier in tiers:
                tier.keep_up(say)
        say("stopping")


@contextmanager
def _flower(settings: Settings, say: Say) -> Iterator[Tier]:
    """Flower, and word of where it is and who may look."""
    with ExitStack() as stack:
        try:
            listening = stack.enter_context(_listen("127.0.0.1", settings.flower_port))
        except BadSetting:
            say(f"port {settings.flower_port} is taken, so Flower gets another (LONGWICK_FLOWER_PORT)")
            listening = stack.enter_context(_listen("127.0.0.1", 0))
        tier = Tier("flower", "longwick.flower", ["--fd", str(listening.fileno())], settings, listening)
        password, new = passwords.of_flower(settings)
        place = "LONGWICK_FLOWER_PASSWORD" if settings.flower_password else passwords.flower_file(settings)
        shown = f"{password}, shown this once and kept in {place}" if new else f"in {place}"
        say(f"Flower: http://127.0.0.1:{_port(listening)} (user {passwords.FLOWER_USER}, password {shown})")
        tier.start()
        stack.callback(tier.stop, STOP_SECONDS)
        yield tier


def _wait_for_record(database: Database, stop: Stop, say: Say) -> None:
    """Give a database server that starts with this machine, or stands still, time to answer."""
    deadline = time.monotonic() + READY_SECONDS
    told = False
    # A file is there as soon as it is looked for.
    answers = database.sqlite
    while not answers:
        try:
            database.read(lambda db: None)
            answers = True
        except Unavailable:
            if time.monotonic() > deadline or stop.asked(LOOK_SECONDS):
                raise
            if not told:
                say("waiting for the record")
            told = True


def _wait_until_ready(url: str, tiers: list[Tier], stop: Stop, say: Say) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting_for = ""
    while not stop.asked(LOOK_SECONDS):
        missing = _not_ready(url)
        if not missing:
            return
        for tier in tiers:
            if (words := tier.ended_at_once()) is not None:
                raise BadSetting(f"{tier.name} does not start: {words}")
        if missing != waiting_for:
            say(f"waiting for {missing}")
            waiting_for = missing
        if time.monotonic() > deadline:
            raise BadSetting(f"not ready after {READY_SECONDS:g} s: still waiting for {missing}")


def _not_ready(url: str) -> str:
    """What /readyz misses; empty when it misses nothing."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/readyz", timeout=3) as answer:
            ready = json.load(answer)
    except OSError:
        return "web"
    if ready["status"] == "ok":
        return ""
    return ", ".join(name for name, check in ready["checks"].items() if check != "ok")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. It belongs to `up`, so that a tier that is started again finds its callers waiting."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise BadSetting(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from error
    listening.listen(BACKLOG)
    return listening


def _free_port() -> int:
    with _listen("127.0.0.1", 0) as listening:
        return _port(listening)


def _port(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


@contextmanager
def _only_one(data_dir: Path) -> Iterator[IO[str]]:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadSetting(
                f"another `longwick up` runs on {data_dir}; stop it, or choose another --data-dir"
            ) from None
        yield lock
