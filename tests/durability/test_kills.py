"""Processes killed, frozen and emptied for real, in the middle of runs; what users see of it."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
import redis
from postgres import Postgres
from processes import Launch, gone
from stack import Json, Reader, Stack, check_whole, launch_worker
from waiting import wait_for


def cli_pid(folder: Path) -> int:
    file = folder / "pid"
    return int(wait_for(lambda: file.read_text() if file.exists() else None, what="the CLI to start"))


def long_run(stack: Stack, folder: Path) -> Json:
    """A run that has streamed some text, and waits for a file that nobody makes."""
    run = stack.run(f"pid {folder / 'pid'}; say 5 0; wait {folder / 'gate'}; say 5 0")
    wait_for(lambda: stack.text_of(run).endswith("4 "), what="the first half of the answer")
    return run


def test_f1_a_killed_worker_fails_its_runs_within_seconds_and_keeps_what_they_showed(
    shaken_stack: Stack, tmp_path: Path
) -> None:
    run = long_run(shaken_stack, tmp_path)
    agent = cli_pid(tmp_path)
    with Reader(shaken_stack, run) as reader:
        shaken_stack.kill("worker")
        events = reader.wait()
    check_whole(events)
    assert events[-1]["data"]["error"]["code"] == "worker_lost"
    ended = shaken_stack.settled(run)
    assert ended["output_text"] == "0 1 2 3 4 "
    completed = [event["data"] for event in events if event["type"] == "message.completed"]
    assert [(block["text"], block["partial"]) for block in completed] == [("0 1 2 3 4 ", True)]
    wait_for(lambda: gone(agent), what="the CLI to be gone")
    after = shaken_stack.run("say 1 0", thread=run["thread_id"])
    assert shaken_stack.settled(after)["status"] == "succeeded"


def test_f5_a_killed_cli_fails_its_run_with_the_signal(shaken_stack: Stack, tmp_path: Path) -> None:
    run = long_run(shaken_stack, tmp_path)
    os.kill(cli_pid(tmp_path), signal.SIGKILL)
    ended = shaken_stack.settled(run)
    assert (ended["error"]["code"], ended["output_text"]) == ("cli_exit", "0 1 2 3 4 ")
    assert "signal 9" in ended["error"]["message"]
    check_whole(shaken_stack.log_of(run))


def test_f16_a_killed_web_tier_is_back_and_readers_go_on_where_they_were(shaken_stack: Stack, tmp_path: Path) -> None:
    run = long_run(shaken_stack, tmp_path)
    with Reader(shaken_stack, run) as reader:
        wait_for(lambda: len(reader.events) >= 3, what="the reader to read")
        killed = shaken_stack.kill("web")
        (tmp_path / "gate").touch()
        events = reader.wait(20)
    assert shaken_stack.pid("web") != killed
    check_whole(events)
    assert events[-1]["type"] == "run.succeeded"


def test_f20_a_killed_mcp_server_is_back_for_the_next_save(shaken_stack: Stack, tmp_path: Path) -> None:
    run = shaken_stack.run(f"save a.txt; wait {tmp_path / 'gate'}; save b.txt")
    wait_for(lambda: shaken_stack.get(f"/runs/{run['id']}/artifacts")["data"], what="the first file")
    shaken_stack.kill("mcp")
    shaken_stack.well()
    (tmp_path / "gate").touch()
    assert shaken_stack.settled(run)["status"] == "succeeded"
    assert [file["name"] for file in shaken_stack.get(f"/runs/{run['id']}/artifacts")["data"]] == ["b.txt", "a.txt"]


def test_f22_with_valkey_killed_and_emptied_streams_go_on_and_new_runs_end(shaken_stack: Stack, tmp_path: Path) -> None:
    run = long_run(shaken_stack, tmp_path)
    with Reader(shaken_stack, run) as reader:
        wait_for(lambda: len(reader.events) >= 3, what="the reader to read")
        shaken_stack.kill("valkey", signal.SIGSTOP)
        queued = shaken_stack.run("say 1 0")
        for path in (shaken_stack.data_dir / "valkey" / "appendonlydir").iterdir():
            path.unlink()
        shaken_stack.kill("valkey")
        (tmp_path / "gate").touch()
        events = reader.wait(20)
    check_whole(events)
    assert events[-1]["type"] == "run.succeeded"
    assert shaken_stack.settled(queued, 30)["status"] == "succeeded"


def test_f25_with_redis_frozen_posts_are_accepted_and_streams_follow_the_record(
    shaken_stack: Stack, tmp_path: Path
) -> None:
    run = long_run(shaken_stack, tmp_path)
    valkey = shaken_stack.kill("valkey", signal.SIGSTOP)
    try:
        with Reader(shaken_stack, run) as reader:
            wait_for(lambda: len(reader.events) >= 3, what="the reader to read")
            queued = [shaken_stack.run("say 1 0") for _ in range(5)]
            (tmp_path / "gate").touch()
            check_whole(reader.wait(30))
        assert {shaken_stack.status(each) for each in queued} <= {"queued", "running", "succeeded"}
    finally:
        os.kill(valkey, signal.SIGCONT)
    assert {shaken_stack.settled(each, 30)["status"] for each in queued} == {"succeeded"}


def test_f24_flushall_loses_nothing(shaken_stack: Stack, tmp_path: Path) -> None:
    running = long_run(shaken_stack, tmp_path)
    waiting = [shaken_stack.run("say 1 0", thread=running["thread_id"]) for _ in range(2)]
    with redis.Redis.from_url(shaken_stack.redis_url) as client:
        client.flushall()
    (tmp_path / "gate").touch()
    assert [shaken_stack.settled(run, 30)["status"] for run in (running, *waiting)] == ["succeeded"] * 3


def test_f27_a_redis_that_takes_nothing_more_holds_up_no_stream_and_no_submission(
    shaken_stack: Stack, tmp_path: Path
) -> None:
    run = long_run(shaken_stack, tmp_path)
    with redis.Redis.from_url(shaken_stack.redis_url) as client, Reader(shaken_stack, run) as reader:
        client.config_set("maxmemory", 1)
        queued = [shaken_stack.run("say 1 0") for _ in range(3)]
        (tmp_path / "gate").touch()
        check_whole(reader.wait(30))
        client.config_set("maxmemory", 0)
    assert {shaken_stack.settled(each, 30)["status"] for each in queued} == {"succeeded"}


def test_f29_a_postgresql_that_crashes_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    with Postgres() as postgres, Stack(tmp_path / "stack", {"LONGWICK_DATABASE_URL": postgres.create()}) as stack:
        run = long_run(stack, tmp_path)
        with Reader(stack, run) as reader:
            wait_for(lambda: len(reader.events) >= 3, what="the reader to read")

            def submit() -> None:
                refused = stack.http.post("/runs", json={"input": "say 1 0", "agent": "script"})
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")

            postgres.crash(submit)
            (tmp_path / "gate").touch()
            events = reader.wait(30)
        check_whole(events)
        assert events[-1]["type"] == "run.succeeded"
        assert events == stack.log_of(run)
        assert stack.settled(stack.run("say 1 0"), 30)["status"] == "succeeded"


def test_f37_a_worker_frozen_for_longer_than_its_lease_is_taken_over_and_writes_nothing_more(
    record_env: dict[str, str], tmp_path: Path, launch: Launch
) -> None:
    with Stack(tmp_path / "stack", {**record_env, "LONGWICK_LEASE_SECONDS": "8"}) as stack:
        run = long_run(stack, tmp_path)
        agent = cli_pid(tmp_path)
        other = launch_worker(stack, launch, tmp_path / "other")
        frozen = stack.kill("worker", signal.SIGSTOP)
        try:
            ended = stack.settled(run, 20)
            assert ended["error"]["code"] == "worker_lost"
            log = stack.log_of(run)
            (tmp_path / "gate").touch()
        finally:
            os.kill(frozen, signal.SIGCONT)
        wait_for(lambda: gone(agent), what="the CLI of the worker that came back to be gone")
        assert stack.settled(stack.run("say 1 0", thread=run["thread_id"]))["status"] == "succeeded"
        assert stack.log_of(run) == log
        check_whole(log)
        assert other.returncode is None


def test_f42_a_worker_that_is_told_to_stop_lets_runs_finish_and_then_ends_the_rest(
    record_env: dict[str, str], tmp_path: Path
) -> None:
    with Stack(tmp_path / "stack", {**record_env, "LONGWICK_DRAIN_SECONDS": "10"}) as stack:
        never = long_run(stack, tmp_path)
        short = stack.run(f"say 3 0; wait {tmp_path / 'told'}; say 2 0")
        wait_for(lambda: stack.text_of(short), what="the short run to be under way")
        told = stack.kill("worker", signal.SIGTERM)
        wait_for(lambda: "told to stop: 2 runs" in stack.said, what="the worker to drain")
        (tmp_path / "told").touch()
        assert stack.settled(short)["status"] == "succeeded"
        ended = stack.settled(never)
        assert (ended["error"]["code"], ended["output_text"]) == ("worker_shutdown", "0 1 2 3 4 ")
        wait_for(lambda: gone(told), what="the worker to be gone")
        assert stack.settled(stack.run("say 1 0"))["status"] == "succeeded"


def test_f53_when_up_is_killed_nothing_is_left_running(own_stack: Stack, tmp_path: Path) -> None:
    long_run(own_stack, tmp_path)
    family = [child.pid for child in psutil.Process(own_stack.process.pid).children(recursive=True)]
    assert cli_pid(tmp_path) in family
    own_stack.process.send(signal.SIGKILL)
    for pid in family:
        wait_for(lambda: gone(pid), what=f"process {pid} to be gone")


def test_after_a_crash_of_everything_the_next_start_finds_it_all(record_env: dict[str, str], tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", record_env) as stack:
        done = stack.settled(stack.run("say 3 0; save a.txt"))
        cut = long_run(stack, tmp_path)
        queued = stack.run("say 1 0", thread=cut["thread_id"])
        stack.process.send(signal.SIGKILL)
        stack.process.wait(30)
    with Stack(tmp_path / "stack", record_env) as stack:
        assert stack.get(f"/runs/{done['id']}") == done
        assert stack.settled(cut)["error"]["code"] == "worker_lost"
        assert stack.settled(queued)["status"] == "succeeded"
        (artifact,) = stack.get(f"/runs/{done['id']}/artifacts")["data"]
        assert stack.http.get(f"/artifacts/{artifact['id']}/content").text == f"made by {done['id']}\n"
        for run in (done, cut, queued):
            check_whole(stack.log_of(run))


def test_up_refuses_to_start_twice_on_one_data_dir(own_stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="another `longwick up` runs on"):
        Stack(own_stack.folder, {}).__enter__()
    assert own_stack.settled(own_stack.run("say 1 0"))["status"] == "succeeded"


def test_readers_that_come_and_go_through_random_kills_see_each_event_once(shaken_stack: Stack) -> None:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    made = [shaken_stack.run("say 150 0.04; save a.txt") for _ in range(6)]
    readers = [Reader(shaken_stack, run, give_up_after=chance.choice([None, 3, 17])) for run in made for _ in range(3)]
    for reader in readers:
        reader.__enter__()
    try:
        end = time.monotonic() + 8
        while time.monotonic() < end:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                tier = chance.choice(["web", "web", "valkey", "valkey", "mcp", "worker"])
                shaken_stack.kill(tier)
            pause = time.monotonic() + chance.uniform(0.2, 2)
            wait_for(lambda: time.monotonic() > pause, what="the next kill")
        logs = [reader.wait(60) for reader in readers]
    finally:
        for reader in readers:
            reader.__exit__()
    for reader, log in zip(readers, logs, strict=True):
        check_whole(log)
        record = shaken_stack.log_of({"id": log[0]["run_id"]})
        assert log == record, reader
