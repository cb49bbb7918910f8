"""Faults that leave processes alive, or strike between two steps; docs/reliability.md has their numbers."""

import contextlib
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

import httpx2
import psutil
import pytest
from audited import check_record
from postgres import Postgres
from processes import Launch, gone
from stack import Json, Reader, Stack, check_whole, launch_worker, submit_once
from waiting import wait_for

from longwick.database import ANSWER_SECONDS
from longwick.kinds import RunKind
from longwick.queue import celery_app
from longwick.valkey import Valkey

CRASHING = Path(__file__).parents[1] / "crashing"
SQLITE = pytest.mark.parametrize("engine_name", ["sqlite"])
POSTGRESQL = pytest.mark.parametrize("engine_name", ["postgresql"])
BODY: Json = {"input": "say 2 0", "agent": "script"}


@contextlib.contextmanager
def web_that_dies_at(seam: str, env: dict[str, str], folder: Path) -> Iterator[Stack]:
    """A stack whose web tier is killed once, when it passes the seam."""
    died = folder / "died"
    crash = {"PYTHONPATH": str(CRASHING), "LONGWICK_FAIL_AT": seam, "LONGWICK_FAIL_ONCE": str(died)}
    with Stack(folder / "stack", {**env, **crash}) as stack:
        yield stack
        assert died.exists()


@POSTGRESQL
def test_f17_a_web_tier_killed_before_it_could_answer_has_accepted_one_run(
    record_env: dict[str, str], tmp_path: Path
) -> None:
    with web_that_dies_at("committed", record_env, tmp_path) as stack:
        key = uuid.uuid4().hex
        run = wait_for(lambda: submit_once(stack.http, BODY, key), 20, "the run to be accepted")
        assert stack.settled(run)["status"] == "succeeded"
        check_record(stack, {}, runs=1)


@SQLITE
def test_f18_a_web_tier_killed_before_it_could_hint_has_its_run_started_all_the_same(
    record_env: dict[str, str], tmp_path: Path
) -> None:
    with web_that_dies_at("accepted", record_env, tmp_path) as stack:
        key = uuid.uuid4().hex
        run = wait_for(lambda: submit_once(stack.http, BODY, key), 20, "the run to be accepted")
        assert stack.settled(run, 30)["status"] == "succeeded"


def test_f21_a_frozen_mcp_server_holds_up_the_save_and_nothing_else(stack: Stack) -> None:
    frozen = stack.kill("mcp", signal.SIGSTOP)
    try:
        run = stack.run("say 2 0; save frozen.txt; say 2 0")
        wait_for(lambda: "tool.started" in [event["type"] for event in stack.log_of(run)], what="the call")
        assert stack.settled(stack.run("say 2 0", artifact_generation=False))["status"] == "succeeded"
        assert stack.status(run) == "running"
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert stack.settled(run)["status"] == "succeeded"
    assert [event["type"] for event in stack.log_of(run)].count("artifact.saved") == 1


@SQLITE
def test_f23_a_valkey_that_comes_back_with_old_hints_starts_nothing_twice(stack: Stack, tmp_path: Path) -> None:
    done = [stack.settled(stack.run("say 1 0")) for _ in range(2)]
    running = stack.run(f"say 1 0; wait {tmp_path / 'gate'}")
    wait_for(lambda: stack.text_of(running), what="the run to be under way")
    with celery_app(stack.redis_url, socket_timeout=5) as celery:
        for run in (*done, running):
            celery.send_task("run.execute", args=[run["id"]], task_id=run["id"], queue="chat", retry=False)
    # Its file is written once a second.
    stack.kill("valkey")
    (tmp_path / "gate").touch()
    for run in (*done, running):
        assert stack.settled(run)["attempt"] == 1
        check_whole(stack.log_of(run))
    assert stack.settled(stack.run("say 1 0"), 30)["status"] == "succeeded"


