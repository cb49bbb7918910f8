"""One attempt from claim to settled, with real agents: whatever they do, the record tells it in full and in order."""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import httpx2
import pytest
from scene import NOON, OWNER, new_thread, queued_run, running_run
from sqlalchemy import func, select
from waiting import wait_for

from longwick import artifacts, cancellation, events, leases, limits, runs, spending, threads
from longwick.database import Db
from longwick.errors import StorageFull, Unavailable
from longwick.events import TERMINAL_EVENTS, Event
from longwick.kinds import OnWorkerLost, Role, RunStatus
from longwick.leases import Held
from longwick.models import AgentSession, Artifact, Message, Run, Thread
from longwick.outcomes import Outcome
from longwick.patience import Alive
from longwick.profiles import Profile
from longwick.storage import Batch, Incoming, Stored
from longwick.transcript import Transcript
from longwick.unlisted import Listed
from worker import ending as ending_module
from worker import process as process_module
from worker import workspace as workspace_module
from worker.agents import End
from worker.agents.jsonl import JsonLines
from worker.cli import Overlong
from worker.conversation import DAY_IS_SPENT
from worker.execute import execute
from worker.keeper import SELF_FENCE, Stop
from worker.parts import Parts
from worker.passes import Pass
from worker.process import CliProcess
from worker.strays import adopt_orphans

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Story:
    """All that the record says of a run."""

    run: Run
    events: list[dict[str, Any]]
    messages: list[Message]
    files: list[Artifact]
    sessions_open: int
    sessions: int
    held: list[Held]

    @property
    def kinds(self) -> list[str]:
        """The types of the events in order; of deltas in a row, one."""
        kinds = [str(event["type"]) for event in self.events]
        return [kind for i, kind in enumerate(kinds) if not (kind.endswith(".delta") and kinds[i - 1] == kind)]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == kind]

    def only(self, kind: str) -> dict[str, Any]:
        (data,) = self.all(kind)
        return data

    @property
    def shown(self) -> str:
        """What was streamed, as it was streamed."""
        return "".join(data["text"] for data in self.all("message.delta"))

    @property
    def error(self) -> tuple[str | None, str]:
        return self.run.error_code, self.run.error_message or ""

    @property
    def answer(self) -> tuple[str, bool] | None:
        """(Text, whether it is partial) of the assistant's message."""
        said = [(message.text, message.partial) for message in self.messages if message.role is Role.ASSISTANT]
        assert len(said) <= 1
        return said[0] if said else None

    @property
    def notices(self) -> list[str]:
        return [data["code"] for data in self.all("notice")]


class World:
    """A worker with its agents; what the tests ask of it, and what they see of it."""

    def __init__(self, parts: Parts, pool: ThreadPoolExecutor) -> None:
        self.parts = parts
        self._pool = pool

    def thread(self) -> Thread:
        return new_thread(self.parts.database)

    def ask(self, agent: str, text: str = "anything", *, thread: Thread | None = None, **more: Any) -> str:
        """The id of a run that is queued."""
        return queued_run(self.parts.database, thread, text, agent=agent, **more).id

    def begin(self, run_id: str) -> "Future[Run | None]":
        return self._pool.submit(execute, self.parts, run_id)

    def run(self, agent: str, text: str = "anything", *, rewritten: bool = False, **more: Any) -> Story:
        """The whole story of a run that is executed to its end."""
        run_id = self.ask(agent, text, **more)
        self.begin(run_id).result(30)
        return self.ended(run_id, rewritten=rewritten)

    def look(self, run_id: str) -> Story:
        """What the record says now."""

        def read(db: Db) -> Story:
            run = db.get_one(Run, run_id)
            batches = events.read(db, run_id, 0, limit=1_000_000)
            lines = [line for batch in batches for _, line in batch.after(0)]
            sessions = select(func.count()).where(AgentSession.run_id == run_id)
            return Story(
                run,
                [json.loads(line, parse_constant=no_json) for line in lines],
                [each for each in threads.list_messages(db, run.thread_id).data if each.run_id == run_id],
                list(artifacts.of_run(db, run, limit=2000).data),
                db.scalar(sessions.where(AgentSession.closed_at.is_(None))) or 0,
                db.scalar(sessions) or 0,
                [held for held in leases.all_held(db) if held.run_id == run_id],
            )

        return self.parts.database.read(read)

    def wait_until_it_says(self, run_id: str, words: str) -> Story:
        wait_for(lambda: words in self.look(run_id).shown, what=f"{words!r}")
        return self.look(run_id)

    def wait_until_settled(self, run_id: str) -> Run:
        wait_for(lambda: self.look(run_id).run.status.terminal, what="the run to be settled")
        return self.look(run_id).run

    def cancel(self, run_id: str) -> None:
        self.parts.database.write(lambda db: cancellation.request(db, OWNER, run_id))

    def take_away(self, run_id: str) -> Run:
        """Do as a sweeper does that has seen the run's lease stand still."""

        def taken() -> Run | None:
            (held,) = self.look(run_id).held
            return leases.recover(self.parts.database, held, "its worker showed no sign of life")

        run = wait_for(taken, what="the run to be taken away")
        assert run is not None
        return run

    def ended(self, run_id: str, *, rewritten: bool = False) -> Story:
        """The story of a run that is over, which must be a good one; its last block may have been `rewritten`."""
        story = self.look(run_id)
        run = story.run
        assert run.status.terminal, run.status
        assert [event["seq"] for event in story.events] == list(range(1, run.last_seq + 1))
        assert {event["run_id"] for event in story.events} == {run_id}
        ends = [event["type"] for event in story.events if event["type"] in TERMINAL_EVENTS]
        assert ends == [f"run.{run.status.value}"] == [story.events[-1]["type"]]
        if run.status is RunStatus.FAILED:
            assert story.events[-1]["data"]["error"] == {"code": run.error_code, "message": run.error_message}
        assert (run.error_code is None) == (run.status is not RunStatus.FAILED)
        self._assert_blocks_are_complete(story, rewritten)
        assert story.sessions_open == 0
        assert story.held == []
        assert story.answer is None or story.answer[0] == run.output_text
        assert [hold for hold in self.parts.keeper.holds() if hold.run_id == run_id] == []
        assert [path.name for path in self.workspaces() if path.name.startswith(run_id)] == []
        return story

    def _assert_blocks_are_complete(self, story: Story, rewritten: bool) -> None:
        for kind, name in (("message", "message_id"), ("reasoning", "reasoning_id")):
            streamed: dict[str, str] = {data[name]: "" for data in story.all(f"{kind}.started")}
            for data in story.all(f"{kind}.delta"):
                assert kind == "reasoning" or data[name] in streamed
                streamed[data[name]] = streamed.get(data[name], "") + data["text"]
            completed = {data[name]: self.value(data) for data in story.all(f"{kind}.completed")}
            assert completed.keys() == streamed.keys()
            assert len(story.all(f"{kind}.completed")) == len(completed)
            assert rewritten or completed == streamed
        began = [data["tool_call_id"] for data in story.all("tool.started")]
        assert set(began) <= {data["tool_call_id"] for data in story.all("tool.completed")}

    def value(self, data: Mapping[str, Any]) -> Any:
        """The text, output or input of an event, be it in the event or in storage."""
        if "value" not in data:
            return data.get("text", data.get("output", data.get("input")))
        reference = data["value"]
        assert data[reference["field"]] is None
        with self.parts.storage.open(reference["sha256"]) as file:
            stored = file.read()
        assert (hashlib.sha256(stored).hexdigest(), len(stored)) == (reference["sha256"], reference["size"])
        return stored.decode() if reference["media_type"].startswith("text/") else json.loads(stored)

    def content(self, artifact: Artifact) -> bytes:
        with self.parts.storage.open(artifact.sha256) as file:
            return file.read()

    def workspaces(self) -> Iterable[Path]:
        folder = self.parts.settings.data_dir / "workspaces"
        return list(folder.iterdir()) if folder.exists() else []


