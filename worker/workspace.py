"""The private folder of one attempt, and the environment that its CLI gets: an allow-list, never the worker's own."""

import ctypes
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def environ(self, profile: Profile, turn: Turn, more: Mapping[str, str]) -> dict[str, str]:
        """All variables that the CLI gets."""
        env = {
            **environ_values(["PATH"]),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            **environ_values(profile.pass_env),
            **profile.env,
            **more,
            "LONGWICK_RUN_ID": turn.run_id,
            "LONGWICK_THREAD_ID": turn.thread_id,
            "LONGWICK_ATTEMPT": str(turn.attempt),
        }
        if turn.mcp_url and turn.mcp_token:
            env |= {"LONGWICK_MCP_URL": turn.mcp_url, "LONGWICK_MCP_TOKEN": turn.mcp_token}
        return env

    def left_files(self) -> Iterator[tuple[str, BinaryIO]]:
        """(name, open file) of what the CLI left in `./artifacts/`: regular files of its own, no way around them."""
        root = self.work / LEFT_FOLDER
        names = sorted(
            str(Path(folder, file).relative_to(root))
            for folder, _, files in os.walk(root, followlinks=False)
            for file in files
        )
        if not names:
            return
        beneath = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for name in names[:MOST_LEFT_FILES]:
                file = _open_beneath(beneath, name)
                if file is not None:
                    with file:
                        yield name, file
        finally:
            os.close(beneath)


@contextmanager
def workspace(data_dir: Path, turn: Turn) -> Iterator[Workspace]:
    """A fresh folder for this attempt, gone afterwards."""
    folder = data_dir / "workspaces" / f"{turn.run_id}-{turn.attempt}"
    shutil.rmtree(folder, ignore_errors=True)
    for each in (folder, folder / "work", folder / "home", folder / "tmp"):
        each.mkdir(mode=0o700, parents=True)
    try:
        yield Workspace(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_libc = ctypes.CDLL(None, use_errno=True)


def _open_beneath(folder: int, name: str) -> BinaryIO | None:
    """The file, if it is a regular one with a single name, reached through no link; None otherwise.

    Opened first and looked at afterwards, so that nothing can be put in its place in between.
    """
    how = _OpenHow(
        os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW,
        0,
        _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
    )
    descriptor = _libc.syscall(_SYS_OPENAT2, folder, os.fsencode(name), ctypes.byref(how), ctypes.sizeof(how))
    if descriptor < 0:
        return None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")
