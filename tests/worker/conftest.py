"""A worker's parts, on each engine, and the agents that misbehave in it."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from longwick.kinds import RunKind
from longwick.settings import Settings
from longwick.valkey import Valkey
from worker.parts import Parts, assemble

MISBEHAVE = Path(__file__).parents[1] / "agents" / "misbehave.py"
SECRET = "hunter2-and-no-other"


@pytest.fixture(scope="session")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an agent may leave a word; whoever wants to read it empties it first."""
    return tmp_path_factory.mktemp("witness") / "word.txt"


@pytest.fixture(scope="session")
def agents_file(tmp_path_factory: pytest.TempPathFactory, witness: Path) -> Path:
    """An agent for each mode of tests/agents/misbehave.py, of the same name."""
    modes = re.findall(r"^@mode\ndef (\w+)", MISBEHAVE.read_text(), re.MULTILINE)
    path = tmp_path_factory.mktemp("agents") / "agents.toml"
    # A TOML string is written like one of JSON.
    path.write_text(
        "\n".join(
            f'[agents.{mode}]\nadapter = "jsonl"\n'
            f"command = {json.dumps([sys.executable, '-I', str(MISBEHAVE), mode])}\n"
            'pass_env = ["PASSED_SECRET"]\n'
            f"env = {{ SECRET = {json.dumps(SECRET)}, WITNESS = {json.dumps(str(witness))} }}\n"
            for mode in modes
        )
    )
    return path


@contextmanager
def record(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The URL of an empty record on the engine that is asked for."""
    if request.param == "sqlite":
        yield f"sqlite:///{shutil.copy(request.getfixturevalue('migrated_file'), folder / 'record.db')}"
    else:
        with request.getfixturevalue("postgres").database(request.getfixturevalue("migrated_template")) as url:
            yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def parts(
    request: pytest.FixtureRequest, valkey: Valkey, agents_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parts]:
    """All that a worker is made of, at work for a whole file of tests; its leases outlast a busy machine."""
    folder = tmp_path_factory.mktemp("worker")
    with record(request, folder) as database_url:
        settings = Settings.from_environ(
            {},
            data_dir=folder / "data",
            database_url=database_url,
            redis_url=valkey.url,
            agents_file=agents_file,
            sandbox="none",
            beat_seconds=0.2,
            lease_seconds=60.0,
            sweep_seconds=0.1,
        )
        with assemble(settings, [RunKind.CHAT], 4) as parts:
            yield parts
