"""The logs of a running product that says all it can: each line is whole, and none has a secret in it."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from stack import Reader, Stack
from waiting import wait_for

OF_CELERY = ("", "worker: Warm shutdown (MainProcess)")
"""What it writes past all logging when it is told to stop."""
KEY, FLOWER, TICKET = "canary-key-of-the-provider", "canary-of-flower", "canary-of-a-ticket"
API_KEY = f"lwapi_{'0' * 10}_{'1' * 59}"


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running product at the level of debugging, with secrets of every kind."""
    env = {
        "LONGWICK_LOG_LEVEL": "debug",
        "LONGWICK_FLOWER_PASSWORD": FLOWER,
        "LONGWICK_FLOWER_PORT": "0",
        "ANTHROPIC_API_KEY": KEY,
        # Nobody collects there, which is said.
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{TICKET}@127.0.0.1:9",
    }
    with Stack(tmp_path_factory.mktemp("logs") / "stack", env, flower=True) as stack:
        yield stack


def logs(stack: Stack) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (stack.data_dir / "logs").glob("*.log")}


def test_a44_no_log_has_a_secret_whatever_happens(telling: Stack, tmp_path: Path) -> None:
    told = "history; say 2 0; save kanarienvogel.txt; save ../kanarienvogel"
    assert telling.settled(telling.run(told))["status"] == "succeeded"
    telling.settled(telling.run("say 1 0; exit 3; kanarienvogel"))
    run = telling.run(f"say 1 0; wait {tmp_path / 'gate'}")
    with Reader(telling, run) as reader:
        wait_for(lambda: len(reader.events) > 2, what="the run to run")
        events = f"{telling.url}/api/v1/runs/{run['id']}/events?ticket={TICKET}"
        for url in (events, f"{telling.url}/nowhere?key={TICKET}"):
            headers = {"authorization": f"Bearer {API_KEY}", "accept": "application/json"}
            httpx2.get(url, headers=headers, timeout=30, trust_env=False)
        mcp = telling.environ["LONGWICK_MCP_URL"]
        refused = httpx2.post(mcp, json={}, headers={"authorization": f"Bearer lwk_{'x' * 43}"}, trust_env=False)
        assert refused.status_code == 401
        # What cannot reach Redis says so, with where it is.
        telling.kill("valkey")
        wait_for(lambda: "redis" in logs(telling)["worker"].lower(), what="the worker to miss Redis")
        before = telling.kill("worker", signal.SIGTERM)
        wait_for(lambda: telling.find_pid("worker") not in (None, before), 20, "another worker")
        telling.settled(run)
    password = re.search(r"^requirepass (\w+)$", (telling.data_dir / "valkey" / "valkey.conf").read_text(), re.M)
    assert password
    found = logs(telling)
    assert set(found) == {"web", "mcp", "worker", "flower"}
    for tier, text in [*found.items(), ("up", telling.process.output)]:
        for secret in (KEY, FLOWER, TICKET, password[1], API_KEY, "kanarienvogel"):
            assert secret not in text, (tier, [line for line in text.splitlines() if secret in line][:2])
        assert not re.search(r"lw(k|api)_[\w-]{8}", text), tier
    assert '"level": "debug"' in found["worker"]


def test_a44_every_line_is_an_object_and_those_of_a_run_name_it(telling: Stack) -> None:
    run = telling.run("exit 3; \\n{} forged")
    telling.settled(run)
    for tier, text in logs(telling).items():
        lines = [line for line in text.splitlines() if line not in OF_CELERY]
        assert [line for line in lines if not line.startswith("{")] == [], tier
        for line in map(json.loads, lines):
            assert line["tier"] == tier
            assert {"at", "level", "logger", "message"} <= line.keys()
    saved = telling.run("save report.txt")
    telling.settled(saved)
    of_run = [line for line in map(json.loads, logs(telling)["mcp"].splitlines()) if line.get("run_id") == saved["id"]]
    assert [(line["attempt"], line["message"].partition(" ")[0]) for line in of_run if "saved" in line["message"]] == [
        (1, "saved")
    ]
