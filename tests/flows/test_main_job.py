"""The main job, end to end: a message becomes a run, an agent's CLI, files, and events for any number of readers."""

import hashlib
import threading
from pathlib import Path

import pytest
from stack import Json, Reader, Stack, check_whole
from waiting import wait_for


def test_a_message_becomes_an_answer_and_a_file_of_exactly_that_run(stack: Stack) -> None:
    run = stack.run("say 3 0; save report.txt")
    with Reader(stack, run) as reader:
        events = reader.wait()
    check_whole(events)
    assert events[-1]["type"] == "run.succeeded"
    saved = next(event["data"] for event in events if event["type"] == "artifact.saved")
    assert (saved["tool_call_id"], saved["artifact"]["run_id"]) == ("call_report.txt", run["id"])
    told = next(event["data"] for event in events if event["type"] == "tool.completed")
    assert told["output"].startswith("ARTIFACT_CREATED:{")
    assert told["output"].endswith("|Saved report.txt (version 1).")
    (artifact,) = stack.get(f"/runs/{run['id']}/artifacts")["data"]
    content = stack.http.get(f"/artifacts/{artifact['id']}/content").content
    assert content == f"made by {run['id']}\n".encode()
    assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
    messages = stack.get(f"/threads/{run['thread_id']}/messages")["data"]
    assert [(said["role"], said["partial"]) for said in messages] == [("user", False), ("assistant", False)]
    assert messages[1]["text"] == stack.settled(run)["output_text"] == "0 1 2 "


def test_the_demo_agent_answers_without_any_key(stack: Stack) -> None:
    run = stack.run("Write a haiku about the sea", agent="demo")
    assert stack.settled(run)["status"] == "succeeded"
    (artifact,) = stack.get(f"/runs/{run['id']}/artifacts")["data"]
    assert "sea" in stack.http.get(f"/artifacts/{artifact['id']}/content").text.lower()
    assert "demo" in stack.get(f"/runs/{run['id']}")["output_text"].lower()


def test_the_json_list_and_the_stream_say_the_same(stack: Stack) -> None:
    run = stack.run("say 20 0.002; save a.txt; say 5 0")
    with Reader(stack, run) as reader:
        streamed = reader.wait()
    assert streamed == stack.log_of(run)


def test_many_readers_see_every_event_once_wherever_they_start_and_however_often_they_break_off(stack: Stack) -> None:
    run = stack.run("say 150 0.01")
    readers = [Reader(stack, run, give_up_after=n or None) for n in range(12)]
    for reader in readers:
        reader.__enter__()
    try:
        logs = [reader.wait() for reader in readers]
    finally:
        for reader in readers:
            reader.__exit__()
    for log in logs:
        check_whole(log)
        assert log == logs[0]
    # This one has a connection for each event.
    assert readers[1].connections >= len(logs[1])


def test_a_reader_that_comes_after_the_end_gets_everything_and_then_no_content(stack: Stack) -> None:
    run = stack.run("say 5 0")
    stack.settled(run)
    with Reader(stack, run) as reader:
        events = reader.wait()
    check_whole(events)
    url = f"/runs/{run['id']}/events"
    done = stack.http.get(url, headers={"accept": "text/event-stream", "last-event-id": str(len(events))})
    assert (done.status_code, done.content) == (204, b"")
    ahead = stack.http.get(url, params={"after": len(events) + 5})
    assert (ahead.status_code, ahead.json()["code"]) == (409, "cursor_ahead")


def test_messages_to_a_busy_thread_wait_their_turn_and_see_the_answers_before_them(
    stack: Stack, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = stack.run(f"wait {gate}; say 2 0")
    second = stack.run("history", thread=first["thread_id"])
    third = stack.run("history", thread=first["thread_id"])
    wait_for(lambda: stack.status(first) == "running", what="the first run to run")
    assert [stack.status(run) for run in (second, third)] == ["queued", "queued"]
    gate.touch()
    assert stack.settled(third)["status"] == "succeeded"
    assert stack.settled(second)["output_text"] == f'[["user", "wait {gate}; say 2 0"], ["assistant", "0 1 "]]'
    order = [stack.settled(run)["started_at"] for run in (first, second, third)]
    assert order == sorted(order)


def test_files_left_in_the_artifacts_folder_are_saved_with_versions(stack: Stack) -> None:
    first = stack.run("leave notes/plan.md")
    stack.settled(first)
    second = stack.run("leave notes/plan.md", thread=first["thread_id"])
    stack.settled(second)
    listed = stack.get(f"/threads/{first['thread_id']}/artifacts")["data"]
    assert [(file["name"], file["version"], file["run_id"]) for file in listed] == [
        ("notes/plan.md", 2, second["id"]),
        ("notes/plan.md", 1, first["id"]),
    ]


def test_without_artifact_generation_there_is_no_session_and_nothing_is_collected(stack: Stack) -> None:
    run = stack.run("leave a.txt; save b.txt", artifact_generation=False)
    ended = stack.settled(run)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "cli_exit")
    assert "LONGWICK_MCP_TOKEN" not in str(stack.log_of(run)[:-1])
    assert stack.get(f"/runs/{run['id']}/artifacts")["data"] == []


def test_a_running_run_is_cancelled_at_once_and_keeps_what_it_showed(stack: Stack, tmp_path: Path) -> None:
    run = stack.run(f"pid {tmp_path / 'pid'}; say 5 0; wait {tmp_path / 'never'}")
    wait_for(lambda: stack.text_of(run).endswith("4 "), what="the text so far")
    stack.post(f"/runs/{run['id']}/cancel")
    ended = stack.settled(run)
    assert (ended["status"], ended["output_text"]) == ("cancelled", "0 1 2 3 4 ")
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), what="the CLI to be gone")
    assert stack.post(f"/runs/{run['id']}/cancel")["status"] == "cancelled"
    check_whole(stack.log_of(run))


def test_an_agent_that_is_not_there_is_refused_at_submission(stack: Stack) -> None:
    refused = stack.http.post("/runs", json={"input": "x", "agent": "missing"})
    assert refused.json()["code"] == "agent_unavailable"
    assert "a-program-that-nobody-has" in refused.json()["detail"]
    listed = {agent["id"]: agent for agent in stack.get("/agents")["data"]}
    assert (listed["missing"]["available"], listed["script"]["available"]) == (False, True)


def test_a_burst_of_runs_all_end(stack: Stack) -> None:
    made: list[Json] = []
    threads = [threading.Thread(target=lambda: made.append(stack.run("say 1 0"))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(made) == 40
    assert {stack.settled(run, 40)["status"] for run in made} == {"succeeded"}


@pytest.mark.parametrize("kind", ["chat", "background"])
def test_both_lanes_run(stack: Stack, kind: str) -> None:
    assert stack.settled(stack.run("say 1 0", kind=kind))["status"] == "succeeded"


def test_everything_is_ready(stack: Stack) -> None:
    ready = stack.well()
    assert set(ready["checks"]) == {"record", "redis", "worker", "mcp"}
