"""The API of a whole stack, asked by schemathesis for what its own OpenAPI document says, and for what it does not."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from audited import audit_stack
from stack import Json, Stack
from waiting import wait_for

from fuzz.findings import LEAST, Findings

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")
ENDLESS = "/api/v1/feed"
UNFORESEEN = ("positive_data_acceptance", "ensure_resource_availability")
"""Checks that ask for too much: which agents, cursors and keys there are is no matter of a schema; and a key whose run
was deleted is answered with that run, as it was accepted, which is not to be found any more."""
SETTINGS = {"LONGWICK_DEFAULT_AGENT": "script", "LONGWICK_QUEUED_PER_OWNER": "1000"}
PATIENCE_SECONDS = 60.0


def fuzz(seconds: float, seed: int, *options: str) -> Findings:
    """All phases of schemathesis; then what the server has logged, and its record, are looked at."""
    findings = Findings("the API by its OpenAPI document", seed)
    with tempfile.TemporaryDirectory(prefix="longwick-fuzz-") as folder, Stack(Path(folder), SETTINGS) as stack:
        stack.http.headers["authorization"] = f"Bearer {key(stack)}"
        before = stack.pid("web")
        # Once more where a slow machine has had time for too few cases.
        for much in (seconds, 3 * seconds):
            said = explore(stack, much, seed, *options)
            findings.cases = int((re.findall(r"(\d+) generated", said.stdout) or ["0"])[-1])
            if said.returncode or findings.cases > LEAST:
                break
        if said.returncode:
            readable = re.sub(r"(?m)^(.{500}).+$", r"\1...", said.stdout)
            findings.found.append(f"{readable[-8000:]}{said.stderr[-2000:]}")
        findings.found += faults_of(stack)
        if stack.pid("web") != before:
            findings.found.append("the web tier has ended and was started again")
        rest(stack)
        _, violations = audit_stack(stack, stack.environ["LONGWICK_DATABASE_URL"], [])
        findings.found += map(str, violations)
    return findings


def key(stack: Stack) -> str:
    """A key to all of it; from then on nobody gets in without one."""
    command = [str(Path(sys.executable).with_name("longwick")), "keys", "create", "--owner", "fuzz"]
    command += ["--scope", "read", "--scope", "write", "--scope", "admin"]
    env = {**os.environ, "LONGWICK_DATA_DIR": str(stack.data_dir)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def explore(stack: Stack, seconds: float, seed: int, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run schemathesis on a stack."""
    command = [str(SCHEMATHESIS), "--config-file", str(CONFIG), "--no-color", "run", f"{stack.url}/api/openapi.json"]
    command += ["--exclude-path", ENDLESS]
    command += ["--exclude-checks", ",".join(UNFORESEEN), "--generation-database", "none", "--request-timeout", "20"]
    command += ["--header", f"Authorization: {stack.http.headers['authorization']}"]
    command += ["--seed", str(seed), "--max-time", str(max(1, int(seconds))), *options]
    env = {name: value for name, value in os.environ.items() if not name.startswith("LONGWICK_")}
    return subprocess.run(
        command, cwd=stack.folder, env=env, capture_output=True, text=True, timeout=seconds + 300, check=False
    )


def faults_of(stack: Stack) -> Iterator[str]:
    """What the tiers have logged as an error: nothing that comes from outside is one of ours."""
    for log in sorted((stack.data_dir / "logs").glob("*.log")):
        for line in log.read_text().splitlines():
            said: Json = json.loads(line) if line.startswith("{") else {"level": "error", "message": line}
            if said.get("level") in ("error", "critical"):
                yield f"{log.name}: {line[:2000]}"


def rest(stack: Stack) -> None:
    """Have every run be over."""

    def over() -> bool:
        going = stack.get("/runs?status=queued,running,waiting&limit=1000")["data"]
        for run in going:
            if run["cancel_requested_at"] is None:
                stack.http.post(f"/runs/{run['id']}/cancel")
        return not going

    wait_for(over, PATIENCE_SECONDS, "all runs to be over")
