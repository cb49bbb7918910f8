"""The private folder of one attempt, and the environment that its CLI gets: an allow-list, never the worker's own."""

import contextlib
import ctypes
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from longwick.agents import Profile
from longwick.settings import environ_values
from worker.agents import Turn

LEFT_FOLDER = "artifacts"
MOST_LEFT_FILES = 1000


@dataclass(frozen=True, slots=True)
class Workspace:
    """`work` is the CLI's current folder, empty at first; its HOME and TMPDIR lie beside it."""

    folder: Path
    descriptor: int
    """The same folder, opened before the CLI could put another in its place."""

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environ(self, profile: Profile, turn: Turn, more: Mapping[str, str]) -> dict[str, str]:
        """All variables that the CLI gets."""
        env = {
            **environ_values(["PATH"]),
            "HOME": str(self.home),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            **profile.environ,
            **more,
            "LONGWICK_RUN_ID": turn.run_id,
            "LONGWICK_THREAD_ID": turn.thread_id,
            "LONGWICK_ATTEMPT": str(turn.attempt),
        }
        if turn.mcp_url and turn.mcp_token:
            env |= {"LONGWICK_MCP_URL": turn.mcp_url, "LONGWICK_MCP_TOKEN": turn.mcp_token}
        return env

    def left_files(self) -> Iterator[tuple[str, BinaryIO | None]]:
        """(name, open file) of what the CLI left in `./artifacts/`; None where it is no regular file of its own."""
        beneath = _open_beneath(self.descriptor, f"work/{LEFT_FOLDER}", os.O_DIRECTORY)
        if beneath is None:
            return
        try:
            names = sorted(
                str(Path(folder, file)) for folder, _, files, _ in os.fwalk(".", dir_fd=beneath) for file in files
            )
            for name in names[:MOST_LEFT_FILES]:
                file = _regular(_open_beneath(beneath, name))
                with file or contextlib.nullcontext():
                    yield name, file
            if len(names) > MOST_LEFT_FILES:
                yield f"and {len(names) - MOST_LEFT_FILES} more", None
        finally:
            os.close(beneath)


@contextmanager
def workspace(data_dir: Path, turn: Turn) -> Iterator[Workspace]:
    """A fresh folder for this attempt, gone afterwards."""
    folder = data_dir / "workspaces" / f"{turn.run_id}-{turn.attempt}"
    _remove(folder)
    for each in (folder, folder / "work", folder / "home", folder / "tmp"):
        each.mkdir(mode=0o700, parents=True)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Workspace(folder, descriptor)
    finally:
        os.close(descriptor)
        _remove(folder)


def left_over(data_dir: Path) -> Iterator[tuple[str, int, Callable[[], None]]]:
    """(run id, attempt, what removes it) of each workspace that is there; its attempt may be running still."""
    for folder in sorted((data_dir / "workspaces").glob("run_*-*")):
        run_id, _, attempt = folder.name.rpartition("-")
        if attempt.isdigit():
            yield run_id, int(attempt), partial(_remove, folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        # Some tools take the right to write from their caches, which keeps everybody but root from emptying them.
        for parent, below, _ in os.walk(folder):
            for path in (Path(parent, name) for name in below):
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_libc = ctypes.CDLL(None, use_errno=True)


def _open_beneath(folder: int, name: str, flags: int = 0) -> int | None:
    """What has that name, reached through no link; None where there is no such thing."""
    how = _OpenHow(
        os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | flags,
        0,
        _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
    )
    descriptor = _libc.syscall(_SYS_OPENAT2, folder, os.fsencode(name), ctypes.byref(how), ctypes.sizeof(how))
    return None if descriptor < 0 else int(descriptor)


def _regular(descriptor: int | None) -> BinaryIO | None:
    """An open file, if it is a regular one with a single name.

    Opened first and looked at afterwards, so that nothing can be put in its place in between.
    """
    if descriptor is None:
        return None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")
