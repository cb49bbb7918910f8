"""A CLI's process alone, without a record: its bytes, its limits and its end."""

import errno
import hashlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from rooms import a_room
from waiting import wait_for

from worker import process as process_module
from worker.cli import Overlong
from worker.process import LINE_BYTES, STDERR_BYTES, CliProcess

MISBEHAVE = Path(__file__).parents[1] / "agents" / "misbehave.py"
TURN = b'{"type":"user","text":"%s"}\n'
READY = b'{"type": "text", "text": "Working"}'
Lines = list[bytes | Overlong]


class Start(Protocol):
    """Starts a process that is ended with the test."""

    def __call__(self, *argv: str, env: dict[str, str] | None = None) -> CliProcess: ...


@pytest.fixture
def wake() -> Iterator[tuple[int, int]]:
    """(The end that wakes a poll, the end to write to.)"""
    ears, mouth = os.pipe()
    yield ears, mouth
    os.close(ears)
    os.close(mouth)


@pytest.fixture(params=["bare", "in a sandbox"])
def start(request: pytest.FixtureRequest, tmp_path: Path, wake: tuple[int, int]) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*argv: str, env: dict[str, str] | None = None) -> CliProcess:
            env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} if env is None else env
            room = None if request.param == "bare" else a_room(tmp_path, argv)
            return stack.enter_context(CliProcess(argv, env=env, folder=tmp_path, wake=wake[0], room=room))

        yield start


@pytest.fixture
def misbehave(start: Start) -> Callable[..., CliProcess]:
    def misbehave(mode: str, text: str = "", turn: bytes | None = None) -> CliProcess:
        process = start(sys.executable, "-I", str(MISBEHAVE), mode)
        process.write(TURN % text.encode() if turn is None else turn)
        return process

    return misbehave


def until(process: CliProcess, condition: Callable[[Lines], object], seconds: float = 10.0) -> Lines:
    """All lines that came until the condition holds for them."""
    lines: Lines = []
    give_up = time.monotonic() + seconds
    while not condition(lines):
        assert time.monotonic() < give_up, f"ended: {process.ended}, and it said {str(lines)[:500]}"
        lines += process.poll(0.05)
    return lines


def to_the_end(process: CliProcess, seconds: float = 10.0) -> Lines:
    return until(process, lambda _: process.ended, seconds)


def alive(pid: int) -> bool:
    """It runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_lines_come_without_their_ends_and_the_last_may_have_none(start: Start) -> None:
    process = start("printf", "one\\n\\ntwo\\r\\nthree")
    assert to_the_end(process) == [b"one", b"", b"two\r", b"three"]
    assert process.returncode == 0


def test_bytes_are_passed_as_they_are(start: Start) -> None:
    process = start("printf", "\\377\\000\\n")
    assert to_the_end(process) == [b"\xff\0"]


@pytest.mark.parametrize("extra", [0, 1])
def test_a_line_over_the_limit_is_dropped_and_counted(
    extra: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "LINE_BYTES", 200_000)
    size = 200_000 + extra
    process = start("sh", "-c", f"head -c {size} /dev/zero; echo; echo short; head -c {size} /dev/zero; echo")
    whole = b"\0" * size if not extra else Overlong(size)
    assert to_the_end(process) == [whole, b"short", whole]


def test_a_line_over_the_limit_without_an_end_is_counted_too(misbehave: Callable[..., CliProcess]) -> None:
    assert LINE_BYTES < 40_000_000
    assert to_the_end(misbehave("says_a_long_half_line", "40")) == [Overlong(40_000_000)]


def test_of_standard_error_the_end_is_kept_however_much_it_is(misbehave: Callable[..., CliProcess]) -> None:
    process = misbehave("floods_stderr")
    assert to_the_end(process) == []
    assert process.returncode == 4
    assert len(process.stderr_tail) == STDERR_BYTES
    assert process.stderr_tail.endswith("e\nthese are its last words\n")


def test_input_is_written_as_fast_as_it_is_read(start: Start) -> None:
    process = start("sh", "-c", "head -c 5000001 | md5sum; read second; echo $second")
    process.write(b"x" * 5_000_000 + b"\n")
    process.write(b"more\n")
    digest, second = to_the_end(process)
    assert digest == hashlib.md5(b"x" * 5_000_000 + b"\n").hexdigest().encode() + b"  -"
    assert second == b"more"


def test_input_that_is_never_read_holds_nothing_up(misbehave: Callable[..., CliProcess]) -> None:
    process = misbehave("is_deaf", turn=b"x" * 5_000_000)
    assert to_the_end(process) == [b'{"type": "result", "text": "I did not listen."}']
    process.write(b"and more")
    process.close_input()
    process.close_input()
    process.write(b"too late")
    assert process.poll(0) == []


def test_closing_the_input_drops_what_was_not_read_and_is_seen_at_the_other_end(start: Start) -> None:
    process = start("sh", "-c", "echo ready; sleep 0.2; wc -c")
    process.write(b"x" * 1_000_000)
    until(process, lambda lines: lines == [b"ready"])
    process.close_input()
    (count,) = to_the_end(process)
    assert isinstance(count, bytes)
    assert 0 <= int(count) < 1_000_000


def test_output_that_is_closed_early_is_no_end(misbehave: Callable[..., CliProcess]) -> None:
    process = misbehave("closes_its_output")
    until(process, lambda lines: lines)
    assert process.poll(0.1) == []
    assert not process.ended
    process.close_input()
    assert to_the_end(process) == []
    assert process.returncode == 0


def test_a_grandchild_that_holds_the_pipes_delays_the_end_by_the_time_for_last_words(
    misbehave: Callable[..., CliProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "LAST_WORDS_SECONDS", 0.3)
    process = misbehave("has_a_chatty_daemon")
    lines = to_the_end(process, seconds=20)
    assert lines
    assert process.returncode == 0
    assert process.poll(0) == []


def test_what_a_wide_pipe_holds_at_the_end_is_read_to_the_last_line(
    misbehave: Callable[..., CliProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the reader was held up for longer than the time for last words."""
    monkeypatch.setattr(process_module, "LAST_WORDS_SECONDS", 0.0)
    process = misbehave("has_a_wide_pipe")
    lines = until(process, lambda lines: lines)
    wait_for(lambda: not alive(process.pid), what="its exit")
    lines += to_the_end(process)
    assert len(lines) == 501
    assert lines[-1] == b'{"type": "result"}'


