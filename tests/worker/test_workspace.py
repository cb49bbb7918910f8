"""The folder of an attempt: what its CLI is given, and what is taken of what it leaves."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from depths import FRAMES_DO_NOT_SUFFICE, NO_PATH_SUFFICES, deepen

from longwick.profiles import Profile
from worker.agents import Turn
from worker.workspace import Workspace, workspace

TURN = Turn("run_1", "thr_1", 2, "Hi", [])
WITH_SESSION = Turn("run_1", "thr_1", 2, "Hi", [], mcp_url="http://127.0.0.1:1/mcp", mcp_token="lwk_secret")
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "data", "run_1", 2) as folder:
        yield folder


@pytest.fixture
def left(folder: Workspace) -> Path:
    """The folder whose files are saved."""
    path = folder.work / "artifacts"
    path.mkdir()
    return path


def profile(**more: object) -> Profile:
    return Profile.model_validate({"adapter": "jsonl", "command": ["agent"], **more})


def contents(folder: Workspace) -> dict[str, bytes]:
    return {name: file.read() for name, file in folder.left_files() if file is not None}


# The folder


def test_it_is_empty_private_and_gone_afterwards(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with workspace(tmp_path / "data", "run_1", 2) as folder:
            entries = {path.name: path for path in folder.folder.iterdir()}
            assert entries.keys() == {"work", "home", "tmp"}
            assert folder.work == entries["work"]
            for path in (folder.folder, *entries.values()):
                assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert [list(path.iterdir()) for path in entries.values()] == [[], [], []]
            (folder.work / "deep" / "deeper").mkdir(parents=True)
            (folder.work / "deep" / "file").write_text("x")
    finally:
        os.umask(before)
    assert list((tmp_path / "data" / "workspaces").iterdir()) == []


def test_it_is_gone_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), workspace(tmp_path, "run_1", 2) as folder:
        raise ZeroDivisionError
    assert not folder.folder.exists()


def test_each_attempt_has_its_own(tmp_path: Path) -> None:
    with workspace(tmp_path, "run_1", 2) as first, workspace(tmp_path, "run_1", 3) as second:
        assert first.folder != second.folder
        assert first.folder.exists()


def test_what_a_crash_left_of_the_same_attempt_is_not_seen(tmp_path: Path) -> None:
    with workspace(tmp_path, "run_1", 2) as folder:
        kept = folder.folder
    (kept / "work").mkdir(parents=True)
    (kept / "work" / "old").touch()
    with workspace(tmp_path, "run_1", 2) as folder:
        assert list(folder.work.iterdir()) == []


def test_links_in_it_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    with workspace(tmp_path / "data", "run_1", 2) as folder:
        (folder.work / "link").symlink_to(tmp_path / "precious")
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.parametrize("levels", [FRAMES_DO_NOT_SUFFICE, NO_PATH_SUFFICES])
def test_a12_it_is_gone_however_deep_it_was(levels: int, tmp_path: Path) -> None:
    with workspace(tmp_path, "run_1", 2) as folder:
        deepen(folder.work, levels)
    assert not folder.folder.exists()


REMOVE_AS_NOBODY = """
import os, sys
from pathlib import Path
from worker.workspace import workspace

with workspace(Path(sys.argv[1]), "run_1", 1) as folder:
    cache = folder.work / "go" / "pkg" / "mod"
    cache.mkdir(parents=True)
    (cache / "file").touch()
    for path in (cache / "file", cache, cache.parent):
        path.chmod(0o555)
print(os.listdir(sys.argv[1] + "/workspaces"))
"""


def test_folders_without_write_permission_are_removed_too() -> None:
    """As tools leave them that protect their caches (Go's); root would not notice."""
    # Not below pytest's own folder, which no other user may enter.
    data_dir = tempfile.mkdtemp()
    try:
        command = [sys.executable, "-c", REMOVE_AS_NOBODY, data_dir]
        if os.getuid() == 0:
            os.chown(data_dir, NOBODY, NOBODY)
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.stdout.strip(), done.stderr) == ("[]", "")
    finally:
        shutil.rmtree(data_dir)


# The environment