def no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON: a browser does not read it")


def lines(*messages: Mapping[str, Any] | str) -> str:
    """What an agent prints, as the input of one that `recites`."""
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in messages)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def alive(pid: int) -> bool:
    """It runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes(run_id: str) -> list[int]:
    """The pids of all that carry the run's id."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):
            if f"LONGWICK_RUN_ID={run_id}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return [pid for pid in found if alive(pid)]


@pytest.fixture
def world(parts: Parts) -> Iterator[World]:
    with ThreadPoolExecutor(4) as pool:
        world = World(replace(parts, draining=threading.Event()), pool)
        try:
            yield world
        finally:
            # For a test that failed half way.
            world.parts.draining.set()
            parts.keeper.stop_all(Stop.FENCED)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for longer than a moment."""
    monkeypatch.setattr(ending_module, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(ending_module, "LOOK_SECONDS", 0.1)


@pytest.fixture
def adopting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process adopts orphans, as a worker does; it does not wait long for those that hold a CLI's output open."""
    monkeypatch.setattr(process_module, "LAST_WORDS_SECONDS", 0.3)
    adopt_orphans()
    yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


# What it says


def test_an_answer_is_streamed_kept_and_becomes_a_message(world: World) -> None:
    story = world.run("answers", "Ada")
    assert story.kinds == [
        "run.queued",
        "run.started",
        "message.started",
        "message.delta",
        "message.completed",
        "run.succeeded",
    ]
    assert story.run.status is RunStatus.SUCCEEDED
    assert story.run.output_text == "Hello, Ada."
    assert story.answer == ("Hello, Ada.", False)
    assert not story.only("message.completed")["partial"]
    assert {event["attempt"] for event in story.events[1:]} == {1}


def test_what_settled_is_returned_for_the_task_to_tell(world: World) -> None:
    said = lines({"type": "usage", "input_tokens": 3, "cost_usd": 0.5}, {"type": "result"})
    run = world.begin(world.ask("recites", said)).result(30)
    assert run is not None
    assert (run.status, run.attempt, run.usage, run.cost_usd) == (RunStatus.SUCCEEDED, 1, {"input_tokens": 3}, 0.5)


def test_f38_a_hint_that_came_twice_starts_one_agent(world: World) -> None:
    run_id = world.ask("stops_politely")
    first = world.begin(run_id)
    world.wait_until_it_says(run_id, "Working")
    assert world.begin(run_id).result(30) is None
    world.cancel(run_id)
    first.result(30)
    assert world.begin(run_id).result(30) is None
    assert world.ended(run_id).run.attempt == 1


def test_thinking_tools_and_text_are_told_in_their_order(world: World) -> None:
    story = world.run(
        "recites",
        lines(
            {"type": "thinking", "text": "Let me "},
            {"type": "thinking", "text": "see."},
            text("I look."),
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "it"}},
            {"type": "tool_result", "id": "t1", "output": ["seen"], "is_error": False},
            text("I saw."),
            {"type": "result"},
        ),
    )
    assert story.kinds[2:-1] == [
        "reasoning.delta",
        "reasoning.completed",
        "message.started",
        "message.delta",
        "message.completed",
        "tool.started",
        "tool.completed",
        "message.started",
        "message.delta",
        "message.completed",
    ]
    assert story.only("reasoning.completed")["text"] == "Let me see."
    assert story.only("tool.started") == {"tool_call_id": "t1", "name": "look", "input": {"at": "it"}}
    assert story.only("tool.completed") == {"tool_call_id": "t1", "output": ["seen"], "is_error": False}
    assert story.run.output_text == "I look.\n\nI saw."


def test_a_result_that_differs_from_what_was_streamed_is_the_answer(world: World) -> None:
    story = world.run("recites", lines(text("A draft."), {"type": "result", "text": "The answer."}), rewritten=True)
    assert story.answer == ("The answer.", False)
    assert story.only("message.completed")["text"] == "The answer."


def test_an_empty_result_is_the_answer_too(world: World) -> None:
    tool = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    story = world.run("recites", lines(text("A draft."), tool, {"type": "result", "text": ""}), rewritten=True)
    assert story.run.status is RunStatus.SUCCEEDED
    assert not story.run.output_text


def test_a_result_that_was_not_streamed_is_shown(world: World) -> None:
    story = world.run("recites", lines({"type": "result", "text": "All at once."}))
    assert story.shown == "All at once."
    assert story.answer == ("All at once.", False)


def test_a_turn_can_end_without_a_word(world: World) -> None:
    story = world.run("recites", lines({"type": "result"}))
    assert story.kinds == ["run.queued", "run.started", "run.succeeded"]
    assert story.answer is None


def test_what_follows_the_result_is_not_told(world: World) -> None:
    story = world.run("recites", lines({"type": "result", "text": "Done."}, text("And"), {"type": "error"}))
    assert story.answer == ("Done.", False)


