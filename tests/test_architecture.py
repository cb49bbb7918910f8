"""The rules of the house that a machine can check; each says why it is one."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("longwick", "web", "worker", "mcp_server")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts)
MOST_LINES = 300

# Who may read the environment, and why.
READS_ENVIRON = {
    "longwick/settings.py": "the only reader for our own processes, which are handed `Settings`",
    "worker/agents/demo/__main__.py": "an agent: a program on the other side of the contract, which is given variables",
}
# Who may print, and why. All others log: what a Celery worker prints is split into several log lines.
PRINTS = {
    "longwick/cli.py": "talks to a person at a terminal",
    "worker/agents/demo/__main__.py": "an agent: its standard output is its half of the conversation",
}
# Who may sleep in the tests: one who waits for a condition, and scripted agents, which play being slow.
SLEEPS = {"tests/waiting.py"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=name(path))


def dotted(path: Path) -> Iterator[tuple[str, int]]:
    """Each `module.attribute` that a file speaks of, also when it imports it by name, with the line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}", node.lineno
        if isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, at its head or deep inside."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def speaking_of(names: set[str], paths: list[Path], allowed: set[str]) -> list[str]:
    return [
        f"{name(path)}:{line} {spoken}"
        for path in paths
        if name(path) not in allowed
        for spoken, line in dotted(path)
        if spoken in names
    ]


def test_imports_keep_to_the_layers() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_settings_reads_the_environment() -> None:
    """So that every knob stands on one page, and nothing connects itself to the shell it happens to run in."""
    readers = {"os.environ", "os.getenv", "os.environb", "os.putenv"}
    assert speaking_of(readers, SOURCES, set(READS_ENVIRON)) == []


def test_nothing_prints_but_who_talks_to_a_terminal_or_a_pipe() -> None:
    calls = [
        f"{name(path)}:{node.lineno}"
        for path in SOURCES
        if name(path) not in PRINTS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_the_worker_imports_no_mcp() -> None:
    """It never calls tools: the agents do. Its memory is counted per run."""
    assert [name(path) for path in (ROOT / "worker").rglob("*.py") if "mcp" in imported(path)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_holds_one_noun(path: Path) -> None:
    """Past this length look for the second noun inside; a name that says nothing is where such files grow."""
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{lines} lines"
    assert path.stem.rstrip("s") not in {"util", "helper", "manager", "handler", "misc", "common"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_says_what_it_is(path: Path) -> None:
    assert path.read_text() == "" or ast.get_docstring(tree(path)), "the first line says what the module is"


def test_tests_wait_for_conditions_and_never_for_time() -> None:
    paths = [path for path in TESTS if "agents" not in path.parts]
    assert speaking_of({"time.sleep", "asyncio.sleep", "anyio.sleep"}, paths, SLEEPS) == []


def test_no_package_file_stands_where_it_would_shadow_another() -> None:
    """`alembic/__init__.py` would hide the library of that name; one below tests/ would hide ours."""
    shadows = [ROOT / "alembic" / "__init__.py", *(path for path in TESTS if path.name == "__init__.py")]
    assert [name(path) for path in shadows if path.exists()] == []


def test_exceptions_are_of_files_that_exist() -> None:
    files = {name(path) for path in (*SOURCES, *TESTS)}
    assert {*READS_ENVIRON, *PRINTS, *SLEEPS} <= files