def test_the_environment_is_an_allow_list(folder: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "LONGWICK_DATABASE_URL", "LD_PRELOAD", "PYTHONPATH", "HOME", "TMPDIR", "LANG"):
        monkeypatch.setenv(name, "the worker's own")
    assert folder.environ(profile(), TURN, {}) == {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.folder / "home"),
        "TMPDIR": str(folder.folder / "tmp"),
        "LANG": "C.UTF-8",
        "LONGWICK_RUN_ID": "run_1",
        "LONGWICK_THREAD_ID": "thr_1",
        "LONGWICK_ATTEMPT": "2",
    }


def test_a_turn_with_a_session_is_given_its_token(folder: Workspace) -> None:
    env = folder.environ(profile(), WITH_SESSION, {})
    assert env["LONGWICK_MCP_URL"] == "http://127.0.0.1:1/mcp"
    assert env["LONGWICK_MCP_TOKEN"] == "lwk_secret"
    assert "lwk_secret" not in repr(WITH_SESSION)


def test_a_profile_passes_names_on_and_sets_values_of_its_own(
    folder: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "passed on")
    monkeypatch.setenv("BOTH", "passed on")
    monkeypatch.delenv("MISSING", raising=False)
    agent = profile(pass_env=["KEY", "BOTH", "MISSING"], env={"BOTH": "set", "HOME": "/srv", "ADAPTERS": "set"})
    env = folder.environ(agent, TURN, {"ADAPTERS": "own"})
    assert {name: env.get(name) for name in ("KEY", "BOTH", "MISSING", "HOME", "ADAPTERS")} == {
        "KEY": "passed on",
        "BOTH": "set",
        "MISSING": None,
        "HOME": "/srv",
        "ADAPTERS": "own",
    }


