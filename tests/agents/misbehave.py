"""A CLI that behaves as badly as it is told: `misbehave.py MODE`, where a mode is one of the functions marked below.

What a mode needs to know is in the text of its turn. None of them outlives `LIFE_SECONDS`.
"""

import fcntl
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

LIFE_SECONDS = 60
MEGABYTE = 1_000_000
MODES: dict[str, Callable[[], None]] = {}


def mode(act: Callable[[], None]) -> Callable[[], None]:
    MODES[act.__name__] = act
    return act


def say(kind: str, **more: Any) -> None:
    write(json.dumps({"type": kind, **more}) + "\n")


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def hear() -> dict[str, Any]:
    """The next line of its input; at the end of it, nothing."""
    line = sys.stdin.readline()
    heard: dict[str, Any] = json.loads(line) if line else {}
    return heard


def asked() -> str:
    return str(hear()["text"])


def sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(LIFE_SECONDS)


def live_no_longer_than_the_tests() -> None:
    # Forked processes do not inherit it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIFE_SECONDS)


def fork(act: Callable[[], None]) -> int:
    """The pid of a child that acts, and ends."""
    pid = os.fork()
    if not pid:
        live_no_longer_than_the_tests()
        act()
        os._exit(0)
    return pid


# What it says


@mode
def answers() -> None:
    """A well-behaved one."""
    name = asked()
    say("text", text="Hello, ")
    say("text", text=f"{name}.")
    say("result", text=f"Hello, {name}.")


@mode
def recites() -> None:
    """Its input says what it prints, to the letter."""
    write(asked())


@mode
def recites_bytes() -> None:
    """Its input has one character for each byte that it prints."""
    sys.stdout.buffer.write(asked().encode("latin-1"))


@mode
def says_nothing() -> None:
    hear()


@mode
def shows_its_turn() -> None:
    say("result", text=json.dumps(hear()))


@mode
def shows_itself() -> None:
    """All that it can see of where it is."""
    hear()
    folders = {"work": Path(), "home": Path.home(), "tmp": Path(os.environ["TMPDIR"])}
    about = {
        "env": dict(os.environ),
        "folders": {name: str(path.resolve()) for name, path in folders.items()},
        "modes": {name: oct(path.stat().st_mode & 0o777) for name, path in folders.items()},
        "files": [str(path) for path in Path().rglob("*")],
        "descriptors": [number for number in range(3, 1000) if Path(f"/proc/self/fd/{number}").exists()],
        "leader": os.getpid() == os.getsid(0) == os.getpgid(0),
    }
    say("result", text=json.dumps(about))


@mode
def streams() -> None:
    """As many lines as its input says, in one go."""
    lines = [json.dumps({"type": "text", "text": f"{number}\n"}) + "\n" for number in range(int(asked()))]
    write("".join(lines))
    say("result")