def test_half_a_line_at_the_end_counts(world: World) -> None:
    story = world.run("recites", '{"type":"result","text":"No end of line."}')
    assert story.answer == ("No end of line.", False)


def test_rubbish_is_told_as_notices_and_harms_nothing(world: World) -> None:
    rubbish = ["Traceback", "[1, 2]", '{"type": 5}', "{}", "", '{"type": "text"}', '{"type": "text", "text": 1}']
    said = lines(*rubbish, {"type": "new"}, text("Still."), {"type": "result"})
    story = world.run("recites", said)
    assert story.answer == ("Still.", False)
    assert story.notices == ["unreadable_line"] * 6 + ["unknown_message"]


def test_bytes_that_are_no_utf8_are_replaced(world: World) -> None:
    said = '\xff\xfe\n{"type":"text","text":"caf\xe9 \x80"}\n{"type":"result"}\n'
    story = world.run("recites_bytes", said)
    assert story.answer == ("caf� �", False)
    assert "��" in story.only("notice")["message"]


def test_nul_and_lone_surrogates_are_replaced(world: World) -> None:
    broken = r'{"type":"tool_use","id":"t\u0000","name":"\ud800","input":{"a\u0000":["\udfff"]}}'
    story = world.run("recites", lines(r'{"type":"text","text":"a\u0000b\ud83dc"}', broken, '{"type":"result"}'))
    assert story.answer == ("a�b�c", False)
    assert story.only("tool.started") == {"tool_call_id": "t�", "name": "�", "input": {"a�": ["�"]}}


@pytest.mark.parametrize("depth", [100, 600, 200_000])
def test_json_of_any_depth_harms_nothing(depth: int, world: World) -> None:
    story = world.run("nests_deeply", str(depth))
    assert story.error == (None, "")
    assert story.answer == ("Dug.", False)
    assert story.notices in ([], ["unreadable_line"])
    assert depth != 100 or story.notices == []


@pytest.mark.parametrize("number", ["NaN", "1e400", "9" * 400, "9" * 5000], ids=lambda number: number[:9])
def test_numbers_that_are_none_harm_nothing(number: str, world: World) -> None:
    tool = f'{{"type":"tool_use","id":"t1","name":"count","input":{{"to":{number}}}}}'
    usage = f'{{"type":"usage","input_tokens":{number},"cost_usd":{number}}}'
    story = world.run("recites", lines(tool, usage, {"type": "result", "text": "Counted."}))
    assert story.error == (None, "")
    assert story.answer == ("Counted.", False)
    json.dumps(story.run.usage, allow_nan=False)
    assert story.run.cost_usd is None


def test_the_last_usage_counts_and_is_told_at_the_end(world: World) -> None:
    story = world.run(
        "recites",
        lines(
            {"type": "usage", "input_tokens": 1, "output_tokens": 1, "cost_usd": 0.25},
            {"type": "usage", "input_tokens": 2, "output_tokens": 5, "cost_usd": 0.5},
            {"type": "result"},
        ),
    )
    assert story.run.usage == {"input_tokens": 2, "output_tokens": 5}
    assert story.run.cost_usd == 0.5
    end = story.only("run.succeeded")
    assert (end["usage"], end["cost_usd"]) == (story.run.usage, 0.5)
    assert len(story.all("usage.updated")) == 2


def test_many_lines_at_once_lose_nothing(world: World) -> None:
    story = world.run("streams", "5000")
    assert story.run.output_text == "".join(f"{number}\n" for number in range(5000))


def test_f13_a_line_of_10_megabytes_is_kept_whole(world: World) -> None:
    whole = ("0123456789" * 1_000_001)[:10_000_000]
    story = world.run("says_a_long_line", "10")
    assert story.run.output_text == whole
    assert story.shown == whole
    assert max(len(event["data"]["text"]) for event in story.events if event["type"] == "message.delta") < 65536
    value = story.only("message.completed")["value"]
    assert value == {
        "field": "text",
        "sha256": hashlib.sha256(whole.encode()).hexdigest(),
        "size": 10_000_000,
        "media_type": "text/plain; charset=utf-8",
    }


@pytest.mark.parametrize(("mode", "code"), [("says_a_long_line", None), ("says_a_long_half_line", "no_result")])
def test_f13_a_line_over_the_limit_is_dropped_and_told(mode: str, code: str | None, world: World) -> None:
    story = world.run(mode, "40")
    assert story.run.error_code == code
    assert story.notices == ["overlong_line"]
    assert " 400000" in story.only("notice")["message"]
    assert story.shown == ""


def test_no_event_grows_with_what_an_agent_names_things(world: World) -> None:
    """Of what may be large, only the values are kept elsewhere."""
    long = "x" * 1_000_000
    tool = {"type": "tool_use", "id": "t1", "name": long, "input": {}}
    story = world.run("recites", lines({"type": long}, tool, {"type": "usage", "by": long}, {"type": "result"}))
    assert story.run.status is RunStatus.SUCCEEDED
    sizes = {event["type"]: len(json.dumps(event)) for event in story.events}
    assert {kind: size for kind, size in sizes.items() if size > 300_000} == {}


def test_large_values_of_tools_are_kept_elsewhere(world: World) -> None:
    output = {"rows": ["é" * 1000] * 300}
    story = world.run(
        "recites",
        lines(
            {"type": "tool_use", "id": "t1", "name": "read", "input": "i" * 300_000},
            {"type": "tool_result", "id": "t1", "output": output},
            {"type": "result"},
        ),
    )
    assert world.value(story.only("tool.started")) == "i" * 300_000
    assert story.only("tool.completed")["value"]["media_type"] == "application/json"
    assert world.value(story.only("tool.completed")) == output


# How it ends


def test_f6_an_exit_without_a_result_is_no_result(world: World) -> None:
    story = world.run("says_nothing")
    assert story.error == ("no_result", "The agent ended without a result.")
    assert story.answer is None


def test_what_was_shown_before_the_failure_is_kept_as_a_partial_answer(world: World) -> None:
    story = world.run("recites", lines({"type": "thinking", "text": "Hm."}, text("Half an ans")))
    assert story.run.error_code == "no_result"
    assert story.answer == ("Half an ans", True)
    assert story.only("message.completed")["partial"]


