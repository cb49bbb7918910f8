"""What we are made of, and what we never do with bytes from outside."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for package in ("longwick", "web", "worker", "mcp_server") for path in (ROOT / package).rglob("*.py")
)
CODE_OF_BYTES = {
    *(
        "pickle",
        "cPickle",
        "dill",
        "shelve",
        "marshal",
        "jsonpickle",
        "yaml",
        "ruamel",
        "jinja2",
        "mako",
        "xml",
        "lxml",
    ),
    *("tarfile", "lzma", "bz2", "gzip", "PIL"),
}
"""Modules that make objects, programs or pictures out of bytes, or unpack them."""
CODE_OF_TEXT = {"eval", "exec", "compile", "__import__"}
PACKS = {"web/archive.py": "writes archives, and reads none"}
SECRETS = re.compile(
    r"sk-ant-[\w-]{20}|sk-proj-[\w-]{20}|\bsk-[A-Za-z0-9]{32}|AKIA[A-Z0-9]{16}|ghp_[A-Za-z0-9]{30}|AIza[\w-]{35}"
    r"|xox[bp]-[\w-]{20}|-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY-----|\blwk_[\w-]{40}"
)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a13_a30_a47_nothing_unpacks_evaluates_or_asks_a_shell(path: Path) -> None:
    tree = ast.parse(path.read_text())
    packing = {"zipfile"} if path.relative_to(ROOT).as_posix() not in PACKS else set()
    assert set(imports(tree)) & (CODE_OF_BYTES | packing) == set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            assert not (isinstance(called, ast.Name) and called.id in CODE_OF_TEXT), f"line {node.lineno}"
            attribute = ast.unparse(called)
            assert attribute not in ("os.system", "os.popen", "subprocess.getoutput"), f"line {node.lineno}"
            shells = [word.value for word in node.keywords if word.arg == "shell"]
            assert all(isinstance(value, ast.Constant) and value.value is False for value in shells), node.lineno


def test_a45_every_package_is_pinned_with_the_digests_of_its_files() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE).strip())
        assert len(entries) > 0
        for entry in entries:
            assert re.match(r"[\w.\[\],-]+==\S+", entry), entry
            assert "--hash=sha256:" in entry, entry
    for lock in (ROOT / "package-lock.json", ROOT / "tests" / "binaries" / "package-lock.json"):
        packages = json.loads(lock.read_text())["packages"]
        assert len(packages) > 1
        for name, package in packages.items():
            assert not name or package.get("link") or package["integrity"].startswith("sha512-"), name
            assert "://" not in package.get("resolved", ""), name
    makefile = (ROOT / "Makefile").read_text()
    assert "--require-hashes" in makefile
    assert "npx" not in makefile


def test_no_secret_is_in_the_repository() -> None:
    found = [f"{path.name}: {match[0][:12]}…" for path in tracked() for match in SECRETS.finditer(_text(path))]
    assert found == []


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.stat().st_size < 2**22 else ""
