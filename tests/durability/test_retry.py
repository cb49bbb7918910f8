"""Runs that may be started again: whatever is killed, another attempt goes on, and no text is shown twice."""

import os
import signal
from pathlib import Path

from processes import Launch, gone
from stack import Json, Reader, Stack, check_whole, launch_worker
from waiting import wait_for


def counted(number: int) -> str:
    return "".join(f"{n} " for n in range(number))


def counting(stack: Stack, folder: Path, number: int = 40, gap: float = 0.05) -> Json:
    """A run that may be started again, and has shown some of what it has to say; then it waits for a gate."""
    half = number // 2
    text = f"pid {folder / 'pid'}; count {half} {gap}; wait {folder / 'gate'}; count {number} {gap}"
    run = stack.run(text, on_worker_lost="retry")
    wait_for(lambda: len(stack.text_of(run)) > 10, what="some text")
    return run


def attempts(log: list[Json]) -> list[tuple[str, int]]:
    """What the log says of attempts."""
    return [(event["type"], event["attempt"]) for event in log if event["type"] in ("run.started", "run.attempt_lost")]


def check_answer(stack: Stack, run: Json, log: list[Json], text: str) -> None:
    """All of the text, once: as it was streamed, as the run has it, and as the thread has it."""
    check_whole(log)
    assert "".join(event["data"]["text"] for event in log if event["type"] == "message.delta") == text
    assert stack.get(f"/runs/{run['id']}")["output_text"] == text
    messages = stack.get(f"/threads/{run['thread_id']}/messages")["data"]
    assert [(said["role"], said["text"]) for said in messages][1:] == [("assistant", text)]
    started = [event["data"]["message_id"] for event in log if event["type"] == "message.started"]
    completed = [event["data"]["message_id"] for event in log if event["type"] == "message.completed"]
    assert started == completed


def test_after_a_killed_worker_another_attempt_goes_on_where_the_text_stopped(
    shaken_stack: Stack, tmp_path: Path
) -> None:
    run = counting(shaken_stack, tmp_path)
    agent = int((tmp_path / "pid").read_text())
    with Reader(shaken_stack, run) as reader:
        shaken_stack.kill("worker")
        wait_for(lambda: gone(agent), what="the first CLI to be gone")
        (tmp_path / "gate").touch()
        log = reader.wait(40)
    check_answer(shaken_stack, run, log, counted(40))
    assert attempts(log) == [("run.started", 1), ("run.attempt_lost", 1), ("run.started", 2)]
    ended = shaken_stack.settled(run)
    assert (ended["status"], ended["attempt"], ended["error"]) == ("succeeded", 2, None)
    blocks = [event["data"]["partial"] for event in log if event["type"] == "message.completed"]
    assert blocks == [True, False]


def test_after_three_lost_attempts_it_fails_with_all_that_they_showed(shaken_stack: Stack, tmp_path: Path) -> None:
    run = counting(shaken_stack, tmp_path, 4000, 0.02)
    for number in (1, 2, 3):
        seen = len(shaken_stack.text_of(run))
        wait_for(lambda seen=seen: len(shaken_stack.text_of(run)) > seen + 20, 30, f"text of attempt {number}")  # type: ignore[misc]
        shaken_stack.kill("worker")
    ended = shaken_stack.settled(run, 30)
    assert (ended["status"], ended["attempt"], ended["error"]["code"]) == ("failed", 3, "worker_lost")
    log = shaken_stack.log_of(run)
    text = shaken_stack.text_of(run)
    assert text == counted(text.count(" "))
    check_answer(shaken_stack, run, log, text)
    assert [number for kind, number in attempts(log) if kind == "run.attempt_lost"] == [1, 2, 3]


def test_a_worker_that_is_told_to_stop_hands_it_to_the_next(shaken_stack: Stack, tmp_path: Path) -> None:
    run = counting(shaken_stack, tmp_path)
    with Reader(shaken_stack, run) as reader:
        told = shaken_stack.kill("worker", signal.SIGTERM)
        wait_for(lambda: gone(told), 30, "the worker to be gone")
        (tmp_path / "gate").touch()
        log = reader.wait(40)
    check_answer(shaken_stack, run, log, counted(40))
    assert shaken_stack.settled(run)["status"] == "succeeded"
    (lost,) = [event["data"] for event in log if event["type"] == "run.attempt_lost"]
    assert lost == {"attempt": 1, "reason": "its worker was told to stop"}


def test_a_worker_that_freezes_loses_it_to_another_and_shows_nothing_more(
    record_env: dict[str, str], tmp_path: Path, launch: Launch
) -> None:
    env = {**record_env, "LONGWICK_BEAT_SECONDS": "0.5", "LONGWICK_LEASE_SECONDS": "3"}
    with Stack(tmp_path / "stack", env) as stack:
        run = counting(stack, tmp_path)
        agent = int((tmp_path / "pid").read_text())
        launch_worker(stack, launch, tmp_path / "other")
        frozen = stack.kill("worker", signal.SIGSTOP)
        try:
            wait_for(lambda: stack.get(f"/runs/{run['id']}")["attempt"] == 2, 30, "another worker to take it")
            (tmp_path / "gate").touch()
            assert stack.settled(run)["status"] == "succeeded"
            log = stack.log_of(run)
        finally:
            os.kill(frozen, signal.SIGCONT)
        wait_for(lambda: gone(agent), what="the CLI of the worker that came back to be gone")
        assert stack.log_of(run) == log
        check_answer(stack, run, log, counted(40))


def test_after_a_crash_of_everything_it_goes_on_with_the_next_start(record_env: dict[str, str], tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", record_env) as stack:
        run = counting(stack, tmp_path)
        stack.process.send(signal.SIGKILL)
        stack.process.wait(30)
    (tmp_path / "gate").touch()
    with Stack(tmp_path / "stack", record_env) as stack:
        ended = stack.settled(run, 40)
        assert (ended["status"], ended["attempt"]) == ("succeeded", 2)
        check_answer(stack, run, stack.log_of(run), counted(40))


def test_cancelled_in_its_second_attempt_it_keeps_what_both_showed(shaken_stack: Stack, tmp_path: Path) -> None:
    run = counting(shaken_stack, tmp_path, 4000, 0.02)
    shaken_stack.kill("worker")
    wait_for(lambda: shaken_stack.get(f"/runs/{run['id']}")["attempt"] == 2, 30, "the second attempt")
    seen = len(shaken_stack.text_of(run))
    wait_for(lambda: len(shaken_stack.text_of(run)) > seen + 20, 20, "its text")
    shaken_stack.post(f"/runs/{run['id']}/cancel")
    ended = shaken_stack.settled(run, 30)
    text = shaken_stack.text_of(run)
    assert (ended["status"], ended["attempt"]) == ("cancelled", 2)
    assert text == counted(text.count(" "))
    check_answer(shaken_stack, run, shaken_stack.log_of(run), text)
