"""Real agents that speak ACP, each with a model of the tests' own, in a worker that is whole."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import binaries
import pytest
from mcp_agent import served
from providers.anthropic import Anthropic
from providers.gemini import Gemini
from providers.openai import OpenAI
from providers.serving import Provider
from scene import OWNER, check_log, fresh, log_of, queued_run
from waiting import wait_for

from longwick import approvals, artifacts, cancellation
from longwick.kinds import RunKind, RunStatus
from longwick.models import Run, Thread
from longwick.settings import Settings
from longwick.valkey import Valkey
from mcp_server.app import create_app
from worker.execute import execute
from worker.parts import Parts, assemble

SHELLS = {
    "gemini": 'run_shell_command {"command": "touch artifacts.txt", "description": "Make a file"}',
    "claude-agent-acp": 'Bash {"command": "touch artifacts.txt", "description": "Make a file"}',
    "codex-acp": 'exec_command {"cmd": "touch artifacts.txt", "sandbox_permissions": "require_escalated",'
    ' "justification": "May I?"}',
}
"""How each is made to use its own shell."""


@dataclass(frozen=True)
class World:
    """A worker, its agents, and who answers them."""

    parts: Parts
    providers: dict[str, Provider]
    pool: ThreadPoolExecutor

    def begin(self, agent: str, text: str, thread: Thread | None = None, **more: Any) -> "tuple[Run, Future[Any]]":
        run = queued_run(self.parts.database, thread, text, agent=agent, **more)
        return run, self.pool.submit(execute, self.parts, run.id)

    def run(self, agent: str, text: str, thread: Thread | None = None, **more: Any) -> "Story":
        """The story of a run that is executed to its end."""
        run, done = self.begin(agent, text, thread, **more)
        done.result(60)
        return self.story(run)

    def story(self, run: Run) -> "Story":
        return Story(fresh(self.parts.database, run), check_log(self.parts.database, run))

    def says(self, run: Run, kind: str) -> dict[str, Any]:
        """The data of the first event of a kind, once it is told."""

        def told() -> dict[str, Any] | None:
            return next((event["data"] for event in log_of(self.parts.database, run) if event["type"] == kind), None)

        return wait_for(told, 20, kind)


@dataclass(frozen=True)
class Story:
    run: Run
    log: list[dict[str, Any]]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.log if event["type"] == kind]

    @property
    def texts(self) -> list[str]:
        """The blocks of the answer."""
        return [data["text"] for data in self.all("message.completed")]


@pytest.fixture(scope="module")
def world(migrated_file: Path, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("acp")
    with ExitStack() as ending:
        gemini = ending.enter_context(Gemini())
        claude = ending.enter_context(Anthropic())
        codex = ending.enter_context(OpenAI())
        (folder / "codex").mkdir()
        provider = f'name = "t"\nbase_url = "{codex.url}/v1"\nwire_api = "responses"\nenv_key = "OPENAI_API_KEY"\n'
        provider += "request_max_retries = 1\nstream_max_retries = 1\n"
        (folder / "codex" / "config.toml").write_text(
            f'model = "gpt-5"\nmodel_provider = "t"\n[model_providers.t]\n{provider}'
        )
        (folder / "agents.toml").write_text(
            "".join(
                f'[agents.{name}]\nadapter = "acp"\ncommand = {json.dumps(command)}\n'
                + "".join(f"env.{key} = {json.dumps(value)}\n" for key, value in env.items())
                for name, command, env in (
                    (
                        "gemini",
                        [*binaries.acp("gemini"), "--model", "gemini-2.5-flash"],
                        {"GEMINI_API_KEY": "test", "GOOGLE_GEMINI_BASE_URL": gemini.url},
                    ),
                    (
                        "claude-agent-acp",
                        binaries.acp("claude-agent-acp"),
                        {
                            "ANTHROPIC_API_KEY": "test",
                            "ANTHROPIC_BASE_URL": claude.url,
                            "CLAUDE_CODE_MAX_RETRIES": "1",
                            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                        },
                    ),
                    (
                        "codex-acp",
                        binaries.acp("codex-acp"),
                        {"OPENAI_API_KEY": "test", "CODEX_HOME": str(folder / "codex")},
                    ),
                    ("keyless", binaries.acp("gemini"), {}),
                )
            )
        )
        settings = Settings.from_environ(
            {},
            data_dir=folder / "data",
            database_url=f"sqlite:///{folder / 'record.db'}",
            redis_url=valkey.url,
            agents_file=folder / "agents.toml",
            beat_seconds=0.2,
            lease_seconds=6.0,
            sweep_seconds=0.1,
        )
        shutil.copy(migrated_file, folder / "record.db")
        url = ending.enter_context(served(create_app(settings)))
        parts = ending.enter_context(assemble(settings.model_copy(update={"mcp_url": url}), [RunKind.CHAT], 4))
        pool = ending.enter_context(ThreadPoolExecutor(4))
        yield World(parts, {"gemini": gemini, "claude-agent-acp": claude, "codex-acp": codex}, pool)


@pytest.fixture(params=binaries.ACPS)
def agent(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_turn_is_told_whole_and_the_next_one_knows_of_it(agent: str, world: World) -> None:
    story = world.run(agent, "think 2; say 2; save report.md; text Saved.")
    assert (story.run.status, story.run.error_message) == (RunStatus.SUCCEEDED, None)
    assert story.texts[-2:] == ["w0 w1 ", "Saved."]
    [thought] = story.all("reasoning.completed")
    assert "w0" in thought["text"]
    [called], [done] = story.all("tool.started"), story.all("tool.completed")
    assert called["name"] == "mcp__longwick__save_artifact"
    assert (done["tool_call_id"], done["is_error"]) == (called["tool_call_id"], False)
    saved = world.parts.database.read(lambda db: artifacts.of_run(db, story.run).data)
    assert [artifact.name for artifact in saved] == ["report.md"]

    thread = world.parts.database.read(lambda db: db.get_one(Thread, story.run.thread_id))
    provider = world.providers[agent]
    before = len(provider.asked)
    # What begins with a slash is a command to each of them; here it is what a person wrote.
    again = world.run(agent, "/compact what we said", thread)
    assert again.texts[-1].strip() == "/compact what we said"
    [request] = provider.asked[before:]
    assert "save report.md" in json.dumps(request.body)
    assert "Saved." in json.dumps(request.body)


def test_a_cancelled_turn_stops_at_once_and_keeps_what_was_said(agent: str, world: World) -> None:
    run, done = world.begin(agent, "say 2; stall")
    world.says(run, "message.delta")
    world.parts.database.write(lambda db: cancellation.request(db, OWNER, run.id))
    done.result(4)
    story = world.story(run)
    assert story.run.status is RunStatus.CANCELLED
    assert story.texts[-1] == "w0 w1 "


def test_a_refused_key_is_an_error_of_the_provider_in_words(agent: str, world: World) -> None:
    story = world.run(agent, "fail 401")
    assert story.run.error_code == "provider_error"
    assert "refuses the key" in (story.run.error_message or "")
    assert "API Error" not in (story.run.output_text or "")


@pytest.mark.parametrize("allowed", [True, False])
def test_a_tool_of_its_own_waits_for_somebody_to_decide(agent: str, allowed: bool, world: World) -> None:
    run, done = world.begin(agent, f"tool {SHELLS[agent]}; text So it is.")
    asked = world.says(run, "approval.requested")["approval"]
    assert "touch artifacts.txt" in json.dumps(asked["input"])
    world.parts.database.write(lambda db: approvals.decide(db, OWNER, asked["id"], allowed))
    done.result(30)
    story = world.story(run)
    if agent == "codex-acp" and not allowed:
        assert "was not allowed" in (story.run.error_message or "")
    else:
        assert (story.run.status, story.texts[-1]) == (RunStatus.SUCCEEDED, "So it is.")
    assert [data["is_error"] for data in story.all("tool.completed")] == [not allowed]


def test_an_agent_without_a_key_says_how_to_give_it_one(world: World) -> None:
    story = world.run("keyless", "say 1")
    assert story.run.error_code == "agent_unavailable"
    assert "pass_env" in (story.run.error_message or "")
