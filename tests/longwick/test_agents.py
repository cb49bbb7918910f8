import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longwick import agents
from longwick.agents import BUILT_IN, Roster
from longwick.errors import BadSetting
from longwick.profiles import Profile
from longwick.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agents.toml"


def settings(file: Path | None = None, **more: Any) -> Settings:
    return Settings.from_environ({}, agents_file=file, **more)


def refused(file: Path, content: str, **more: Any) -> str:
    """Why an agents file of this content is refused."""
    file.write_text(content)
    with pytest.raises(BadSetting) as caught:
        agents.load(settings(file, **more))
    return caught.value.detail


GOOD = """
[agents.mine]
adapter = "jsonl"
command = ["python3", "{here}/my agent.py", "--log={here}/log"]
name = "Mine"
description = "Does what I want."
env = { MODE = "quiet" }
pass_env = ["GEMINI_API_KEY"]
concurrency = 2

[agents."with space"]
adapter = "jsonl"
command = ["true"]
"""


# What there is


def test_without_a_file_there_are_the_built_in_ones() -> None:
    found = agents.load(settings())
    assert list(found) == ["demo", "claude", "codex", "claude-coding", "codex-coding"]
    assert found["demo"].unavailable() is None


def test_the_demo_can_be_run_from_anywhere(tmp_path: Path) -> None:
    command = agents.load(settings())["demo"].command
    said = b'{"type": "user", "text": "hello"}\n'
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, input=said, capture_output=True, cwd=tmp_path, env=env, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert b'"result"' in done.stdout.splitlines()[-1]


def test_an_agent_whose_tools_nobody_can_take_away_runs_in_a_sandbox_or_where_the_operator_says_so(file: Path) -> None:
    file.write_text('[agents.any]\nadapter = "acp"\ncommand = ["true"]\n')
    assert "LONGWICK_ALLOW_UNSANDBOXED=1" in (agents.load(settings(file, sandbox="none"))["any"].unavailable() or "")
    assert agents.load(settings(file, sandbox="none", allow_unsandboxed=True))["any"].unavailable() is None
    assert agents.load(settings(file))["any"].unavailable() is None


def test_a_file_adds_agents_in_its_order(file: Path) -> None:
    file.write_text(GOOD)
    found = agents.load(settings(file))
    assert list(found) == [*BUILT_IN, "mine", "with space"]
    assert found["mine"] == Profile(
        adapter="jsonl",
        command=["python3", f"{file.parent}/my agent.py", f"--log={file.parent}/log"],
        name="Mine",
        description="Does what I want.",
        env={"MODE": "quiet"},
        pass_env=["GEMINI_API_KEY"],
        concurrency=2,
    )
    assert found["with space"].concurrency is None