def test_an_exit_status_is_told_and_a_signal_is_negative(start: Start) -> None:
    failing = start("sh", "-c", "exit 7")
    killed = start("sh", "-c", "kill -9 $$")
    to_the_end(failing)
    to_the_end(killed)
    assert (failing.returncode, killed.returncode) == (7, -signal.SIGKILL)


def test_a_wake_up_ends_a_poll_early(start: Start, wake: tuple[int, int]) -> None:
    process = start("sleep", "60")
    os.write(wake[1], b"!")
    began = time.monotonic()
    assert process.poll(30) == []
    assert time.monotonic() - began < 5
    assert not process.ended


def test_interrupting_reaches_the_whole_group(misbehave: Callable[..., CliProcess]) -> None:
    process = misbehave("stops_when_interrupted")
    until(process, lambda lines: lines)
    process.interrupt()
    assert to_the_end(process) == [b'{"type": "text", "text": ", interrupted"}']
    assert process.returncode == 130


def test_killing_ends_a_stubborn_one_and_its_group(misbehave: Callable[..., CliProcess]) -> None:
    process = misbehave("is_stubborn")
    until(process, lambda lines: lines == [READY])
    process.interrupt()
    assert until(process, lambda _: True) == []
    process.kill()
    process.kill()
    to_the_end(process)
    assert process.returncode == -signal.SIGKILL


def test_leaving_the_context_ends_what_is_left_of_the_group(tmp_path: Path, wake: tuple[int, int]) -> None:
    argv = [sys.executable, "-I", str(MISBEHAVE), "has_a_child"]
    with CliProcess(argv, env={"PATH": os.environ["PATH"]}, folder=tmp_path, wake=wake[0]) as process:
        process.write(TURN % b"")
        # Its child holds its output open.
        (line,) = until(process, lambda lines: lines)
        assert isinstance(line, bytes)
        child = int(line.split(b'"')[-2])
        wait_for(lambda: not alive(process.pid), what="its exit")
        assert alive(child)
    wait_for(lambda: not alive(child), what="the end of its child")
    assert process.pid not in process_module.live_pids


def test_it_is_gone_though_what_was_beside_it_could_not_be_closed(start: Start) -> None:
    before = len(os.listdir("/proc/self/fd"))
    process = start("sleep", "60")

    def fail() -> None:
        raise TimeoutError

    process.until_left.callback(fail)
    with pytest.raises(TimeoutError), process:
        pass
    assert not alive(process.pid)
    assert process.pid not in process_module.live_pids
    assert len(os.listdir("/proc/self/fd")) <= before


def test_its_number_belongs_to_it_until_it_is_left(
    tmp_path: Path, wake: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that the kernel may have given away meanwhile must not be sent a signal."""
    with CliProcess(["true"], env={"PATH": os.environ["PATH"]}, folder=tmp_path, wake=wake[0]) as process:
        to_the_end(process)
        assert Path(f"/proc/{process.pid}").exists(), "it was reaped while it can still be killed"
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append(pid))
    process.kill()
    assert sent == []


def test_it_ends_with_the_thread_that_started_it(start: Start) -> None:
    started: list[CliProcess] = []

    def start_one() -> None:
        started.append(start("sh", "-c", "echo ready; exec sleep 60"))
        until(started[0], lambda lines: lines == [b"ready"])

    thread = threading.Thread(target=start_one)
    thread.start()
    thread.join()
    to_the_end(started[0])
    assert started[0].returncode == -signal.SIGKILL


def test_it_gets_only_the_environment_that_is_given(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOTHER", "value")
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "A": "1"}
    given = {f"{name}={value}".encode() for name, value in env.items()}
    assert set(to_the_end(start("env", env=env))) == given


def test_a_path_that_an_agent_is_given_hides_nothing_that_we_need(start: Start, tmp_path: Path) -> None:
    process = start("/bin/echo", "started", env={"PATH": str(tmp_path)})
    assert to_the_end(process) == [b"started"]


@pytest.mark.parametrize(
    ("module", "name", "in_a_room"), [(os, "pidfd_open", False), (selectors, "DefaultSelector", True)]
)
def test_a_start_that_fails_half_way_leaves_nothing(
    module: Any, name: str, in_a_room: bool, tmp_path: Path, wake: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    def no_descriptor_is_left(*args: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    argv = ["sleep", "60"]
    room = a_room(tmp_path, argv) if in_a_room else None
    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(module, name, no_descriptor_is_left)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Too many open files"):
        CliProcess(argv, env={"PATH": os.environ["PATH"]}, folder=tmp_path, wake=wake[0], room=room)
    (popen,) = started
    try:
        assert len(os.listdir("/proc/self/fd")) <= before
        wait_for(lambda: not alive(popen.pid), what="the end of a process that nobody answers for")
        assert popen.pid not in process_module.live_pids
    finally:
        popen.kill()
        popen.wait()
        process_module.live_pids.discard(popen.pid)
        for pipe in (popen.stdin, popen.stdout, popen.stderr):
            assert pipe
            pipe.close()
