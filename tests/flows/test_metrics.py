"""The metrics of a running product: each of them moves when that happens which it is there to show."""

import json
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import httpx2
import pytest
from processes import Process
from prometheus_client.metrics import MetricWrapperBase
from providers.anthropic import Anthropic
from scrape import moved, scrape, total
from stack import Reader, Stack, asking
from waiting import wait_for

from longwick import metrics

Scene = Callable[[Stack, Path], AbstractContextManager[object]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running product with leases short enough to be waited for, and long enough for a busy machine."""
    env = {"LONGWICK_BEAT_SECONDS": "0.5", "LONGWICK_LEASE_SECONDS": "4"}
    with Anthropic() as provider:
        yield from _measured(tmp_path_factory.mktemp("metrics") / "stack", env | asking(provider.url))


def _measured(folder: Path, env: dict[str, str]) -> Iterator[Stack]:
    with Stack(folder, env) as stack:
        wait_for(lambda: "metrics: " in stack.process.output, what="`up` to say where the metrics are")
        yield stack


@contextmanager
def a_run_that_saves_a_file(stack: Stack, folder: Path) -> Iterator[None]:
    run = stack.run("say 3 0; cost 0.5; save report.txt")
    assert stack.settled(run)["status"] == "succeeded"
    yield


@contextmanager
def a_run_that_asks_a_model(stack: Stack, folder: Path) -> Iterator[None]:
    run = stack.run("m hello", agent="asker")
    assert stack.settled(run)["output_text"] == "hello"
    yield


@contextmanager
def a_run_that_somebody_watches(stack: Stack, folder: Path) -> Iterator[None]:
    watched, gate = folder / "watched", folder / "gate"
    run = stack.run(f"say 1 0; wait {watched}; say 1 0; wait {gate}")
    with Reader(stack, run) as reader:
        wait_for(lambda: len(reader.events) > 2, what="the run to run")
        watched.touch()
        try:
            yield
        finally:
            gate.touch()
        reader.wait()


@contextmanager
def a_worker_that_is_lost_while_another_lives(stack: Stack, folder: Path) -> Iterator[None]:
    run = stack.run(f"say 1 0; wait {folder / 'never'}")
    wait_for(lambda: stack.text_of(run) == "0 ", what="the run to run")
    other = Process(
        [sys.executable, "-P", "-m", "worker"],
        folder / "worker.log",
        env={
            **stack.environ,
            "LONGWICK_DATA_DIR": str(folder / "data"),
            "LONGWICK_WORKER_METRICS_PORT": "0",
            # Nobody sees its metrics: it leaves what is lost to the first one.
            "LONGWICK_LEASE_SECONDS": "60",
        },
    )
    try:
        wait_for(lambda: "ready." in other.output, 60, "the second worker to be ready")
        gone = stack.kill("worker")
        wait_for(lambda: stack.find_pid("worker") not in (None, gone), what="another first worker")
        assert stack.settled(run)["error"]["code"] == "worker_lost"
        wait_for(lambda: answers(stack), what="the first worker to show its metrics")
        yield
    finally:
        other.end()


def answers(stack: Stack) -> bool:
    try:
        return bool(scrape(stack))
    except httpx2.TransportError:
        return False


@contextmanager
def a_redis_that_stands_still(stack: Stack, folder: Path) -> Iterator[None]:
    gate = folder / "gate"
    run = stack.run(f"say 3 0; wait {gate}; say 150 0.02")
    with Reader(stack, run) as reader:
        wait_for(lambda: len(reader.events) > 2, what="the run to run")
        stack.kill("valkey", signal.SIGSTOP)
        gate.touch()
        try:
            waits = stack.run("say 1 0")
            yield
        finally:
            stack.kill("valkey", signal.SIGCONT)
        reader.wait()
    stack.settled(waits)


@contextmanager
def a_record_that_takes_no_beats(stack: Stack, folder: Path) -> Iterator[None]:
    run = stack.run(f"say 1 0; wait {folder / 'never'}")
    wait_for(lambda: stack.text_of(run) == "0 ", what="the run to run")
    before = scrape(stack)
    with closing(sqlite3.connect(stack.data_dir / "record.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        wait_for(lambda: "longwick_self_fences_total" in moved(before, scrape(stack)), 20, "the worker to let go")
    yield
    stack.settled(run)


SCENES: dict[Scene, set[str]] = {
    a_run_that_asks_a_model: {
        "longwick_gateway_requests_total",
        "longwick_gateway_tokens_total",
        "longwick_gateway_first_byte_seconds",
    },
    a_run_that_saves_a_file: {
        "longwick_runs_accepted_total",
        "longwick_runs_settled_total",
        "longwick_run_duration_seconds",
        "longwick_run_queue_seconds",
        "longwick_run_first_event_seconds",
        "longwick_tokens_total",
        "longwick_cost_usd_total",
        "longwick_sweeps_total",
        "longwick_publish_seconds",
        "longwick_data_dir_free_bytes",
        "longwick_hints_sent_total",
        "longwick_events_committed_total",
        "longwick_recorder_commit_runs",
        "longwick_recorder_commit_seconds",
        "longwick_artifacts_saved_total",
        "longwick_artifact_saved_bytes_total",
        "longwick_mcp_calls_total",
    },
    a_run_that_somebody_watches: {
        "longwick_runs",
        "longwick_viewers",
        "longwick_viewer_lag_seconds",
        "longwick_clis_running",
        "longwick_sweep_age_seconds",
    },
    a_redis_that_stands_still: {
        "longwick_live_copies_dropped_total",
        "longwick_viewer_resyncs_total",
        "longwick_redis_failures_total",
        "longwick_part_up",
        "longwick_oldest_queued_seconds",
    },
    a_worker_that_is_lost_while_another_lives: {"longwick_leases_lost_total", "longwick_workers", "longwick_room"},
    a_record_that_takes_no_beats: {"longwick_beats_late_total", "longwick_self_fences_total"},
}


OF_A_SANDBOX = {"longwick_egress_connections_total"}
"""tests/worker/test_door.py moves these; the agents here have none."""


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_metric_moves_with_what_it_shows(measured: Stack, scene: Scene, tmp_path: Path) -> None:
    wait_for(lambda: total(scrape(measured), "longwick_clis_running") == 0, what="the CLIs of other tests to end")
    before = scrape(measured)

    def unmoved() -> set[str]:
        names = {name.removesuffix("_count") for name in moved(before, scrape(measured))}
        return SCENES[scene] - names

    with scene(measured, tmp_path):
        wait_for(lambda: not unmoved(), what=f"{unmoved()} to move")


def test_every_metric_has_a_scene_that_moves_it() -> None:
    made = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    described = [family for metric in made for family in metric.describe()]
    names = {family.name + "_total" * (family.type == "counter") for family in described}
    assert set.union(*SCENES.values()) == names - OF_A_SANDBOX


def test_runs_are_counted_by_kind_status_and_error(measured: Stack) -> None:
    before = scrape(measured)
    assert measured.settled(measured.run("exit 3", kind="background"))["error"]["code"] == "cli_exit"
    cancelled = measured.run("say 1 0; wait /nowhere/never")
    wait_for(lambda: measured.text_of(cancelled) == "0 ", what="the run to run")
    measured.post(f"/runs/{cancelled['id']}/cancel")
    measured.settled(cancelled)

    def told() -> bool:
        return rise("worker", "longwick_run_duration_seconds_count") >= 2

    def rise(tier: str, sample: str) -> float:
        return scrape(measured).get((tier, sample), 0) - before.get((tier, sample), 0)

    wait_for(told, what="the worker, which counts what it has written, to have counted")
    assert rise("web", 'longwick_runs_accepted_total{kind="background"}') == 1
    assert rise("web", 'longwick_runs_accepted_total{kind="chat"}') == 1
    assert rise("worker", 'longwick_runs_settled_total{code="cli_exit",status="failed"}') == 1
    assert rise("worker", 'longwick_runs_settled_total{code="",status="cancelled"}') == 1
    assert rise("worker", "longwick_run_duration_seconds_count") == 2
    assert rise("worker", 'longwick_run_queue_seconds_count{kind="background"}') == 1


def test_what_waits_and_what_runs_is_told_from_the_record(measured: Stack, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = measured.run(f"wait {gate}")
    second = measured.run("say 1 0", thread=first["thread_id"])
    wait_for(lambda: measured.status(first) == "running", what="the first run to run")
    now = scrape(measured)
    assert now["web", 'longwick_runs{kind="chat",status="running"}'] == 1
    assert now["web", 'longwick_runs{kind="chat",status="queued"}'] == 1
    assert now["web", 'longwick_runs{kind="background",status="queued"}'] == 0
    gate.touch()
    measured.settled(second)
    wait_for(
        lambda: scrape(measured)["web", 'longwick_runs{kind="chat",status="running"}'] == 0, what="nothing to be left"
    )


def test_a_call_that_was_refused_is_counted_by_its_code(measured: Stack) -> None:
    before = scrape(measured)
    run = measured.run("save ../evil")
    measured.settled(run)
    sample = "mcp", 'longwick_mcp_calls_total{outcome="bad_name",tool="save_artifact"}'
    assert scrape(measured)[sample] - before.get(sample, 0) == 1


def test_metrics_say_nothing_of_anybody(measured: Stack) -> None:
    run = measured.run("say 1 0; save kanarienvogel.txt")
    measured.settled(run)
    labels = " ".join(sample for _, sample in scrape(measured))
    for word in (run["id"], run["thread_id"], "kanarienvogel", "local"):
        assert word not in labels


def test_every_line_of_every_log_is_an_object_that_names_its_tier(measured: Stack) -> None:
    measured.settled(measured.run("exit 3"))
    logs = list((measured.data_dir / "logs").glob("*.log"))
    assert {log.stem for log in logs} == {"web", "mcp", "worker"}
    for log in logs:
        for line in map(json.loads, log.read_text().splitlines()):
            assert line["tier"] == log.stem
            assert {"at", "level", "logger", "message"} <= line.keys()


def test_a_page_that_points_its_own_name_here_is_refused(measured: Stack) -> None:
    asked = httpx2.get(f"{measured.url}/metrics", headers={"host": "evil.example"}, trust_env=False)
    assert asked.status_code == 421