def test_nobody_can_set_what_names_the_run(folder: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a worker that an agent has started does not pass its own run on."""
    names = ["LONGWICK_RUN_ID", "LONGWICK_THREAD_ID", "LONGWICK_ATTEMPT", "LONGWICK_MCP_URL", "LONGWICK_MCP_TOKEN"]
    for name in names:
        monkeypatch.setenv(name, "another's")
    agent = profile(pass_env=names[:3], env=dict.fromkeys(names[:3], "another's"))
    env = folder.environ(agent, TURN, dict.fromkeys(names[:3], "another's"))
    assert "another's" not in env.values()


# What it leaves


def test_no_folder_or_an_empty_one_holds_no_files(folder: Workspace) -> None:
    assert contents(folder) == {}
    (folder.work / "artifacts").mkdir()
    assert contents(folder) == {}
    (folder.work / "artifacts" / "empty" / "too").mkdir(parents=True)
    assert contents(folder) == {}


def test_a_file_in_place_of_the_folder_is_nothing(folder: Workspace) -> None:
    (folder.work / "artifacts").write_text("I am a file")
    assert contents(folder) == {}


def test_files_of_its_own_come_in_order_with_their_relative_names(folder: Workspace, left: Path) -> None:
    (left / "b" / "c").mkdir(parents=True)
    (left / "b" / "c" / "deep.txt").write_bytes(b"deep")
    (left / "b.txt").write_bytes(b"b")
    (left / "..dots").write_bytes(b"dots")
    (left / ".hidden").write_bytes(b"hidden")
    (left / "a name\nof two lines").write_bytes(b"")
    (left / "é.txt").write_bytes(b"e")
    names = [name for name, _ in folder.left_files()]
    assert names == sorted(names)
    assert set(names) == {"b/c/deep.txt", "b.txt", "..dots", ".hidden", "a name\nof two lines", "é.txt"}
    assert contents(folder)["b/c/deep.txt"] == b"deep"


def test_a12_files_are_found_however_deep_others_lie(folder: Workspace, left: Path) -> None:
    deepen(left, NO_PATH_SUFFICES)
    (left / "b" / "c").mkdir(parents=True)
    deepen(left / "b" / "c", FRAMES_DO_NOT_SUFFICE)
    (left / "b" / "file").write_bytes(b"good")
    assert contents(folder) == {"b/file": b"good", f"b/c/{'a/' * FRAMES_DO_NOT_SUFFICE}end": b""}


def test_names_that_are_no_utf8_come_as_they_are(folder: Workspace, left: Path) -> None:
    Path(os.fsdecode(os.fsencode(left) + b"/caf\xe9")).write_bytes(b"latin")
    assert contents(folder) == {os.fsdecode(b"caf\xe9"): b"latin"}


def test_a12_nothing_is_reached_through_a_link(folder: Workspace, left: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (folder.work / "inside").write_text("mine, but elsewhere")
    (left / "absolute").symlink_to("/etc/passwd")
    (left / "relative").symlink_to("../inside")
    (left / "to-a-file").symlink_to(outside / "secret")
    (left / "to-a-folder").symlink_to(outside)
    (left / "to-itself").symlink_to("to-itself")
    (left / "to-nothing").symlink_to("/nowhere")
    (left / "process").symlink_to("/proc/self/root/etc/passwd")
    (left / "hard").hardlink_to(outside / "secret")
    (left / "good").write_bytes(b"good")
    assert contents(folder) == {"good": b"good"}


def test_a12_what_is_no_regular_file_is_left_where_it_is(folder: Workspace, left: Path) -> None:
    os.mkfifo(left / "fifo")
    os.mknod(left / "socket", stat.S_IFSOCK | 0o600)
    if os.getuid() == 0:
        os.mknod(left / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(left / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    (left / "good").write_bytes(b"good")
    assert contents(folder) == {"good": b"good"}


@pytest.mark.parametrize("target", ["/etc", "/nowhere", "..", "."])
def test_a_link_in_place_of_the_folder_leads_nowhere(target: str, folder: Workspace) -> None:
    (folder.work / "artifacts").symlink_to(target)
    (folder.work / "file").touch()
    assert contents(folder) == {}


def test_a_link_in_place_of_the_folder_is_not_even_searched(folder: Workspace, tmp_path: Path) -> None:
    """It may lead to all files that there are."""
    (tmp_path / "elsewhere").mkdir()
    (folder.work / "artifacts").symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").stat().st_atime_ns
    os.utime(tmp_path / "elsewhere", ns=(0, 0))
    list(folder.left_files())
    assert (tmp_path / "elsewhere").stat().st_atime_ns == 0 < before


def test_a_link_in_place_of_the_workspace_leads_nowhere(folder: Workspace, tmp_path: Path) -> None:
    """The CLI runs as the same user, and may put one there: the files would be a neighbour's."""
    neighbour = tmp_path / "neighbour"
    (neighbour / "artifacts").mkdir(parents=True)
    (neighbour / "artifacts" / "secret").write_text("secret")
    folder.work.rename(folder.folder / "moved")
    folder.work.symlink_to(neighbour)
    assert contents(folder) == {}


def test_a12_what_becomes_a_link_meanwhile_is_not_followed(folder: Workspace, left: Path) -> None:
    """Be it the file or a folder on the way to it; the CLI may still run."""
    (left / "sub").mkdir()
    for name in ("a", "file", "sub/passwd"):
        (left / name).write_bytes(b"good")
    files = folder.left_files()
    assert next(files)[0] == "a"
    (left / "file").unlink()
    (left / "file").symlink_to("/etc/passwd")
    shutil.rmtree(left / "sub")
    (left / "sub").symlink_to("/etc")
    assert [name for name, file in files if file is not None] == []


def test_a_folder_that_vanishes_meanwhile_holds_no_files(
    folder: Workspace, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (left / "sub").mkdir()
    for name in ("file", "sub/file"):
        (left / name).write_bytes(b"good")
    whole = os.scandir

    def list_and_vanish(opened: int) -> AbstractContextManager[list["os.DirEntry[str]"]]:
        entries = list(whole(opened))
        monkeypatch.undo()
        shutil.rmtree(left)
        return nullcontext(entries)

    monkeypatch.setattr(os, "scandir", list_and_vanish)
    assert contents(folder) == {}


def test_an_open_file_is_closed_before_the_next(folder: Workspace, left: Path) -> None:
    for number in range(50):
        (left / str(number)).touch()
    before = len(os.listdir("/proc/self/fd"))
    for _, file in folder.left_files():
        assert file is not None
        assert not file.closed
        assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert len(os.listdir("/proc/self/fd")) <= before