def test_another_exit_is_told_with_the_last_words_but_without_secrets(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSED_SECRET", "sk-0123456789")
    story = world.run("fails", "I tried.")
    code, message = story.error
    assert code == "cli_exit"
    assert "status 3" in message
    assert "these are its last words" in message
    assert message.count("[removed]") >= 3
    for secret in ("hunter2", "sk-0123456789", "lwk_"):
        assert secret not in message
    assert story.answer == ("I tried.", True)


def test_a_secret_that_begins_like_another_is_removed_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSED_SECRET", "hunter2")
    _, message = world.run("fails").error
    assert "and-no-other" not in message


def test_what_an_agent_says_of_its_error_holds_no_secrets(world: World) -> None:
    said = lines({"type": "error", "message": "401 for the key hunter2-and-no-other"})
    assert world.run("recites", said).error == ("agent_error", "401 for the key [removed]")


def test_a_killed_agent_is_told_with_its_signal(world: World) -> None:
    story = world.run("kills_itself")
    assert story.error == ("cli_exit", "The agent ended with signal 9.")
    assert story.answer == ("Goodb", True)


def test_f15_a_flood_of_errors_is_drained_and_its_end_is_told(world: World) -> None:
    code, message = world.run("floods_stderr").error
    assert code == "cli_exit"
    assert message.endswith("these are its last words")
    assert len(message) < 3000


def test_an_error_that_the_agent_tells_fails_the_run(world: World) -> None:
    story = world.run("recites", lines(text("Let me"), {"type": "error", "code": "E7", "message": "No credit."}))
    assert story.error == ("agent_error", "No credit. (E7)")
    assert story.answer == ("Let me", True)


def test_an_agent_that_nobody_knows_is_unavailable(world: World) -> None:
    story = world.run("gone")
    assert story.error == ("agent_unavailable", "The agent 'gone' cannot run here: no worker knows it.")
    assert story.kinds == ["run.queued", "run.started", "run.failed"]


def with_agent(world: World, profile: Profile) -> None:
    """Let the worker know an agent `other`."""
    world.parts = replace(world.parts, agents={**world.parts.agents, "other": profile})


def test_a_program_that_is_not_installed_is_unavailable(world: World) -> None:
    with_agent(world, Profile(adapter="jsonl", command=["no-such-program"]))
    code, message = world.run("other").error
    assert code == "agent_unavailable"
    assert "no-such-program" in message


def test_an_agent_that_cannot_be_started_is_told(world: World) -> None:
    # Longer than the kernel takes.
    with_agent(world, Profile(adapter="jsonl", command=["true"], env={"LONG": "x" * 200_000}))
    story = world.run("other")
    assert story.error == ("spawn_failed", "The agent could not be started: Argument list too long.")


def test_a_program_that_cannot_be_executed_is_told_like_one_that_cannot_be_started(
    world: World, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    with_agent(world, Profile(adapter="jsonl", command=[str(program)]))
    assert world.run("other").run.error_code == "spawn_failed"


def test_an_agent_that_says_what_is_said_of_those_tells_no_secrets_either(world: World) -> None:
    secret = "hunter2-and-no-other"
    said = 'echo "setpriv: $SECRET $(printf %070000d 0)" >&2; echo "setpriv: $SECRET" >&2; exit 127'
    for words in (said, said.partition("; ")[2]):
        with_agent(world, Profile(adapter="jsonl", command=["sh", "-c", words], env={"SECRET": secret}))
        _, message = world.run("other").error
        assert message.endswith(("[removed]", "[removed]."))
        assert secret not in message
        assert len(message) < 3000


def test_an_agent_may_have_a_path_of_its_own(world: World, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/echo", tmp_path / "bin" / "answer")
    said = '{"type": "result", "text": "Found."}'
    with_agent(
        world, Profile(adapter="jsonl", command=[str(tmp_path / "bin" / "answer"), said], env={"PATH": str(tmp_path)})
    )
    story = world.run("other")
    assert story.error == (None, "")
    assert story.answer == ("Found.", False)


@pytest.mark.usefixtures("impatient")
def test_a_run_that_takes_too_long_is_ended(world: World) -> None:
    story = world.run("talks_for_ever", timeout_seconds=5.0)
    assert story.error == ("timeout", "The agent was not done after 5 s.")
    assert story.answer is not None
    assert story.answer[0].startswith("and and ")
    assert story.answer[1]
    assert processes(story.run.id) == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("mode", ["is_silent", "closes_its_output", "is_deaf_and_silent"])
def test_f8_a_run_that_is_silent_for_too_long_is_ended(mode: str, world: World) -> None:
    story = world.run(mode, "x" * 500_000, idle_timeout_seconds=0.4)
    assert story.error == ("idle_timeout", "The agent said nothing for 0.4 s.")
    assert processes(story.run.id) == []


@pytest.mark.usefixtures("impatient")
def test_a_long_line_that_is_still_coming_is_no_silence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CliProcess._read_stdout

    def read_late(self: CliProcess) -> list[bytes | Overlong]:
        # As if every piece had been long in coming, but none for too long.
        self.heard_at -= 6.0
        return whole(self)

    monkeypatch.setattr(CliProcess, "_read_stdout", read_late)
    program = (
        "import sys, time\n"
        "for _ in range(20): sys.stdout.write(' ' * 99); sys.stdout.flush(); time.sleep(0.05)\n"
        'print(\'{"type": "result"}\')'
    )
    with_agent(world, Profile(adapter="jsonl", command=[sys.executable, "-I", "-c", program]))
    assert world.run("other", idle_timeout_seconds=10.0).error == (None, "")


@pytest.mark.usefixtures("impatient")
def test_the_limits_of_a_run_that_names_none_are_those_of_the_settings(world: World) -> None:
    short = world.parts.settings.model_copy(update={"idle_timeout_seconds": 0.4})
    world.parts = replace(world.parts, settings=short)
    assert world.run("is_silent").run.error_code == "idle_timeout"
    short = world.parts.settings.model_copy(update={"run_timeout_seconds": 0.3})
    world.parts = replace(world.parts, settings=short)
    assert world.run("is_silent").run.error_code == "timeout"


def test_an_agent_that_reads_nothing_can_answer(world: World) -> None:
    story = world.run("is_deaf", "x" * 5_000_000)
    assert story.answer == ("I did not listen.", False)


def test_a_bug_of_ours_ends_the_run_as_an_internal_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = JsonLines.translate

    def translate(self: JsonLines, line: bytes, shown: Transcript) -> Iterator[Event | End]:
        if b"bug" in line:
            raise ZeroDivisionError
        yield from whole(self, line, shown)

    monkeypatch.setattr(JsonLines, "translate", translate)
    story = world.run("recites", lines(text("Before."), {"type": "bug"}, {"type": "result"}))
    assert story.error == ("internal_error", "Longwick itself failed; its log says how.")
    assert story.answer == ("Before.", True)
    assert processes(story.run.id) == []


# How it is stopped


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("stops_politely", "Working, no longer"),
        ("finishes_when_cancelled", "WorkingDone, in spite of it."),
        ("stops_when_interrupted", "Working, interrupted"),
        ("is_stubborn", "Working"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_f9_a_cancelled_run_stops_its_agent_in_the_politest_way_that_works(
    mode: str, said: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = CliProcess.interrupt

    def be_patient() -> None:
        # It has last words, on a busy machine, too.
        monkeypatch.setattr(ending_module, "PATIENCE_SECONDS", 30.0)

    def interrupt(self: CliProcess) -> None:
        be_patient()
        whole(self)

    if mode == "stops_when_interrupted":
        monkeypatch.setattr(CliProcess, "interrupt", interrupt)
    elif mode != "is_stubborn":
        be_patient()
    run_id = world.ask(mode)
    future = world.begin(run_id)
    world.wait_until_it_says(run_id, "Working")
    world.cancel(run_id)
    assert world.look(run_id).sessions_open == 0
    world.cancel(run_id)
    future.result(30)
    story = world.ended(run_id, rewritten=mode.startswith("finishes"))
    assert story.run.status is RunStatus.CANCELLED
    assert story.error == (None, "")
    if not mode.startswith("finishes"):
        assert story.answer == (said, True)
    assert processes(run_id) == []


def test_a_polite_agent_is_stopped_without_a_signal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for the next, ruder step is far longer than this takes."""
    assert ending_module.PATIENCE_SECONDS >= 5
    monkeypatch.setattr(ending_module, "PATIENCE_SECONDS", 60.0)
    run_id = world.ask("stops_politely")
    future = world.begin(run_id)
    world.wait_until_it_says(run_id, "Working")
    world.cancel(run_id)
    future.result(30)
    assert world.ended(run_id).run.status is RunStatus.CANCELLED


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_stops_ends_its_runs_and_says_so(world: World) -> None:
    run_id = world.ask("is_stubborn")
    future = world.begin(run_id)
    world.wait_until_it_says(run_id, "Working")
    world.parts.keeper.stop_all(Stop.WORKER_SHUTDOWN)
    future.result(30)
    story = world.ended(run_id)
    assert story.run.error_code == "worker_shutdown"
    assert story.answer == ("Working", True)
    assert processes(run_id) == []


@pytest.mark.usefixtures("impatient")
def test_a_cancelled_run_stays_cancelled_when_its_worker_stops_too(world: World) -> None:
    run_id = world.ask("is_stubborn")
    future = world.begin(run_id)
    world.wait_until_it_says(run_id, "Working")
    world.cancel(run_id)
    world.parts.keeper.stop_all(Stop.WORKER_SHUTDOWN)
    future.result(30)
    assert world.ended(run_id).run.status is RunStatus.CANCELLED


def test_a_run_that_may_be_started_again_goes_on_where_a_worker_stopped(world: World) -> None:
    run_id = world.ask("continues", on_worker_lost=OnWorkerLost.RETRY)
    future = world.begin(run_id)
    world.wait_until_it_says(run_id, "One,")
    world.parts.keeper.stop_all(Stop.WORKER_SHUTDOWN)
    assert future.result(30) is None
    story = world.look(run_id)
    assert (story.run.status, story.run.attempt, story.held, story.sessions_open) == (RunStatus.QUEUED, 1, [], 0)
    assert processes(run_id) == []
    world.begin(run_id).result(30)
    story = world.ended(run_id)
    assert story.kinds[2:] == [
        "message.started",
        "message.delta",
        "message.completed",
        "run.attempt_lost",
        "run.started",
        "message.started",
        "message.delta",
        "message.completed",
        "run.succeeded",
    ]
    assert [data["partial"] for data in story.all("message.completed")] == [True, False]
    assert story.answer == ("One,two.", False)
    assert story.run.attempt == 2


def test_a_run_is_handed_back_as_soon_as_the_record_takes_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, failures = runs.requeue, iter([1, 2])

    def requeue(*args: Any) -> Run | None:
        if next(failures, None):
            raise Unavailable("the record does not answer")
        return whole(*args)

    monkeypatch.setattr(runs, "requeue", requeue)
    run_id = world.ask("continues", on_worker_lost=OnWorkerLost.RETRY)
    future = world.begin(run_id)
    world.wait_until_it_says(run_id, "One,")
    world.parts.keeper.stop_all(Stop.WORKER_SHUTDOWN)
    future.result(30)
    assert world.look(run_id).run.status is RunStatus.QUEUED


def test_a_long_text_of_a_run_that_is_handed_back_is_kept_elsewhere(world: World) -> None:
    program = 'print(\'{"type": "text", "text": "\' + 300_000 * \'x\' + \'"}\', flush=True); input(); input()'
    with_agent(world, Profile(adapter="jsonl", command=[sys.executable, "-I", "-c", program]))
    run_id = world.ask("other", on_worker_lost=OnWorkerLost.RETRY)
    future = world.begin(run_id)
    wait_for(lambda: len(world.look(run_id).shown) == 300_000)
    world.parts.keeper.stop_all(Stop.WORKER_SHUTDOWN)
    future.result(30)
    story = world.look(run_id)
    assert story.run.status is RunStatus.QUEUED
    assert world.value(story.only("message.completed")) == "x" * 300_000
    assert "value" in story.only("message.completed")


@pytest.mark.usefixtures("impatient")
def test_a_run_that_has_used_more_than_it_may_is_ended(world: World) -> None:
    for cost, code in ((0.5, None), (0.51, "budget_exceeded")):
        said = lines({"type": "usage", "cost_usd": cost}, text("On"))
        then = 'print(\'{"type": "result"}\')' if code is None else "input(); input()"
        program = f"print({said!r}, flush=True); {then}"
        with_agent(world, Profile(adapter="jsonl", command=[sys.executable, "-I", "-c", program]))
        story = world.run("other", max_cost_usd=0.5)
        assert story.run.error_code == code
        assert story.run.cost_usd == cost
        assert story.answer == ("On", code is not None)


@pytest.mark.usefixtures("impatient")
def test_an_agent_that_prints_more_than_it_may_is_ended_and_what_it_said_until_then_is_kept(world: World) -> None:
    world.parts = replace(world.parts, settings=world.parts.settings.model_copy(update={"output_bytes_per_run": 1000}))
    story = world.run("talks_for_ever")
    assert story.run.error_code == "budget_exceeded"
    assert story.run.error_message == "The agent printed more than 1000 bytes."
    assert 0 < len(story.shown) <= 1000
    assert story.answer == (story.shown, True)


def test_f7_a_run_has_succeeded_at_its_result_though_its_agent_never_exits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, passes = world.parts.gateway, list[Pass]()
    whole = gateway.issue

    def issue(profile: Profile) -> Pass:
        passes.append(whole(profile))
        return passes[-1]

    monkeypatch.setattr(gateway, "issue", issue)
    run_id = world.ask("lingers")
    future = world.begin(run_id)
    world.wait_until_settled(run_id)
    assert not future.done()
    assert len(processes(run_id)) == 1
    assert world.look(run_id).run.status is RunStatus.SUCCEEDED
    answer = httpx2.post(f"{gateway.url}/openai/v1/responses", headers={"authorization": f"Bearer {passes[0].token}"})
    assert answer.status_code == 401, "it can use models of which nobody takes note"
    # A worker that is told to stop does not wait for it.
    world.parts.draining.set()
    assert ending_module.LINGER_SECONDS > 20
    future.result(15)
    assert world.ended(run_id).answer == ("Done.", False)
    assert processes(run_id) == []


def test_an_agent_that_never_exits_is_ended_after_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending_module, "LINGER_SECONDS", 0.3)
    story = world.run("lingers")
    assert story.answer == ("Done.", False)
    assert processes(story.run.id) == []


def test_an_agent_whose_turn_is_over_sees_the_end_of_its_input_and_may_leave_by_itself(
    world: World, witness: Path
) -> None:
    witness.unlink(missing_ok=True)
    story = world.run("leaves_at_the_end_of_its_input")
    assert story.run.status is RunStatus.SUCCEEDED
    assert witness.read_text() == "left by itself"


def test_a_beat_that_finds_the_run_settled_does_not_hurry_its_agent(
    world: World, witness: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began before the end, and found no lease after it."""
    witness.unlink(missing_ok=True)
    whole = runs.settle

    def settle(db: Db, run_id: str, *args: Any) -> Run | None:
        (hold,) = [hold for hold in world.parts.keeper.holds() if hold.run_id == run_id]
        settled = whole(db, run_id, *args)
        hold.ask_to_stop(Stop.FENCED)
        return settled

    monkeypatch.setattr(runs, "settle", settle)
    story = world.run("leaves_at_the_end_of_its_input")
    assert story.run.status is RunStatus.SUCCEEDED
    assert witness.exists()


# Whom it leaves behind


@pytest.mark.usefixtures("adopting")
@pytest.mark.parametrize("mode", ["has_a_child", "has_a_daemon", "has_a_family"])
def test_nothing_that_an_agent_started_outlives_its_run(mode: str, world: World) -> None:
    story = world.run(mode)
    assert story.run.status is RunStatus.SUCCEEDED
    pids = [int(pid) for pid in (story.run.output_text or "").split()]
    assert pids
    wait_for(lambda: not any(map(alive, pids)), what="the end of what it left behind")


@pytest.mark.usefixtures("adopting")
def test_f10_a_daemon_that_holds_the_output_open_does_not_hold_up_the_run(world: World) -> None:
    began = time.monotonic()
    story = world.run("has_a_chatty_daemon")
    assert time.monotonic() - began < 25
    assert story.run.error_code == "no_result"
    wait_for(lambda: not processes(story.run.id), what="the end of the daemon")


@pytest.mark.usefixtures("adopting", "impatient")
@pytest.mark.parametrize("how", ["taken away", "handed back", "cancelled", "a bug"])
def test_a_daemon_ends_with_its_run_however_that_ends(how: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = world.ask("has_a_daemon_and_waits", on_worker_lost=OnWorkerLost.RETRY)
    future = world.begin(run_id)
    pid = int(wait_for(lambda: world.look(run_id).shown))
    if how == "taken away":
        world.take_away(run_id)
    elif how == "handed back":
        world.parts.keeper.stop_all(Stop.WORKER_SHUTDOWN)
    elif how == "cancelled":
        world.cancel(run_id)
    else:
        monkeypatch.setattr(ending_module.Ending, "next_step_in", lambda *_: 1 / 0)
    future.result(30)
    try:
        wait_for(lambda: not alive(pid), what="the end of the daemon")
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# What it gets


def test_an_agent_sees_its_own_folders_and_no_more_of_the_environment_than_it_needs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-agents")
    monkeypatch.setenv("PASSED_SECRET", "for-agents")
    story = world.run("shows_itself")
    about = json.loads(story.run.output_text or "")
    token = about["env"].pop("LONGWICK_MCP_TOKEN")
    assert token.startswith("lwk_")
    workspace = world.parts.settings.data_dir / "workspaces" / f"{story.run.id}-1"
    assert about["env"] == {
        "PATH": os.environ["PATH"],
        "HOME": str(workspace / "home"),
        "TMPDIR": str(workspace / "tmp"),
        "LANG": "C.UTF-8",
        "SECRET": "hunter2-and-no-other",
        "WITNESS": about["env"]["WITNESS"],
        "PASSED_SECRET": "for-agents",
        "LONGWICK_RUN_ID": story.run.id,
        "LONGWICK_THREAD_ID": story.run.thread_id,
        "LONGWICK_ATTEMPT": "1",
        "LONGWICK_MCP_URL": world.parts.settings.mcp_url,
    }
    assert about["folders"] == {name: str(workspace / name) for name in ("work", "home", "tmp")}
    assert about["modes"] == dict.fromkeys(("work", "home", "tmp"), "0o700")
    assert about["files"] == []
    assert about["descriptors"] == []
    assert about["leader"]


def test_without_artifacts_there_is_no_session_and_nothing_is_collected(world: World) -> None:
    story = world.run("shows_itself", artifact_generation=False)
    assert not {"LONGWICK_MCP_URL", "LONGWICK_MCP_TOKEN"} & json.loads(story.run.output_text or "")["env"].keys()
    assert story.sessions == 0
    assert world.run("leaves_files", artifact_generation=False).files == []


def test_an_agent_is_told_what_was_said_before_in_its_thread(world: World) -> None:
    thread = world.thread()
    world.run("answers", "Ada", thread=thread)
    world.run("recites", lines(text("I cannot")), thread=thread)
    world.run("says_nothing", "Well?", thread=thread)
    story = world.run("shows_its_turn", "What now? é\u2028", thread=thread)
    assert json.loads(story.run.output_text or "") == {
        "type": "user",
        "text": "What now? é\u2028",
        "history": [
            {"role": "user", "text": "Ada"},
            {"role": "assistant", "text": "Hello, Ada."},
            {"role": "user", "text": lines(text("I cannot"))},
            {"role": "assistant", "text": "I cannot"},
            {"role": "user", "text": "Well?"},
        ],
    }


# What it leaves


def test_files_that_an_agent_leaves_become_artifacts(world: World) -> None:
    """Regular ones with one name, reached through no link: the others are not its own to give."""
    story = world.run("leaves_files")
    assert story.run.status is RunStatus.SUCCEEDED
    assert {file.name: world.content(file) for file in story.files} == {
        "report.md": b"# Report\n",
        "charts/2026/sales.csv": b"a,b\n1,2\n",
        "..dots..txt": b"dots",
        "empty.txt": b"",
    }
    told = {data["artifact"]["name"]: data["artifact"] for data in story.all("artifact.saved")}
    assert told.keys() == {file.name for file in story.files}
    assert told["empty.txt"]["sha256"] == EMPTY_SHA256
    assert told["charts/2026/sales.csv"]["media_type"] == "text/csv"
    assert {about["version"] for about in told.values()} == {1}
    assert "bad_name" in story.notices
    assert story.kinds[-1] == "run.succeeded"


def test_what_is_not_saved_of_the_files_is_told(world: World) -> None:
    story = world.run("leaves_files")
    told = " ".join(data["message"] for data in story.all("notice"))
    unsaved = ["link.txt", "hard.txt", "fifo", "a\\nb.txt"]
    assert [name for name in unsaved if name not in told] == []


def test_a_file_over_the_limit_is_told_and_the_others_are_saved(world: World) -> None:
    world.parts = replace(world.parts, settings=world.parts.settings.model_copy(update={"artifact_bytes": 1000}))
    story = world.run("leaves_a_large_file", "1001")
    assert story.run.status is RunStatus.SUCCEEDED
    assert [file.name for file in story.files] == ["small.txt"]
    assert story.notices == ["too_large"]
    assert [file.name for file in world.run("leaves_a_large_file", "1000").files] == ["small.txt", "large.bin"]


def test_more_files_than_a_run_may_save_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_module, "MOST_LEFT_FILES", 3)
    story = world.run("leaves_many_files", "5")
    assert len(story.files) == 3
    assert story.notices


def test_a_quota_of_artifacts_is_told_for_each_file_past_it(world: World) -> None:
    world.parts = replace(world.parts, settings=world.parts.settings.model_copy(update={"artifacts_per_run": 2}))
    story = world.run("leaves_many_files", "3")
    assert len(story.files) == 2
    assert story.notices == ["quota_exceeded"]


def test_files_are_saved_of_a_run_that_failed_but_not_of_one_that_was_cancelled(world: World) -> None:
    program = (
        "import os; os.mkdir('artifacts'); open('artifacts/a', 'w'); print('{\"type\": \"text\", \"text\": \"W\"}'"
    )
    failing = Profile(adapter="jsonl", command=[sys.executable, "-I", "-c", f"{program})"])
    with_agent(world, failing)
    assert [file.name for file in world.run("other").files] == ["a"]
    waiting = Profile(adapter="jsonl", command=[sys.executable, "-I", "-c", f"{program}, flush=True); input(input())"])
    with_agent(world, waiting)
    run_id = world.ask("other")
    future = world.begin(run_id)
    world.wait_until_it_says(run_id, "W")
    world.cancel(run_id)
    future.result(30)
    assert world.ended(run_id).files == []


@pytest.mark.parametrize("target", ["/etc", "/nowhere"])
def test_a_link_in_place_of_the_folder_leads_nowhere(target: str, world: World) -> None:
    story = world.run("leaves_a_link_for_a_folder", target)
    assert story.error == (None, "")
    assert story.files == []
    assert story.answer == ("Saved.", False)


class Slow:
    """Storage that takes longer than a beat for each file: until a beat has come."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def incoming(self, *, limit: int) -> AbstractContextManager[Incoming]:
        return self._parts.storage.incoming(limit=limit)

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        (hold,) = self._parts.keeper.holds()
        began = hold.renewed_at

        def beaten() -> bool:
            assert alive
            alive()
            return hold.renewed_at > began

        wait_for(beaten, what="a beat")
        return self._parts.storage.put(chunks, limit=limit)

    def batch(self, alive: Callable[[], None]) -> AbstractContextManager[Batch]:
        return self._parts.storage.batch(alive)

    def open(self, sha256: str) -> BinaryIO:
        return self._parts.storage.open(sha256)

    def collect(self, listed: Listed) -> int:
        return self._parts.storage.collect(listed)


def test_a_run_whose_files_take_long_to_save_keeps_its_lease(world: World) -> None:
    world.parts = replace(world.parts, storage=Slow(world.parts))
    story = world.run("leaves_many_files", "4")
    assert story.error == (None, "")
    assert len(story.files) == 4


# What may fail around it


class Full:
    """Storage without any space."""

    def incoming(self, *, limit: int) -> AbstractContextManager[Incoming]:
        raise StorageFull("no space is left for files")

    def batch(self, alive: Callable[[], None]) -> AbstractContextManager[Batch]:
        raise StorageFull("no space is left for files")

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        raise StorageFull("no space is left for files")

    def open(self, sha256: str) -> BinaryIO:
        raise AssertionError

    def collect(self, listed: Listed) -> int:
        raise AssertionError


@pytest.mark.parametrize(
    ("more", "codes"),
    [
        ([{"type": "tool_use", "id": "t1", "name": "t", "input": {}}, {"type": "result"}], {"storage_full"}),
        ([{"type": "result"}], {None, "storage_full"}),
        ([], {"no_result", "storage_full"}),
    ],
    ids=["in the middle", "at the result", "at the end"],
)
def test_f34_a_full_storage_harms_neither_the_end_of_a_run_nor_its_text(
    more: list[dict[str, Any]], codes: set[str | None], world: World
) -> None:
    world.parts = replace(world.parts, storage=Full())
    run_id = world.ask("recites", lines(text("x" * 300_000), *more))
    with suppress(StorageFull):
        world.begin(run_id).result(30)
    assert world.look(run_id).run.status is not RunStatus.RUNNING, "nobody answers for it any more"
    story = world.ended(run_id, rewritten=True)
    assert story.run.error_code in codes
    assert story.answer == ("x" * 300_000, story.run.error_code is not None)


def test_a_file_that_finds_no_space_is_told(world: World) -> None:
    world.parts = replace(world.parts, storage=Full())
    story = world.run("leaves_many_files", "1")
    assert story.run.status is RunStatus.SUCCEEDED
    assert story.notices == ["storage_full"]


def test_output_that_the_record_refuses_fails_its_run_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = events.append_group

    def append_group(db: Db, appends: Any) -> Any:
        if any("poison" in tail for append in appends for tail in append.tails):
            raise ValueError("the record takes no poison")
        return whole(db, appends)

    monkeypatch.setattr(events, "append_group", append_group)
    other = world.ask("stops_politely")
    future = world.begin(other)
    world.wait_until_it_says(other, "Working")
    run_id = world.ask("recites", lines(text("fine"), {"type": "tool_use", "id": "t1", "name": "poison"}))
    world.begin(run_id).result(30)
    assert world.look(run_id).run.status is RunStatus.FAILED
    assert world.look(run_id).run.error_code == "internal_error"
    world.cancel(other)
    future.result(30)
    assert world.ended(other).answer == ("Working, no longer", True)


def test_a_record_that_is_away_at_the_end_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, failures = runs.settle, iter([1, 2, 3])

    def settle(*args: Any, **more: Any) -> Run | None:
        if next(failures, None):
            raise Unavailable("the record does not answer")
        return whole(*args, **more)

    monkeypatch.setattr(runs, "settle", settle)
    assert world.run("answers", "Ada").answer == ("Hello, Ada.", False)


def test_an_attempt_that_could_not_be_prepared_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record went away after the claim: no agent was started, so one may be."""
    whole, failures = runs.mark_spawned, iter([1])

    def mark_spawned(db: Db, run: Run) -> None:
        if next(failures, None):
            raise Unavailable("the record does not answer")
        whole(db, run)

    monkeypatch.setattr(runs, "mark_spawned", mark_spawned)
    run_id = world.ask("answers", "Ada")
    world.begin(run_id).result(30)
    assert world.look(run_id).run.status is RunStatus.QUEUED
    assert world.look(run_id).held == []
    world.begin(run_id).result(30)
    story = world.ended(run_id)
    assert story.kinds[:4] == ["run.queued", "run.started", "run.attempt_lost", "run.started"]
    assert story.run.attempt == 2
    assert story.answer == ("Hello, Ada.", False)


# How it is fenced


@pytest.mark.parametrize("mode", ["is_stubborn", "talks_for_ever"])
def test_an_attempt_that_is_taken_away_writes_nothing_more_and_its_agent_is_dead(mode: str, world: World) -> None:
    run_id = world.ask(mode)
    future = world.begin(run_id)
    wait_for(lambda: world.look(run_id).shown)
    taken = world.take_away(run_id)
    assert future.result(30) is None
    story = world.ended(run_id)
    assert story.run.last_seq == taken.last_seq
    assert story.error[0] == "worker_lost"
    assert story.answer == (story.shown, True)
    assert processes(run_id) == []


def test_an_attempt_that_was_given_back_to_the_queue_leaves_the_next_one_alone(world: World) -> None:
    """A sweeper took it before it spawned; it finds out when it wants to."""
    run_id = world.ask("answers", "Ada")
    claim = runs.claim

    def claim_and_lose(db: Db, *args: Any) -> Run | None:
        run = claim(db, *args)
        assert run is not None
        runs.requeue(db, run_id, run.attempt, "its worker showed no sign of life")
        return run

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(runs, "claim", claim_and_lose)
        assert world.begin(run_id).result(30) is None
    lost = world.look(run_id)
    assert lost.run.status is RunStatus.QUEUED
    assert lost.run.spawned_at is None
    assert lost.sessions == 0
    world.begin(run_id).result(30)
    story = world.ended(run_id)
    assert story.run.attempt == 2
    assert story.kinds[:4] == ["run.queued", "run.started", "run.attempt_lost", "run.started"]


def test_a_lease_that_is_not_renewed_in_time_kills_the_agent_before_anybody_may_claim_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By this process's own clock, while the record cannot be reached."""
    run_id = world.ask("is_stubborn")
    future = world.begin(run_id)
    world.wait_until_it_says(run_id, "Working")

    def no_beat() -> None:
        raise Unavailable("the record does not answer")

    monkeypatch.setattr(world.parts.keeper, "beat", no_beat)
    (hold,) = world.parts.keeper.holds()

    def let_go() -> bool:
        # A beat that was on its way may still have come back.
        hold.renewed_at = time.monotonic() - world.parts.settings.lease_seconds * SELF_FENCE
        return future.done()

    wait_for(let_go, what="the run to be let go of")
    assert future.result() is None
    assert processes(run_id) == []
    (held,) = world.look(run_id).held
    assert held.attempt == 1, "somebody took it before it was let go of"


def test_a_run_ends_when_its_owner_has_spent_the_day_and_the_next_one_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "record_now", lambda db: NOON)
    database = world.parts.database
    owner = f"spender {database.url}"[:60]
    thread, other = new_thread(database, owner), new_thread(database, owner)
    database.write(lambda db: limits.make_exception(db, owner, {"spend_usd_per_day": 1}))
    run_id = world.ask("talks_for_ever", thread=thread)
    running = world.begin(run_id)
    wait_for(lambda: world.look(run_id).shown, what="the agent to talk")
    dear = running_run(database, other)
    database.write(lambda db: runs.settle(db, dear.id, 1, Outcome(RunStatus.SUCCEEDED, "Done.", cost_usd=1.0)))
    running.result(30)
    assert world.ended(run_id).error == ("budget_exceeded", DAY_IS_SPENT)
    waiting = world.ask("answers", thread=thread)
    assert world.begin(waiting).result(30) is None
    assert world.look(waiting).run.status is RunStatus.QUEUED
