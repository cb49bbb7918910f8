"""A worker's parts, and the agents that misbehave in it."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from longwick.models import RunKind
from longwick.settings import Settings
from worker.parts import Parts, assemble

MISBEHAVE = Path(__file__).parents[1] / "agents" / "misbehave.py"
SECRET = "hunter2-and-no-other"


@pytest.fixture
def agents_file(tmp_path: Path) -> Path:
    """An agent for each mode of tests/agents/misbehave.py, of the same name."""
    modes = re.findall(r"^@mode\ndef (\w+)", MISBEHAVE.read_text(), re.MULTILINE)
    path = tmp_path / "agents.toml"
    # A TOML string is written like one of JSON.
    path.write_text(
        "\n".join(
            f'[agents.{mode}]\nadapter = "jsonl"\n'
            f"command = {json.dumps([sys.executable, '-I', str(MISBEHAVE), mode])}\n"
            f'pass_env = ["PASSED_SECRET"]\n'
            f"env = {{ SECRET = {json.dumps(SECRET)}, WITNESS = {json.dumps(str(tmp_path / 'witness'))} }}\n"
            for mode in modes
        )
    )
    return path


@pytest.fixture
def parts(settings: Settings, agents_file: Path) -> Iterator[Parts]:
    """All that a worker is made of, at work; its leases outlast a busy machine."""
    ours = settings.model_copy(update={"agents_file": agents_file, "lease_seconds": 6.0})
    with assemble(ours, [RunKind.CHAT], 4) as parts:
        yield parts
