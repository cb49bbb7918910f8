"""Flower: what it shows of runs while they run and after, and to whom."""

import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

import httpx2
import pytest
from page.conftest import ARGUMENTS, BROWSERS
from playwright.sync_api import Browser, expect, sync_playwright
from processes import Launch
from scrape import scrape, total
from stack import Json, Stack
from waiting import wait_for


class Flower:
    """The Flower of a stack, found by what `up` says of it. Leave it to close its connections."""

    def __init__(self, stack: Stack) -> None:
        line = wait_for(lambda: re.search(r"Flower: (\S+) \(user (\w+), password (.+)\)", stack.said), what="Flower")
        assert line
        self.url, self.user, self.said_of_password = line.groups()
        self.password_file = stack.data_dir / "flower.password"
        self.password = self.password_file.read_text().strip()
        self.http = httpx2.Client(base_url=self.url, auth=(self.user, self.password), timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        wait_for(lambda: self.http.get("/healthcheck").status_code == 200, what="Flower to answer")
        # It answers before it listens, and what it has not heard it never shows.
        wait_for(lambda: "flower_worker_online{" in self.http.get("/metrics").text, what="Flower to hear a worker")
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.close()

    def page(self, path: str) -> httpx2.Response:
        """A page, once it is there: a worker that takes a second to answer Flower has none."""

        def find() -> httpx2.Response | None:
            page = self.http.get(path)
            return page if page.status_code == 200 else None

        return wait_for(find, what=path)

    def task(self, run: Json) -> Json:
        """What its API says of a run, or nothing."""
        found: Json = self.http.get("/api/tasks").json().get(run["id"], {})
        return found

    def row(self, run: Json) -> Json:
        """What its table shows of a run."""
        sorting = "columns[0][data]=name&order[0][column]=0&order[0][dir]=asc"
        table = self.http.get(f"/tasks/datatable?draw=1&start=0&length=100&search[value]=&{sorting}")
        (row,) = [row for row in table.json()["data"] if row["uuid"] == run["id"]]
        found: Json = row
        return found

    def wait_for_state(self, run: Json, state: str) -> Json:
        wait_for(lambda: self.task(run).get("state") == state, what=f"Flower to show {run['id']} as {state}")
        return self.task(run)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running product with Flower, and with two slots for runs, which send a third one its hint in advance."""
    env = {"LONGWICK_FLOWER_PORT": "0", "LONGWICK_CONCURRENCY": "2"}
    with Stack(tmp_path_factory.mktemp("flower") / "stack", env, flower=True) as stack:
        yield stack


@pytest.fixture
def flower(watched: Stack) -> Iterator[Flower]:
    with Flower(watched) as flower:
        yield flower


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium for one test: while one is open, no other test may run an event loop."""
    found = next(path for name in BROWSERS if (path := shutil.which(name)))
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=found, args=ARGUMENTS) as chromium:
        yield chromium


def seconds(run: Json) -> float:
    """How long a run took."""
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds()


