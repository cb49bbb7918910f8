"""What is shipped, and whether it works where it is installed."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"longwick", "web", "worker", "mcp_server"}
VERSIONS = sorted(path.name for path in (ROOT / "alembic" / "versions").glob("*.py"))

MIGRATE = """
import sys, web, worker, mcp_server
from pathlib import Path
from longwick import database, schema

site, url = Path(sys.argv[1]), sys.argv[2]
for package in (web, worker, mcp_server, schema):
    assert Path(package.__file__).is_relative_to(site), package.__file__
assert schema.migrations().is_relative_to(site), schema.migrations()
record = database.Database(url)
schema.upgrade(record)
assert schema.current(record) == schema.newest() is not None
assert schema.differences(record) == []
"""


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=env or None, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [path] = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    [path] = built.glob("*.tar.gz")
    return path


def in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def in_sdist(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_the_wheel_holds_the_four_packages_and_nothing_else_at_its_top(wheel: Path) -> None:
    tops = {PurePosixPath(name).parts[0] for name in in_wheel(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """Also those that git ignores, such as a page's parts that are fetched: without them the page is broken."""
    ours = {path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    names = {path.relative_to(ROOT).as_posix() for path in ours if "__pycache__" not in path.parts}
    assert names <= in_wheel(wheel)
    assert "web/static/index.html" in names


def test_the_wheel_holds_the_migrations_inside_the_record(wheel: Path) -> None:
    names = in_wheel(wheel)
    assert VERSIONS[:2] == ["0001_initial.py", "0002_generated_file.py"]
    assert {f"longwick/migrations/versions/{version}" for version in VERSIONS} <= names
    assert {"longwick/migrations/env.py", "longwick/migrations/script.py.mako"} <= names


def test_the_wheel_holds_the_licence(wheel: Path) -> None:
    [licence] = [name for name in in_wheel(wheel) if name.endswith("LICENSE")]
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_holds_the_sources_and_no_leftovers(sdist: Path) -> None:
    names = in_sdist(sdist)
    assert {"pyproject.toml", "LICENSE", "README.md", "web/static/index.html", "alembic/env.py"} <= names
    assert {f"alembic/versions/{version}" for version in VERSIONS} <= names
    leftovers = {".venv", ".git", "longwick-data", "node_modules", "__pycache__", ".env"}
    assert [name for name in names if leftovers & set(PurePosixPath(name).parts) or "_cache" in name] == []


def test_a_wheel_from_the_sdist_is_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    run("tar", "-xf", sdist, "-C", tmp_path)
    [source] = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist", cwd=source)
    [again] = (tmp_path / "dist").glob("*.whl")
    assert in_wheel(again) == in_wheel(wheel)


def test_an_installed_wheel_migrates_even_among_files_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "a folder of somebody's"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel)
    for trap in ("web/__init__.py", "worker.py", "longwick.py", "alembic/__init__.py"):
        (elsewhere / trap).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / trap).write_text(f"raise AssertionError('this is the {trap} of somebody else')")
    url = f"sqlite:///{tmp_path / 'record.db'}"
    run(sys.executable, "-P", "-c", MIGRATE, site, url, cwd=elsewhere, PYTHONPATH=str(site))


@pytest.mark.parametrize("command", [["-c", "import alembic.command"], ["-m", "alembic", "--version"]])
def test_the_folder_alembic_does_not_hide_the_library(command: list[str]) -> None:
    run(sys.executable, *command)
