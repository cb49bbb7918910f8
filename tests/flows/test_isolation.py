"""An agent that looks for what it must not have, on the whole product: attack rows A32, A33, A48."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from stack import AGENTS, Stack
from waiting import wait_for

CANARY = f"canary-{uuid.uuid4().hex}"
PYTHON = os.path.realpath(sys.executable)
PROFILES = """
[agents.searcher]
adapter = "jsonl"
command = ["{python}", "-I", "{{here}}/searcher.py"]

[agents.neighbour]
adapter = "jsonl"
command = ["{python}", "-I", "{{here}}/script.py"]

[agents.secretive]
adapter = "jsonl"
command = ["true"]
env = {{ SECRET = "{canary}" }}
"""
MODES = ("has_a_hermit", "eats_memory", "has_children_until_it_may_have_no_more", "stops_when_interrupted")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server with a secret in each place that an agent could think of."""
    folder = tmp_path_factory.mktemp("isolation")
    agents, home = folder / "agents", folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text(CANARY)
    agents.mkdir()
    for name in ("searcher.py", "script.py", "misbehave.py"):
        shutil.copy(AGENTS / name, agents)
    (agents / ".env").write_text(f"SECRET={CANARY}\n")
    modes = (
        f'[agents.{mode}]\nadapter = "jsonl"\ncommand = ["{PYTHON}", "-I", "{{here}}/misbehave.py", "{mode}"]\n'
        for mode in MODES
    )
    (agents / "agents.toml").write_text(PROFILES.format(python=PYTHON, canary=CANARY) + "\n".join(modes))
    env = {
        "LONGWICK_SANDBOX": "bwrap",
        "LONGWICK_AGENTS_FILE": str(agents / "agents.toml"),
        "LONGWICK_RUN_MEMORY_BYTES": "150000000",
        "LONGWICK_RUN_PROCESSES": "60",
        "ANTHROPIC_API_KEY": f"sk-ant-{CANARY}",
        "OPENAI_API_KEY": f"sk-{CANARY}",
        "SOME_PASSWORD": CANARY,
        "HOME": str(home),
    }
    with Stack(folder / "stack", env) as stack:
        yield stack


def searched(told: dict[str, Any], stack: Stack) -> dict[str, list[str]]:
    run = stack.settled(stack.run(json.dumps(told), agent="searcher"), 60)
    assert run["status"] == "succeeded", run["error"]
    found: dict[str, list[str]] = json.loads(run["output_text"])
    return found


def test_a32_a33_a48_an_agent_that_looks_for_secrets_finds_none(stack: Stack) -> None:
    """And the same program finds them all where it is not kept in."""
    environ = stack.environ
    ports = [
        urlsplit(stack.url).port,
        urlsplit(environ["LONGWICK_MCP_URL"]).port,
        *(port for port in [urlsplit(stack.redis_url).port] if port),
    ]
    neighbour = stack.run(f"write secret.txt {CANARY}; say 3000 0.02", agent="neighbour")
    theirs = stack.data_dir / "workspaces" / f"{neighbour['id']}-1" / "work" / "secret.txt"
    wait_for(theirs.exists, 20, "the neighbour's secret")
    shm = Path("/dev/shm", CANARY)
    shm.write_text(CANARY)
    hidden = f"longwick-{uuid.uuid4().hex}"
    home = stack.folder.parent / "home"
    paths = [
        *(stack.data_dir / name for name in ("record.db", "logs", "valkey", "workers", "blobs")),
        *(theirs, home / ".ssh", home / ".ssh" / "id_ed25519", Path("/root/.ssh"), Path("/var/run/docker.sock")),
        *(Path("/run/docker.sock"), Path("/etc/shadow"), stack.folder.parent / "stack" / "up.log"),
    ]
    told = {
        "canaries": [CANARY[::-1]],
        "paths": [str(path) for path in paths],
        "ports": ports,
        "abstract": hidden,
        # Where the worker is no root, all in a room are one user, the first process among them.
        "trace": [stack.pid("worker"), *([1] if os.getuid() == 0 else [])],
        "door": "http://127.0.0.1:4711",
        "top": "/",
    }
    try:
        with socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind("\0" + hidden)
            abstract.listen()
            assert searched(told, stack) == {}
            unkept = {**told, "door": None, "top": str(stack.folder.parent), "trace": []}
            line = json.dumps({"type": "user", "text": json.dumps(unkept)})
            done = subprocess.run(
                [PYTHON, "-I", AGENTS / "searcher.py"],
                input=line,
                env={**os.environ, "SECRET": CANARY},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
    finally:
        shm.unlink()
        stack.post(f"/runs/{neighbour['id']}/cancel")
    found = json.loads(json.loads(done.stdout)["text"])
    kinds = {"environment", "processes", "strangers", "paths", "files", "shared memory", "ports", "abstract"}
    assert kinds <= set(found), found


def named(name: str) -> list[int]:
    found = psutil.process_iter(["pid", "cmdline"])
    return [process.pid for process in found if (process.info["cmdline"] or [""])[0] == name]


def test_f11_who_uses_too_much_ends_its_own_run_only(stack: Stack) -> None:
    neighbour = stack.run("say 200 0.02", agent="neighbour")
    hungry = stack.run("600", agent="eats_memory")
    bomb = stack.run("go", agent="has_children_until_it_may_have_no_more")
    assert stack.settled(hungry, 30)["error"]["code"] == "out_of_memory"
    assert stack.settled(bomb, 30)["error"]["code"] == "too_many_processes"
    assert stack.settled(neighbour, 60)["status"] == "succeeded"


def test_an_agent_that_is_cancelled_can_still_tidy_up(stack: Stack) -> None:
    run = stack.run("go", agent="stops_when_interrupted")
    wait_for(lambda: "Working" in stack.text_of(run), 20, "it to work")
    stack.post(f"/runs/{run['id']}/cancel")
    assert stack.settled(run)["status"] == "cancelled"
    assert stack.text_of(run) == "Working, interrupted"


def test_which_isolation_there_is_is_told(stack: Stack) -> None:
    assert set(stack.well()["isolation"].values()) == {"bwrap"}


def test_nothing_of_a_run_outlives_its_worker(stack: Stack) -> None:
    name = f"hermit-{time.monotonic_ns()}"
    run = stack.run(name, agent="has_a_hermit")
    wait_for(lambda: named(name), 20, "the hermit")
    stack.kill("worker", signal.SIGKILL)
    wait_for(lambda: not named(name), what="the end of the hermit")
    assert stack.settled(run, 30)["error"]["code"] == "worker_lost"