@mode
def says_a_long_line() -> None:
    """One piece of text, of as many megabytes as its input says."""
    size = int(asked()) * MEGABYTE
    say("text", text=("0123456789" * (size // 10 + 1))[:size])
    say("result")


@mode
def says_a_long_half_line() -> None:
    """The same, but the line has no end."""
    write("x" * int(asked()) * MEGABYTE)


@mode
def nests_deeply() -> None:
    """A tool's input that is as many lists in lists as its input says."""
    depth = int(asked())
    write('{"type":"tool_use","id":"t1","name":"dig","input":' + "[" * depth + "]" * depth + "}\n")
    say("result", text="Dug.")


@mode
def continues() -> None:
    """Half of the answer, until it is stopped; the other half when it is told that half was shown."""
    if hear().get("shown"):
        say("text", text="two.")
        say("result")
    else:
        say("text", text="One,")
        hear()


# How it ends


@mode
def fails() -> None:
    """It has said something by then, and its last words hold the value of every variable that it has."""
    text = asked()
    say("text", text=text)
    print(*os.environ.values(), sep="\n", file=sys.stderr)
    print("these are its last words", file=sys.stderr)
    sys.exit(3)


@mode
def kills_itself() -> None:
    hear()
    say("text", text="Goodb")
    os.kill(os.getpid(), signal.SIGKILL)


@mode
def floods_stderr() -> None:
    hear()
    for _ in range(50):
        os.write(2, b"e" * MEGABYTE)
    os.write(2, b"\nthese are its last words\n")
    sys.exit(4)


@mode
def lingers() -> None:
    """It has given its result and does not exit, not even at the end of its input."""
    hear()
    say("result", text="Done.")
    sleep_for_ever()


@mode
def leaves_at_the_end_of_its_input() -> None:
    """After a moment, in which it tidies up."""
    hear()
    say("result", text="Done.")
    sys.stdin.read()
    time.sleep(0.2)
    Path(os.environ["WITNESS"]).write_text("left by itself")


@mode
def is_silent() -> None:
    sleep_for_ever()


@mode
def talks_for_ever() -> None:
    """Something is said all the time."""
    while True:
        say("text", text="and ")
        time.sleep(0.02)


@mode
def closes_its_output() -> None:
    """And lives on until its input ends."""
    hear()
    say("text", text="That is all.")
    sys.stdout.close()
    os.close(1)
    sys.stdin.read()


@mode
def is_deaf() -> None:
    """It reads nothing of its input at all."""
    say("result", text="I did not listen.")


@mode
def is_deaf_and_silent() -> None:
    say("text", text="What?")
    sleep_for_ever()


# How it takes being asked to stop


@mode
def stops_politely() -> None:
    hear()
    say("text", text="Working")
    while hear().get("type") != "cancel":
        pass
    say("text", text=", no longer")


@mode
def finishes_when_cancelled() -> None:
    hear()
    say("text", text="Working")
    while hear().get("type") != "cancel":
        pass
    say("result", text="Done, in spite of it.")


@mode
def stops_when_interrupted() -> None:
    """It takes a signal, but no word."""
    hear()
    try:
        say("text", text="Working")
        sleep_for_ever()
    except KeyboardInterrupt:
        say("text", text=", interrupted")
        sys.exit(130)


@mode
def is_stubborn() -> None:
    """Neither a word nor a signal that can be ignored stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hear()
    say("text", text="Working")
    sleep_for_ever()


# Whom it leaves behind


@mode
def has_a_child() -> None:
    """In its own process group."""
    hear()
    say("result", text=str(fork(sleep_for_ever)))


def detach(act: Callable[[], None]) -> int:
    """The pid of a grandchild that acts in a session of its own and holds all pipes open."""
    reading, writing = os.pipe()

    def middle() -> None:
        os.setsid()
        os.write(writing, str(fork(act)).encode())

    os.waitpid(fork(middle), 0)
    return int(os.read(reading, 20))


@mode
def has_a_daemon() -> None:
    hear()
    say("result", text=str(detach(sleep_for_ever)))


@mode
def has_a_daemon_and_waits() -> None:
    hear()
    say("text", text=str(detach(sleep_for_ever)))
    sleep_for_ever()


@mode
def has_a_chatty_daemon() -> None:
    """Which has begun to print, and goes on after the CLI has exited without a result."""
    hear()
    reading, writing = os.pipe()

    def chatter() -> None:
        while True:
            say("text", text=".")
            os.write(writing, b"!")
            time.sleep(0.05)

    detach(chatter)
    os.read(reading, 1)


@mode
def has_a_family() -> None:
    """A daemon with a child that has a session of its own too; their pids, with a space between them."""
    hear()
    reading, writing = os.pipe()

    def parent() -> None:
        def child() -> None:
            os.setsid()
            sleep_for_ever()

        os.write(writing, str(fork(child)).encode())
        sleep_for_ever()

    pid = detach(parent)
    say("result", text=f"{pid} {os.read(reading, 20).decode()}")


@mode
def has_a_hermit() -> None:
    """A daemon with nothing of the CLI's about it: not its session, not its environment, not its pipes."""
    name = asked()

    def withdraw() -> None:
        os.chdir("/")
        os.closerange(0, 100)
        os.execve("/bin/sleep", [name, str(LIFE_SECONDS)], {})

    detach(withdraw)
    say("text", text="It is there.")
    hear()


@mode
def has_children_until_it_may_have_no_more() -> None:
    """A fork bomb, but for its own bound; a child lives on and has children, too."""
    hear()
    say("text", text="Boom")
    for _ in range(12):
        try:
            os.fork()
        except OSError:
            time.sleep(0.05)
    sleep_for_ever()


@mode
def eats_memory() -> None:
    """As many megabytes as it is told, and keeps them."""
    size = int(asked())
    say("text", text="Hungry")
    eaten = [os.urandom(MEGABYTE) for _ in range(size)]
    say("text", text=f" and fed with {len(eaten)}")
    sleep_for_ever()


@mode
def eats_shared_memory() -> None:
    """The same, of the kind that no process has of its own."""
    size = int(asked())
    say("text", text="Hungry")
    eaten = mmap.mmap(-1, size * MEGABYTE)
    for start in range(0, size * MEGABYTE, 4096):
        eaten[start] = 1
    sleep_for_ever()


# What files it leaves


@mode
def leaves_files() -> None:
    """Good ones and bad ones."""
    hear()
    folder = Path("artifacts")
    (folder / "charts" / "2026").mkdir(parents=True)
    (folder / "report.md").write_text("# Report\n")
    (folder / "charts" / "2026" / "sales.csv").write_text("a,b\n1,2\n")
    (folder / "..dots..txt").write_text("dots")
    (folder / "empty.txt").touch()
    (folder / "a\nb.txt").write_text("a name of two lines")
    (folder / "link.txt").symlink_to("/etc/passwd")
    (folder / "folder-link").symlink_to("/etc")
    Path("original.txt").write_text("two names")
    (folder / "hard.txt").hardlink_to("original.txt")
    os.mkfifo(folder / "fifo")
    say("result", text="Saved.")


@mode
def leaves_many_files() -> None:
    count = int(asked())
    Path("artifacts").mkdir()
    for number in range(count):
        Path(f"artifacts/{number}.txt").write_text(str(number))
    say("result", text="Saved.")


@mode
def leaves_a_large_file() -> None:
    size = int(asked())
    Path("artifacts").mkdir()
    Path("artifacts/large.bin").write_bytes(b"x" * size)
    Path("artifacts/small.txt").write_text("small")
    say("result", text="Saved.")


@mode
def leaves_a_link_for_a_folder() -> None:
    """`./artifacts` itself leads elsewhere."""
    Path("artifacts").symlink_to(asked())
    say("result", text="Saved.")


@mode
def has_a_wide_pipe() -> None:
    """It fills more of its output pipe than the usual 64 KiB, and is gone."""
    hear()
    fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 2**20)
    write("".join(json.dumps({"type": "text", "text": "x" * 980}) + "\n" for _ in range(500)))
    say("result")


if __name__ == "__main__":
    live_no_longer_than_the_tests()
    MODES[sys.argv[1]]()