def test_a_task_runs_for_as_long_as_its_run_and_says_what_became_of_it(
    watched: Stack, flower: Flower, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    began = time.monotonic()
    run = watched.run(f"say 1 0; wait {gate}")
    wait_for(lambda: watched.status(run) == "running", what="the run to run")
    assert flower.wait_for_state(run, "STARTED")["result"] is None
    wait_for(lambda: watched.text_of(run) == "0 ", what="the run to wait")
    assert (watched.status(run), flower.task(run)["state"]) == ("running", "STARTED")
    gate.touch()
    ended = watched.settled(run)
    task = flower.wait_for_state(run, "SUCCESS")
    for shown in ("'status': 'succeeded'", "'owner': 'local'", "'agent': 'script'", "'usage': ", "'cost_usd': "):
        assert shown in task["result"]
    assert task["args"] == f"['{run['id']}']"
    assert task["kwargs"] == "{}"
    assert seconds(ended) - 0.1 <= task["runtime"] <= time.monotonic() - began


def test_tokens_and_cost_are_shown(watched: Stack, flower: Flower) -> None:
    run = watched.run("a haiku", agent="demo")
    usage = watched.settled(run)["usage"]
    result = flower.wait_for_state(run, "SUCCESS")["result"]
    assert usage["output_tokens"] > 0
    assert f"'output_tokens': {usage['output_tokens']}" in result
    assert "'cost_usd': 0" in result
    tokens = f"{usage['input_tokens']}+{usage['output_tokens']} tokens"
    assert flower.row(run)["result"] == f"succeeded · local · demo · {tokens} · $0"


def test_a_person_sees_run_owner_agent_tokens_and_cost_in_the_table(watched: Stack, flower: Flower) -> None:
    run = watched.run("a haiku", agent="demo")
    usage = watched.settled(run)["usage"]
    flower.wait_for_state(run, "SUCCESS")
    with browser() as chromium:
        page = chromium.new_page(http_credentials={"username": flower.user, "password": flower.password})
        page.goto(f"{flower.url}/tasks", wait_until="domcontentloaded")
        row = page.locator("tr", has_text=run["id"])
        tokens = f"{usage['input_tokens']}+{usage['output_tokens']} tokens"
        expect(row).to_contain_text(f"succeeded · local · demo · {tokens} · $0", timeout=15_000)


def test_a_failed_run_is_a_failed_task_with_its_code(watched: Stack, flower: Flower) -> None:
    run = watched.run("exit 3")
    watched.settled(run)
    assert "cli_exit" in flower.wait_for_state(run, "FAILURE")["exception"]
    row = flower.row(run)
    assert row["result"] == "failed (cli_exit) · local · script"
    assert 0 < row["runtime"] < 10


def test_a_run_that_was_cancelled_before_it_could_start_is_a_failed_task(
    watched: Stack, flower: Flower, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = [watched.run(f"wait {gate}") for _ in range(2)]
    wait_for(lambda: all(watched.status(run) == "running" for run in first), what="all slots to be taken")
    sent = total(scrape(watched), "longwick_hints_sent_total")
    second = watched.run("say 1 0")
    wait_for(lambda: total(scrape(watched), "longwick_hints_sent_total") > sent, what="its hint to wait for the slot")
    watched.post(f"/runs/{second['id']}/cancel")
    gate.touch()
    assert "'cancelled'" in flower.wait_for_state(second, "FAILURE")["exception"]


def test_a_run_whose_worker_was_killed_is_a_failed_task(watched: Stack, flower: Flower, tmp_path: Path) -> None:
    run = watched.run(f"say 1 0; wait {tmp_path / 'never'}")
    wait_for(lambda: watched.text_of(run) == "0 ", what="the agent to run")
    flower.wait_for_state(run, "STARTED")
    watched.kill("worker")
    assert watched.settled(run)["error"]["code"] == "worker_lost"
    assert "worker_lost" in flower.wait_for_state(run, "FAILURE")["exception"]


def test_a27_nothing_of_what_was_asked_or_answered_is_shown_and_no_password(watched: Stack, flower: Flower) -> None:
    run = watched.run("history; say 2 0; leave canary.txt; exit 5; Kanarienvogel")
    watched.settled(run)
    task = flower.wait_for_state(run, "FAILURE")
    config = (watched.data_dir / "valkey" / "valkey.conf").read_text()
    valkey = re.search(r"^requirepass (\w+)$", config, re.MULTILINE)
    assert valkey
    paths = ["/", "/tasks", "/broker", f"/task/{run['id']}", f"/worker/{task['worker']}", "/metrics"]
    paths += ["/api/tasks", f"/api/task/info/{run['id']}", "/api/workers?refresh=1"]
    for path in paths:
        page = flower.page(path)
        for secret in ("Kanarienvogel", "canary", valkey[1], flower.password):
            assert secret not in page.text, (path, secret)


def test_a26_only_who_knows_the_password_looks_and_nobody_touches(watched: Stack, flower: Flower) -> None:
    run = watched.run("say 1 0")
    for path in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers", f"/api/task/info/{run['id']}"):
        assert httpx2.get(flower.url + path, trust_env=False).status_code == 401, path
        wrong = httpx2.get(flower.url + path, auth=(flower.user, "wrong"), trust_env=False)
        assert wrong.status_code == 401, path
    for open_to_all in ("/metrics", "/healthcheck"):
        assert httpx2.get(flower.url + open_to_all, trust_env=False).status_code == 200
    for path in (f"/api/task/revoke/{run['id']}?terminate=true", "/api/task/send-task/run.execute"):
        assert flower.http.post(path).status_code == 403, path
    assert watched.settled(run)["status"] == "succeeded"


def test_its_password_is_shown_once_and_kept_where_only_its_owner_reads(watched: Stack, flower: Flower) -> None:
    assert flower.said_of_password == f"{flower.password}, shown this once and kept in {flower.password_file}"
    assert flower.password_file.stat().st_mode & 0o777 == 0o600
    assert flower.password not in "".join(path.read_text() for path in (watched.data_dir / "logs").iterdir())
    assert flower.password not in Path(f"/proc/{watched.pid('flower')}/cmdline").read_text()


def test_it_is_started_again_where_it_was(watched: Stack, flower: Flower) -> None:
    before = watched.kill("flower", signal.SIGKILL)
    wait_for(lambda: watched.find_pid("flower") not in (None, before), what="another Flower")
    # It was never away for those who ask: `up` keeps its socket.
    assert flower.http.get("/healthcheck", timeout=20).status_code == 200


def test_a_port_that_is_taken_is_no_reason_to_fail_and_the_password_stays(tmp_path: Path) -> None:
    (tmp_path / "stack" / "data").mkdir(parents=True)
    (tmp_path / "stack" / "data" / "flower.password").write_text("as-it-was\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = {"LONGWICK_FLOWER_PORT": str(port)}
        with Stack(tmp_path / "stack", env, flower=True) as stack, Flower(stack) as flower:
            assert f"port {port} is taken" in stack.process.output
            assert "as-it-was" not in stack.said
            assert flower.http.get("/api/tasks").status_code == 200


def test_it_listens_to_no_strangers(launch: Launch, tmp_path: Path) -> None:
    longwick = Path(sys.executable).with_name("longwick")
    refused = launch([longwick, "flower", "--host", "0.0.0.0"], env={"LONGWICK_DATA_DIR": str(tmp_path)})
    assert refused.wait() == 2
    assert "can be reached from other machines" in refused.output
