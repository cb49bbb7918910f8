"""The real parts that tests are given: a record on each engine, a Valkey, settings with quick timings."""

import contextlib
import gc
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import pytest
import redis
from postgres import Postgres, in_memory
from processes import Launch, Process
from s3 import CREDENTIALS, S3
from stack import Stack

from longwick.database import Database
from longwick.schema import upgrade
from longwick.settings import Settings
from longwick.valkey import Valkey

CRASHING = Path(__file__).parent / "crashing"
WHOLE = [Path(__file__).parent / name for name in ("durability", "flows")]
"""The folders of tests that start the whole product."""
ShakenStacks = tuple[dict[str, Stack], Path]


def pytest_configure() -> None:
    """A shell that starts something in the background has it ignore SIGINT, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What has been imported stays: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-engine", action="store_true", help="run what starts the whole product on each engine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What starts the whole product takes long: each such test runs on one engine, half of them on each."""
    if config.getoption("every_engine"):
        return
    engines: dict[str, list[pytest.Item]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent in WHOLE and "engine_name" in item.fixturenames:
            engines.setdefault(re.sub("sqlite|postgresql", "", item.nodeid), []).append(item)
    left = [same[1 - crc32(name.encode()) % 2] for name, same in engines.items() if len(same) > 1]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell has set of ours must not reach a test."""
    for name in list(os.environ):
        if name.startswith(("LONGWICK_", "ANTHROPIC_", "OPENAI_", "CLAUDE_", "GEMINI_")):
            monkeypatch.delenv(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Each test that touches the record runs once on each engine."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("template") / "record.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; one a test process, started by the first test that asks."""
    with Postgres(in_memory()) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres) -> str:
    """The URL of a PostgreSQL database with the newest schema, to be copied."""
    url = postgres.create()
    _migrate(url)
    return url


def _migrate(url: str) -> None:
    database = Database(url)
    upgrade(database)
    database.dispose()


@pytest.fixture
def empty_database_url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table."""
    if engine_name == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield url


@pytest.fixture
def database_url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A record of the test's own, empty and with the newest schema."""
    if engine_name == "sqlite":
        file = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "record.db")
        yield f"sqlite:///{file}"
    else:
        with request.getfixturevalue("postgres").database(request.getfixturevalue("migrated_template")) as url:
            yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The record, opened."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey server; one a test process, started by the first test that asks."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An object store; one a test process, started by the first test that asks."""
    with S3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def storage_url(s3: S3, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in it, whose credentials this process has."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return s3.url(request.node.name)


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """An empty Redis. A test that stops or breaks its Redis starts a Valkey of its own."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings for the test's record and Redis, with timings that do not make a test wait."""
    return Settings.from_environ(
        {},
        data_dir=tmp_path / "data",
        database_url=database_url,
        redis_url=redis_url,
        sandbox="none",
        beat_seconds=0.2,
        lease_seconds=1.0,
        sweep_seconds=0.1,
    )


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start real commands; what they printed is shown when the test fails."""
    started: list[Process] = []

    def start(
        command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        started.append(Process(command, tmp_path / f"output-{len(started) + 1}.log", env=env, cwd=cwd))
        return started[-1]

    yield start
    for process in reversed(started):
        process.end()
        print(f"--- {process}\n{process.output}")


class Stacks(dict[str, Stack]):
    """Engine -> a stack, started when it is first asked for."""

    def __init__(self, name: str, env: Mapping[str, str], request: pytest.FixtureRequest, ending: ExitStack) -> None:
        super().__init__()
        self._name = name
        self._env = env
        self._request = request
        self._ending = ending

    def __missing__(self, engine: str) -> Stack:
        env = dict(self._env)
        if engine == "postgresql":
            env["LONGWICK_DATABASE_URL"] = self._request.getfixturevalue("postgres").create()
        folder = self._request.getfixturevalue("tmp_path_factory").mktemp(self._name)
        self[engine] = self._ending.enter_context(Stack(folder, env))
        return self[engine]


@pytest.fixture(scope="session")
def stacks(request: pytest.FixtureRequest) -> Iterator[dict[str, Stack]]:
    """The stacks that tests share, by engine; for tests that leave them as they found them."""
    with ExitStack() as ending:
        yield Stacks("stack", {}, request, ending)


@pytest.fixture(scope="session")
def shaken_stacks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShakenStacks]:
    """The stacks that tests break, by engine, and the folder that says in which seam of them a process dies."""
    seams = tmp_path_factory.mktemp("seams")
    env = {"PYTHONPATH": str(CRASHING), "LONGWICK_HASTY": "1", "LONGWICK_OBEYS": "1", "LONGWICK_FAIL_IN": str(seams)}
    with ExitStack() as ending:
        yield Stacks("shaken", env, request, ending), seams


@pytest.fixture
def shaken_stack(shaken_stacks: ShakenStacks, engine_name: str) -> Stack:
    """A running product for the test to break, as long as all gets well again by itself afterwards."""
    stack = shaken_stacks[0][engine_name]
    if stack.process.returncode is None:
        with contextlib.suppress(AssertionError):
            stack.well()
            return stack
    del shaken_stacks[0][engine_name]
    return shaken_stacks[0][engine_name]


@pytest.fixture
def stack(stacks: dict[str, Stack], engine_name: str) -> Stack:
    """A running product, shared with other tests."""
    return stacks[engine_name]


@pytest.fixture
def record_env(engine_name: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings that give a stack a record of its own on the engine."""
    return {} if engine_name == "sqlite" else {"LONGWICK_DATABASE_URL": request.getfixturevalue("database_url")}


@pytest.fixture
def own_stack(record_env: dict[str, str], tmp_path: Path) -> Iterator[Stack]:
    """A running product of the test's own, for it to break."""
    with Stack(tmp_path / "stack", record_env) as stack:
        yield stack
