"""bubblewrap around a CLI: namespaces of its own, in which there is the system, its own program and its folder.

docs/security.md says what that stops and what it does not, and docs/decisions/0021-a-room-for-each-agent.md why it is
built so.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from worker.beneath import entries_beneath
from worker.sight import ETC, SYSTEM, is_system, names_in, places

PORT = 4711
"""Where the worker is to be found inside, on 127.0.0.1."""
USER = 60777
"""Whom a CLI runs as where the worker is root: nobody else on a usual system, and so without root's files."""
SHARED_MEMORY_BYTES = 256 * 2**20
START_SECONDS = 20.0
END_SECONDS = 5.0
THRESHOLD = Path(__file__).with_name("threshold.py")
INSIDE = "/run/longwick/threshold.py"
PYTHON = os.path.realpath(sys.executable)
PYTHON_PLACES = places([PYTHON], "")
ROOT = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
READ_BYTES = 4096
ERROR_BYTES = 1000
INT = array("i").itemsize
SECRET_FILES = (".env", ".env.local", ".netrc", ".git-credentials")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a CLI and all that it starts may use: memory together, the others as the kernel counts them."""

    memory_bytes: int
    processes: int
    open_files: int
    file_bytes: int
    cpu_seconds: int

    def __str__(self) -> str:
        named = {
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_CORE": 0,
        }
        return ",".join(f"{name}={most}" for name, most in named.items())


@dataclass(frozen=True, slots=True)
class Lodger:
    """A CLI that runs in its room. `popen` is bubblewrap; with that, all ends that the CLI has started."""

    popen: "subprocess.Popen[bytes]"
    pid: int
    """The CLI's own."""
    first: int
    """A pidfd of the first process in the room, which the others do not outlive."""
    proc: int
    """The room's /proc, opened."""
    listener: socket.socket
    """Where the CLI looks for the worker: the worker can accept what comes there."""

    def kill(self) -> None:
        """End all that is in the room."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.first, signal.SIGKILL)

    def await_end(self) -> None:
        """Wait until nothing is left in the room, after bubblewrap was killed."""
        end = select.poll()
        end.register(self.first, select.POLLIN)
        end.poll(END_SECONDS * 1000)

    def close(self) -> None:
        self.listener.close()
        os.close(self.first)
        os.close(self.proc)


@dataclass(frozen=True, slots=True)
class Room:
    """What a CLI is given: `owns` to write to, `reads` to see, and of what it would see so, `hides`."""

    bwrap: str
    etc: Path
    owns: Path
    limits: Limits
    reads: Sequence[Path] = ()
    hides: Sequence[Path] = ()

    def start(self, argv: Sequence[str], env: Mapping[str, str], work: Path) -> Lodger:
        """Start the CLI in the folder `work`; the thread that does must live as long as the CLI.

        Raises:
            OSError: it could not be started.
        """
        user = USER if os.geteuid() == 0 else 0
        if user:
            _give(self.owns, user)
        with contextlib.ExitStack() as closing:
            control, theirs = (closing.enter_context(end) for end in socket.socketpair())
            control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            control.settimeout(START_SECONDS)
            read_info, info = _pipe(closing)
            mapped, say_mapped = _pipe(closing)
            words = [*self._arguments(), "--info-fd", str(info.fileno())]
            # Root takes on another's number inside; a user has but one, and cannot make more namespaces.
            words += ["--userns-block-fd", str(mapped.fileno()), *ROOT] if user else ["--disable-userns"]
            arguments = closing.enter_context(os.fdopen(os.memfd_create("arguments"), "w+b", buffering=0))
            arguments.write(b"".join(os.fsencode(word) + b"\0" for word in words))
            arguments.seek(0)
            passed: list[IO[bytes] | socket.socket] = [arguments, theirs, info, *([mapped] if user else [])]
            told = [str(theirs.fileno()), str(work), str(PORT), str(user), str(self.limits)]
            popen = subprocess.Popen(  # noqa: S603 - a profile of the operator names it
                [self.bwrap, "--args", str(arguments.fileno()), "--", PYTHON, "-I", "-S", INSIDE, *told, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                pass_fds=[file.fileno() for file in passed],
                start_new_session=True,
                bufsize=0,
            )
            try:
                for file in passed:
                    file.close()
                first = _first(read_info)
                if user:
                    _map(first, user)
                    say_mapped.write(b"!")
                return self._crossed(popen, first, control)
            except BaseException as error:
                popen.kill()
                _, said = popen.communicate()
                if isinstance(error, EOFError):
                    words_of = said.decode("utf-8", "replace").strip().removeprefix("bwrap: ")
                    raise OSError(errno.EPERM, f"its sandbox could not be made: {words_of[-500:]}") from None
                raise

    def _crossed(self, popen: "subprocess.Popen[bytes]", first: int, control: socket.socket) -> Lodger:
        """What comes over the threshold, once the CLI has taken the place of what passed it.

        Raises:
            EOFError: nothing comes.
        """
        room = socket.CMSG_SPACE(2 * INT) + socket.CMSG_SPACE(3 * INT)
        said, more, _, _ = control.recvmsg(ERROR_BYTES, room)
        found = {kind: array("i", data) for _, kind, data in more}
        files = found.get(socket.SCM_RIGHTS, array("i"))
        try:
            if not files:
                _raise(said)
            pid = found[socket.SCM_CREDENTIALS][0]
            if failed := control.recv(ERROR_BYTES):
                _raise(failed)
            return Lodger(popen, pid, os.pidfd_open(first), files[0], socket.socket(fileno=files[1]))
        except BaseException:
            for file in files:
                os.close(file)
            raise

    def _arguments(self) -> Iterator[str]:
        """What bubblewrap is told; in the order in which it does it."""
        yield from ("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
        yield from ("--hostname", "longwick", "--chdir", "/")
        for name in SYSTEM:
            if os.path.islink(name):
                yield from ("--symlink", os.readlink(name), name)
            else:
                yield from ("--ro-bind-try", name, name)
        made = {Path("/")}
        yield from _parents(Path("/etc/passwd"), made)
        for name in ETC:
            yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
        yield from ("--perms", "0000", "--tmpfs", "/etc/ssl/private") if os.path.isdir("/etc/ssl/private") else ()
        for file in self.etc.iterdir():
            yield from ("--ro-bind", str(file), f"/etc/{file.name}")
        yield from ("--proc", "/proc", "--dev", "/dev", "--perms", "1777")
        yield from ("--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm")  # noqa: S108 - in there
        yield from ("--bind", str(self.owns / "tmp"), "/tmp")  # noqa: S108 - in there
        yield from _parents(Path(INSIDE), made)
        yield from ("--ro-bind", str(THRESHOLD), INSIDE)
        for place in sorted({*self.reads, *PYTHON_PLACES}):
            if not is_system(place):
                yield from _parents(place, made)
                yield from ("--ro-bind-try", str(place), str(place))
        seen = [*self.reads, *PYTHON_PLACES, *(Path(name) for name in SYSTEM if not os.path.islink(name))]
        for hidden in sorted({name for each in self.hides for name in names_in(seen, each)}):
            yield from ("--perms", "0755", "--tmpfs") if hidden.is_dir() else ("--ro-bind", "/dev/null")
            yield str(hidden)
        yield from _parents(self.owns, made)
        yield from ("--bind", str(self.owns), str(self.owns))
        yield from ("--remount-ro", "/dev", "--remount-ro", "/")


@dataclass(frozen=True)
class Sandbox:
    """How rooms are made on this host."""

    bwrap: str
    limits: Limits
    etc: Path
    """Where the few files of /etc are kept that every room has."""
    hides: Sequence[Path] = ()

    def __post_init__(self) -> None:
        user, group = (USER, USER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        self.etc.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name, text in {
            "passwd": f"root:x:0:0::/:/bin/sh\nagent:x:{user}:{group}::/tmp:/bin/sh\n",
            "group": f"root:x:0:\nagent:x:{group}:\n",
            "hosts": "127.0.0.1 localhost\n",
            "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
            "resolv.conf": "",
        }.items():
            (self.etc / name).write_text(text)
            (self.etc / name).chmod(0o644)

    def room(self, command: Sequence[str], owns: Path, path: str, more: Sequence[str] = ()) -> Room:
        """A room for the command, in which it has the folder `owns`; it sees `more`, too."""
        reads = [*places(command, path), *(Path(name) for name in more)]
        beside = [place / name for place in reads for name in SECRET_FILES]
        return Room(self.bwrap, self.etc, owns, self.limits, reads, [*self.hides, *beside])


def _pipe(closing: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return (
        closing.enter_context(os.fdopen(reading, "rb", buffering=0)),
        closing.enter_context(os.fdopen(writing, "wb", buffering=0)),
    )


def _first(info: IO[bytes]) -> int:
    """The pid of the first process in the room.

    Raises:
        EOFError: there is none.
    """
    said = b""
    while not said.rstrip().endswith(b"}"):
        more = info.read(READ_BYTES)
        if not more:
            raise EOFError
        said += more
    return int(json.loads(said)["child-pid"])


def _map(first: int, user: int) -> None:
    for kind in ("uid", "gid"):
        Path(f"/proc/{first}/{kind}_map").write_text(f"0 0 1\n{user} {user} 1\n")


def _raise(said: bytes) -> None:
    """Raise what the threshold has told of its failure."""
    number, _, words = said.decode("utf-8", "replace").partition(" ")
    if not number:
        raise EOFError
    raise OSError(int(number), words)


def _parents(place: Path, made: set[Path]) -> Iterator[str]:
    """The folders above, to be gone through by everybody."""
    for parent in reversed(place.parents):
        if parent not in made:
            made.add(parent)
            yield from ("--perms", "0755", "--dir", str(parent))


def _give(folder: Path, user: int) -> None:
    """Make another the owner of all of it."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fchown(top, user, user)
        for path, _ in entries_beneath(top):
            os.chown(path, user, user, dir_fd=top, follow_symlinks=False)
    finally:
        os.close(top)
