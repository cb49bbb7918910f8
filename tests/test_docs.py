"""Docs that cannot lie: what there is is documented, what is documented is there, and the commands work when pasted."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase
from stack import Stack, check_whole
from typer.main import get_command

from longwick import cli, metrics
from longwick.agents import load
from longwick.binaries import TRIED
from longwick.database import Database
from longwick.events import EventType
from longwick.profiles import CAPABILITIES, Profile
from longwick.settings import PREFIX, Settings
from longwick.storage import FolderStorage
from mcp_server.tools import Tools
from web.app import create_app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def headings(page: str) -> set[str]:
    return set(re.findall(r"^## (.+)$", (DOCS / page).read_text(), re.MULTILINE))


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_every_setting_is_documented_and_no_other() -> None:
    documented = {heading for heading in headings("settings.md") if heading.startswith(PREFIX)}
    assert documented == {PREFIX + name.upper() for name in Settings.model_fields}


def test_every_event_is_documented_and_no_other() -> None:
    assert headings("events.md") == {kind.value for kind in EventType}


def test_every_route_is_documented_and_no_other() -> None:
    app = create_app(Settings.from_environ({}))
    served = {(method.upper(), path) for path, operations in app.openapi()["paths"].items() for method in operations}
    documented = set(re.findall(r"^\| `([A-Z]+) (/\S+)`", (DOCS / "http-api.md").read_text(), re.MULTILINE))
    assert documented == served


def test_every_fault_that_is_said_to_be_tested_is_and_no_other() -> None:
    table = (DOCS / "reliability.md").read_text().partition("## Fault by fault")[2].partition("Not tested")[0]
    rows = re.findall(r"^\| ((?:F\d+(?:, )?)+) \|", table, re.MULTILINE)
    told = {int(number) for row in rows for number in re.findall(r"\d+", row)}
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert told == {int(number) for number in re.findall(r"def test_f(\d+)_", tests)}


MISSING_ATTACKS = {16, 17, 18, 21, 22}


def test_every_attack_says_where_it_is_tested_or_why_it_is_not() -> None:
    table = (DOCS / "security.md").read_text().partition("## Attack by attack")[2].partition("\n## ")[0]
    rows = {int(row): cell for row, cell in re.findall(r"^\| A(\d+) \|.*\| (.+?) \|$", table, re.MULTILINE)}
    assert set(rows) == set(range(1, 49)) - MISSING_ATTACKS
    tested: dict[int, set[str]] = {row: set() for row in rows}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for numbers in re.findall(r"def test_((?:a\d+_)+)", path.read_text()):
            for number in re.findall(r"\d+", numbers):
                tested[int(number)].add(str(path.relative_to(ROOT)))
    for row, cell in rows.items():
        if cell != "pending":
            assert set(re.findall(r"`(tests/\S+?\.py)`", cell)) == tested[row], f"A{row}"
            assert tested[row] or cell.startswith("not tested: "), f"A{row}"


def test_every_command_is_documented_and_no_other() -> None:
    def names(group: Any, path: str) -> Iterator[str]:
        for name, command in group.commands.items():
            yield from names(command, f"{path} {name}") if hasattr(command, "commands") else [f"{path} {name}"]

    assert headings("terminal.md") == set(names(get_command(cli.app), "longwick"))


def test_the_python_of_the_docs_works_when_pasted(stacks: dict[str, Stack], tmp_path: Path) -> None:
    env = {**os.environ, "LONGWICK_URL": stacks["sqlite"].url}
    said = [
        subprocess.run(
            [sys.executable, "-c", block], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        for block in blocks(DOCS / "python.md", "python")
    ]
    assert len(said) == 3
    assert said[0].endswith("saved/sea-haiku.md\nsucceeded\n")
    assert said[1].startswith("succeeded I am Longwick's **demo agent**")
    assert said[2].count("I am Longwick's **demo agent**") == 2


def test_every_error_code_of_a_run_is_documented_and_no_other() -> None:
    raised: set[str] = set()
    for path in [
        ROOT / "worker" / "execute.py",
        ROOT / "worker" / "conversation.py",
        ROOT / "worker" / "passes.py",
        ROOT / "longwick" / "leases.py",
        ROOT / "worker" / "agents" / "jsonl.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            called = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and called in ("failure", "_refuse") and node.args:
                first = node.args[0]
                kept = {"storage_full", "storage_unavailable"}
                raised |= {str(first.value)} if isinstance(first, ast.Constant) else kept
            if isinstance(node, ast.keyword) and node.arg == "error_code" and isinstance(node.value, ast.Constant):
                raised.add(str(node.value.value))
    section = (DOCS / "http-api.md").read_text().partition("## Why a run failed")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == raised - {"None"}


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    made = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    there = {
        (family.name + "_total" * (family.type == "counter"), ", ".join(metric._labelnames))
        for metric in made
        for family in metric.describe()
    }
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]*?) ?\|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert set(rows) == there
    assert len(rows) == len(there)


def test_every_tool_is_documented_and_no_other(database: Database, settings: Settings, tmp_path: Path) -> None:
    offered = {tool.name for tool in Tools(settings, database, FolderStorage(tmp_path)).offered()}
    assert {heading.strip("`") for heading in headings("tools.md") if "_" in heading} == offered


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), ROOT / "CONTRIBUTING.md"], ids=str)
def test_links_and_named_files_are_there(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for named in re.findall(r"`((?:longwick|web|worker|mcp_server|tests|alembic)/[\w/.]+?\.py)\b", text):
        assert (ROOT / named).exists(), named


def test_the_readmes_two_commands_are_targets_of_the_makefile() -> None:
    (commands, _) = blocks(ROOT / "README.md", "sh")
    targets = re.findall(r"^make (\w+)", commands, re.MULTILINE)
    assert targets == ["run", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_readmes_conversation_works_when_pasted(stacks: dict[str, Stack]) -> None:
    stack = stacks["sqlite"]
    (_, conversation) = blocks(ROOT / "README.md", "sh")
    assert "api=http://127.0.0.1:8000/api/v1\n" in conversation
    pasted = conversation.replace("http://127.0.0.1:8000", stack.url)
    done = subprocess.run(["sh", "-e"], input=pasted, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r'^id: 1\ndata: \{"seq":1,', done.stdout, re.MULTILINE)
    assert '"type":"run.succeeded"' in done.stdout
    assert '"output_text":"' in done.stdout.replace('": "', '":"')
    assert '"type":"generated_file"' in done.stdout.replace('": "', '":"')


def test_every_key_of_a_profile_is_documented_and_no_other() -> None:
    table = (DOCS / "agents.md").read_text().partition("| key | meaning |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    documented = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    keys = {name for name, field in Profile.model_fields.items() if not field.exclude}
    assert sorted(documented) == sorted(keys)


COLUMNS = {
    "`jsonl`": ("jsonl", None),
    "Claude Code 2.1.197": ("claude", "claude-code-2.1.197"),
    "Claude Code 2.1.330": ("claude", "@anthropic-ai/claude-code"),
    "Codex 0.169.0": ("codex", "@openai/codex"),
    "Gemini CLI 0.61.0": ("acp", "@google/gemini-cli"),
    "claude-agent-acp 0.49.0": ("acp", "@agentclientprotocol/claude-agent-acp"),
    "codex-acp 0.16.0": ("acp", "@zed-industries/codex-acp"),
}
"""The columns of the table of what works: the adapter, and the package whose version it names."""


def test_the_table_says_what_works_with_which_agent() -> None:
    """tests/agents_real/test_capabilities.py tries each `yes` with the real CLI."""
    table = (DOCS / "agents.md").read_text().partition("## What works with which\n\n")[2].partition("\n\n")[0]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    assert head[1:] == list(COLUMNS)
    packages = json.loads((ROOT / "tests" / "binaries" / "package.json").read_text())["dependencies"]
    for number, (title, (adapter, package)) in enumerate(COLUMNS.items(), 1):
        assert package is None or packages[package].endswith(title.split()[-1])
        assert {row[number] for row in rows} <= {"yes", "–"}
        assert {row[0] for row in rows if row[number] == "yes"} == set(CAPABILITIES[adapter])
        if adapter in TRIED:
            assert title.split()[-1] in TRIED[adapter]
    assert {package for _, package in COLUMNS.values() if package} == set(packages)


def test_the_agents_of_the_docs_work_as_written(tmp_path: Path) -> None:
    page = DOCS / "agents.md"
    listed, *others = blocks(page, "toml")
    (python,) = blocks(page, "python")
    (shell,) = (block for block in blocks(page, "sh") if block.startswith("#!"))
    (tmp_path / "todo_agent.py").write_text(python)
    (tmp_path / "day_agent.sh").write_text(shell)
    for number, other in enumerate(others):
        (tmp_path / f"{number}.toml").write_text(other)
        assert load(Settings.from_environ({}, agents_file=tmp_path / f"{number}.toml"))
    (tmp_path / "agents.toml").write_text(listed)
    with Stack(tmp_path / "stack", {"LONGWICK_AGENTS_FILE": str(tmp_path / "agents.toml")}) as stack:
        first = stack.run("add milk", agent="todo")
        assert stack.settled(first)["output_text"] == "- milk\n"
        stack.settled(stack.run("add a candle", thread=first["thread_id"], agent="todo"))
        last = stack.run("export", thread=first["thread_id"], agent="todo")
        assert stack.settled(last)["output_text"] == "- milk\n- a candle\n"
        (file,) = stack.get(f"/runs/{last['id']}/artifacts")["data"]
        assert stack.http.get(f"/artifacts/{file['id']}/content").text == "milk\na candle"
        assert "4 messages came before, and 2 things" in str(stack.log_of(last))
        today = stack.run("what day is it", agent="day")
        assert stack.settled(today)["output_text"].startswith("Today is ")
        assert [file["name"] for file in stack.get(f"/runs/{today['id']}/artifacts")["data"]] == ["today.txt"]
        check_whole(stack.log_of(today))


def test_the_project_speaks_of_itself_alone() -> None:
    """No path of a machine, and no name of a package registry's host."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    words = re.compile("|".join(["/wo" + "rk/", "pypi" + r"\.org", "npm" + r"js\.", "/opt/" + "pypi"]))
    found = [
        f"{name}: {match[0]}"
        for name in listed
        if name and (ROOT / name).is_file()
        for match in [words.search((ROOT / name).read_text(errors="replace"))]
        if match
    ]
    assert found == []


def test_commands_named_in_the_docs_exist() -> None:
    longwick = Path(sys.executable).with_name("longwick")
    pages = [ROOT / "README.md", *DOCS.rglob("*.md"), ROOT / "CONTRIBUTING.md"]
    named = {command for page in pages for command in re.findall(r"`longwick ([a-z]+)\b", page.read_text())}
    assert "up" in named
    for command in sorted(named):
        done = subprocess.run(
            [longwick, command, "--help"], capture_output=True, text=True, timeout=30, check=False, env=dict(os.environ)
        )
        assert done.returncode == 0, f"longwick {command}: {done.stderr}"