class Wire:
    """A port of loopback that leads to another one, until it is cut: from then on every byte on it vanishes."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._cut = threading.Event()
        self._ends: list[socket.socket] = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        """Let what is sent on all connections, those to come as well, vanish."""
        self._cut.set()

    def mend(self) -> None:
        """New connections get through again; those of before never do."""
        self._cut = threading.Event()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += near, far
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other, self._cut), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if not cut.is_set():
                    other.sendall(data)
            if not cut.is_set():
                other.shutdown(socket.SHUT_WR)


@SQLITE
def test_f26_a_redis_whose_packets_vanish_is_done_without_and_found_again(
    record_env: dict[str, str], tmp_path: Path
) -> None:
    with Valkey(tmp_path / "valkey") as valkey, Wire(int(valkey.url.rpartition(":")[2].partition("/")[0])) as wire:
        url = f"{valkey.url.rpartition(':')[0]}:{wire.port}/0"
        with Stack(tmp_path / "stack", {**record_env, "LONGWICK_REDIS_URL": url}) as stack:
            run = stack.run(f"say 3 0; wait {tmp_path / 'gate'}; say 3 0")
            with Reader(stack, run) as reader:
                wait_for(lambda: len(reader.events) >= 3, what="the reader to read")
                wire.cut()
                asked = time.monotonic()
                waiting = [stack.run("say 1 0") for _ in range(30)]
                # Less than half a second each, which is what Redis has to answer.
                assert time.monotonic() - asked < 10
                (tmp_path / "gate").touch()
                check_whole(reader.wait(30))
            ready = stack.http.get(f"{stack.url}/readyz").json()
            assert ready["status"] == "degraded"
            assert ready["checks"]["redis"] != "ok"
            wire.mend()
            assert {stack.settled(each, 60)["status"] for each in waiting} == {"succeeded"}


def test_f30_a_frozen_postgresql_is_answered_for_in_bounded_time(tmp_path: Path) -> None:
    with Postgres() as postgres:
        env = {"LONGWICK_DATABASE_URL": postgres.create(), "LONGWICK_LEASE_SECONDS": "8"}
        with Stack(tmp_path / "stack", env) as stack:
            run = stack.run(f"pid {tmp_path / 'pid'}; say 3 0; wait {tmp_path / 'gate'}")
            wait_for(lambda: stack.text_of(run), what="the run to be under way")
            agent = int((tmp_path / "pid").read_text())
            key = uuid.uuid4().hex
            postgres.freeze()
            try:
                with httpx2.Client(base_url=stack.url, timeout=60, trust_env=False) as http:
                    asked = time.monotonic()
                    refused = http.post("/api/v1/runs", json=BODY, headers={"idempotency-key": key})
                    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                    # The record is asked more than once, and nobody waits for it a second time.
                    assert time.monotonic() - asked < 2 * ANSWER_SECONDS
                    asked = time.monotonic()
                    assert http.get("/healthz").json() == {"status": "ok"}
                    assert time.monotonic() - asked < ANSWER_SECONDS
                    assert http.get("/readyz").json()["status"] == "unavailable"
                wait_for(lambda: gone(agent), 30, "the worker to have ended the CLI whose lease it cannot renew")
            finally:
                postgres.thaw()
            ended = wait_for(lambda: submit_once(stack.http, BODY, key), 20, "the run to be accepted")
            assert stack.settled(ended, 30)["status"] == "succeeded"
            assert stack.settled(run, 30)["error"]["code"] == "worker_lost"
            check_record(stack, {}, runs=2)


def test_f30_up_waits_for_a_frozen_postgresql(tmp_path: Path) -> None:
    with Postgres() as postgres:
        url = postgres.create()
        postgres.freeze()

        def thaw() -> None:
            said = tmp_path / "stack" / "up.log"
            wait_for(lambda: said.exists() and "waiting for the record" in said.read_text(), 30, "up to wait")
            postgres.thaw()

        thawing = threading.Thread(target=thaw)
        thawing.start()
        try:
            with Stack(tmp_path / "stack", {"LONGWICK_DATABASE_URL": url}) as stack:
                assert stack.settled(stack.run("say 1 0"))["status"] == "succeeded"
        finally:
            thawing.join()
            postgres.thaw()


@SQLITE
def test_f35_no_clock_that_jumps_loses_a_run_or_starts_one_twice(record_env: dict[str, str], tmp_path: Path) -> None:
    clocks = tmp_path / "clocks"
    clocks.mkdir()
    env = {**record_env, "PYTHONPATH": str(CRASHING), "LONGWICK_CLOCKS": str(clocks)}
    with Stack(tmp_path / "stack", env) as stack:
        key = uuid.uuid4().hex
        first = submit_once(stack.http, BODY, key)
        assert first
        running = stack.run(f"say 2 0; wait {tmp_path / 'gate'}; say 2 0; save a.txt")
        wait_for(lambda: stack.text_of(running), what="the run to be under way")
        for tier, days in (("web", 2), ("worker", -2), ("mcp", 2)):
            (clocks / str(stack.pid(tier))).write_text(str(days * 86_400))
        late = stack.run("say 1 0")
        assert datetime.fromisoformat(late["created_at"]) - datetime.fromisoformat(running["created_at"]) > timedelta(1)
        again = submit_once(stack.http, BODY, key)
        assert again
        assert again["id"] == first["id"]
        (tmp_path / "gate").touch()
        for run in (first, running, late):
            ended = stack.settled(run)
            assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
            check_whole(stack.log_of(run))
        check_record(stack, {}, runs=3)


@SQLITE
def test_f41_the_hints_of_a_worker_that_takes_none_go_to_the_others(
    shaken_stack: Stack, tmp_path: Path, launch: Launch
) -> None:
    with celery_app(shaken_stack.redis_url, socket_timeout=5) as celery:
        for lane in RunKind:
            # It is at work a moment before it hears.
            asked = partial(celery.control.cancel_consumer, lane.value, reply=True, timeout=2, limit=1)
            wait_for(asked, 20, "the worker to take none")
        mute = [shaken_stack.run("say 1 0") for _ in range(3)]
        launch_worker(shaken_stack, launch, tmp_path / "other")
        assert {shaken_stack.settled(each, 30)["status"] for each in mute} == {"succeeded"}
    # The next one hears again.
    shaken_stack.kill("worker")


@SQLITE
def test_f54_a_web_tier_without_descriptors_refuses_and_recovers_and_no_stream_has_a_hole(
    shaken_stack: Stack, tmp_path: Path
) -> None:
    run = shaken_stack.run(f"say 3 0; wait {tmp_path / 'gate'}; say 3 0")
    with Reader(shaken_stack, run) as reader, contextlib.ExitStack() as crowd:
        wait_for(lambda: len(reader.events) >= 3, what="the reader to read")
        web = psutil.Process(shaken_stack.pid("web"))
        plenty = web.rlimit(psutil.RLIMIT_NOFILE)
        web.rlimit(psutil.RLIMIT_NOFILE, (web.num_fds() + 2, plenty[1]))
        address = ("127.0.0.1", int(shaken_stack.url.rpartition(":")[2]))
        for _ in range(20):
            crowd.enter_context(socket.create_connection(address, timeout=5))
        with (
            httpx2.Client(base_url=shaken_stack.url, timeout=2, trust_env=False) as http,
            contextlib.suppress(httpx2.TransportError),
        ):
            assert http.post("/api/v1/runs", json=BODY).status_code == 503
        (tmp_path / "gate").touch()
        events = reader.wait(20)
        web.rlimit(psutil.RLIMIT_NOFILE, plenty)
    check_whole(events)
    assert shaken_stack.settled(wait_for(lambda: submit_once(shaken_stack.http, BODY, uuid.uuid4().hex), 10))
    assert web.is_running()