def test_here_is_the_folder_of_the_file_wherever_the_worker_was_started(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(GOOD)
    monkeypatch.chdir(file.parent)
    found = agents.load(settings(Path(file.name)))
    monkeypatch.chdir("/")
    assert found["mine"].command[1] == f"{file.parent}/my agent.py"


def test_a_file_may_replace_the_demo(file: Path) -> None:
    file.write_text('[agents.demo]\nadapter = "jsonl"\ncommand = ["true"]\n')
    assert agents.load(settings(file))["demo"].command == ["true"]


@pytest.mark.parametrize("content", ["", "[agents]\n", "# nothing yet\n"])
def test_an_empty_file_adds_nothing(content: str, file: Path) -> None:
    file.write_text(content)
    assert agents.load(settings(file)).keys() == BUILT_IN.keys()


def test_a_file_that_an_editor_has_marked_as_utf8_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert "mine" in agents.load(settings(file))


# The default


def test_the_demo_is_the_default_unless_another_is_named(file: Path) -> None:
    file.write_text(GOOD)
    assert Roster(settings(file)).default == "demo"
    assert Roster(settings(file, default_agent="mine")).default == "mine"
    assert "mine" in agents.load(settings(file, default_agent="mine"))


def test_a_default_that_does_not_exist_is_refused_and_says_what_does(file: Path) -> None:
    message = refused(file, GOOD, default_agent="mien")
    assert message.startswith("LONGWICK_DEFAULT_AGENT: ")
    assert "'mien'" in message
    assert message.endswith(", mine, with space")


# Whether it can run


def test_a_program_on_the_path_or_with_its_path_is_available(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert Profile(adapter="jsonl", command=["sh"]).unavailable() is None
    assert Profile(adapter="jsonl", command=[str(program)]).unavailable() is None
    assert Profile(adapter="jsonl", command=[sys.executable, "-c", "pass"]).unavailable() is None


@pytest.mark.parametrize("command", ["no-such-program", "/no/such/program", "/etc/passwd", "/etc", ""])
def test_a_program_that_cannot_be_run_is_named(command: str) -> None:
    reason = Profile(adapter="jsonl", command=[command]).unavailable()
    assert reason is not None
    assert repr(command) in reason


def test_a_program_is_looked_for_where_the_agent_looks_for_it(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert Profile(adapter="jsonl", command=["program"], env={"PATH": str(tmp_path)}).unavailable() is None
    assert Profile(adapter="jsonl", command=["sh"], env={"PATH": str(tmp_path)}).unavailable() is not None


def test_a_program_beside_the_worker_is_not_found_from_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent is started in its workspace: a relative path leads nowhere from there."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert Profile(adapter="jsonl", command=["./program"]).unavailable() is not None


# What is refused


HEAD = '# Our agents\n\n[agents.one]\nadapter = "jsonl"\ncommand = ["true"]\n\n[agents.two]\n'


MISTAKES: list[tuple[str, int | None, list[str]]] = [
    (HEAD + 'adapter = "jsonl"\n', 7, ["agents.two", "needs a command"]),
    (HEAD + 'command = ["true"]\n', 7, ["agents.two.adapter", "required"]),
    (HEAD + 'adapter = "jsonl"\ncommand = []\n', 7, ["agents.two", "needs a command"]),
    (HEAD + 'adapter = "jsonl"\ncommand = "true"\n', 9, ["agents.two.command", "list"]),
    (HEAD + 'adapter = "jsonl"\ncommand = ["a", 1]\n', 9, ["agents.two.command.1", "string"]),
    (HEAD + 'adapter = "claud"\ncommand = ["a"]\n', 8, ["agents.two.adapter", "'jsonl'"]),
    (HEAD + 'adapter = "jsonl"\ncommand = ["a"]\ncomand = ["b"]\n', 10, ["agents.two.comand", "not permitted"]),
    (HEAD + 'adapter = "jsonl"\ncommand = ["a"]\nenv = { PORT = 1 }\n', 10, ["agents.two.env.PORT", "string"]),
    (HEAD + 'adapter = "jsonl"\ncommand = ["a"]\nconcurrency = 0\n', 10, ["agents.two.concurrency", "1"]),
    (HEAD + 'adapter = "jsonl"\ncommand = ["a"]\npass_env = "KEY"\n', 10, ["agents.two.pass_env", "list"]),
    (HEAD.replace("[agents.two]", "[agents.one.two]"), 7, ["agents.one.two", "not permitted"]),
    (HEAD.replace("[agents.two]", "[agent.two]"), 7, ["agent", "not permitted"]),
    (HEAD.replace("# Our agents", "# one and two"), 7, ["agents.two"]),
    (HEAD.replace("# Our agents", '# "two" is broken: see its command below'), 7, ["agents.two"]),
    (HEAD + 'adapter = "jsonl"\ncommand = [\n', None, ["is not TOML", "end of document"]),
    (HEAD + 'adapter = "jsonl"\nadapter = "jsonl"\n', None, ["line 9"]),
    (HEAD + "[agents.one]\n", None, ["line 8"]),
    ("agents = 3\n", 1, ["agents", "dictionary"]),
    ("[agents]\none = 3\n", 2, ["agents.one"]),
]


@pytest.mark.parametrize(("content", "line", "words"), MISTAKES, ids=[" ".join(words) for _, _, words in MISTAKES])
def test_a_mistake_is_told_with_file_line_and_hint(
    content: str, line: int | None, words: list[str], file: Path
) -> None:
    message = refused(file, content)
    assert message.startswith(f"LONGWICK_AGENTS_FILE: {file}")
    if line is not None:
        assert f"{file}, line {line}: " in message
        assert "docs/agents.md" in message
    for word in words:
        assert word in message


def test_a_mistake_is_told_without_the_secrets_beside_it(file: Path) -> None:
    message = refused(file, HEAD + 'adapter = "jsonl"\ncommand = ["a"]\nenv = { KEY = ["sk-0123"] }\n')
    assert "sk-0123" not in message


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (r'command = ["a", "b\u0000c"]', "command"),
        (r'command = ["a"]' + "\n" + r'env = { KEY = "b\u0000c" }', "env"),
        ('command = ["a"]\nenv = { "A=B" = "c" }', "env"),
        ('command = ["a"]\nenv = { "" = "c" }', "env"),
        (r'command = ["a"]' + "\n" + r'env = { "A\u0000" = "c" }', "env"),
    ],
    ids=["NUL in the command", "NUL in a value", "= in a name", "no name", "NUL in a name"],
)
def test_what_no_process_can_be_given_is_refused_at_once(line: str, word: str, file: Path) -> None:
    """And not at each of its runs, as a bug of ours."""
    assert f"agents.two.{word}" in refused(file, f'{HEAD}adapter = "jsonl"\n{line}\n')


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=re.escape(f"cannot read {tmp_path / 'none.toml'}: No such file")):
        agents.load(settings(tmp_path / "none.toml"))
    with pytest.raises(BadSetting, match="Is a directory"):
        agents.load(settings(tmp_path))


def test_a_file_that_is_no_text_is_told(file: Path) -> None:
    file.write_bytes(b"\xff\xfe[agents]\n")
    with pytest.raises(BadSetting, match="is not UTF-8 text"):
        agents.load(settings(file))
