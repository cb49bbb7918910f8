"""The private folder of one attempt, and the environment that its CLI gets: an allow-list, never the worker's own."""

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from longwick.profiles import Profile
from longwick.settings import environ_values
from worker.agents import Turn, asking_environ
from worker.beneath import entries_beneath, opened_beneath, regular_file

log = logging.getLogger(__name__)

LEFT_FOLDER = "artifacts"
MOST_LEFT_FILES = 1000


@dataclass(frozen=True, slots=True)
class Workspace:
    """`work` is the CLI's current folder; its HOME and TMPDIR lie beside it."""

    folder: Path
    descriptor: int
    """`work`, opened before the CLI could put another folder in its place."""

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
        return env | asking_environ(profile, turn)

    def left_files(self) -> Iterator[tuple[str, BinaryIO | None]]:
        """(name, open file) of what the CLI left in `./artifacts/`; None where it is no regular file of its own."""
        with contextlib.ExitStack() as stack:
            try:
                beneath = stack.enter_context(opened_beneath(self.descriptor, LEFT_FOLDER, os.O_DIRECTORY))
            except OSError:
                return
            names = sorted(name for name, entry in entries_beneath(beneath) if not entry.is_dir(follow_symlinks=False))
            for name in names[:MOST_LEFT_FILES]:
                with regular_file(beneath, name) or contextlib.nullcontext() as file:
                    # With another name elsewhere, it may not be the agent's own.
                    yield name, file if file and os.fstat(file.fileno()).st_nlink == 1 else None
            if len(names) > MOST_LEFT_FILES:
                yield f"and {len(names) - MOST_LEFT_FILES} more", None


@contextmanager
def workspace(data_dir: Path, run_id: str, attempt: int) -> Iterator[Workspace]:
    """A fresh folder for this attempt, gone afterwards."""
    folder = data_dir / "workspaces" / f"{run_id}-{attempt}"
    remove(folder)
    made = make_folders(folder)
    try:
        yield made
    finally:
        os.close(made.descriptor)
        remove(folder)


def make_folders(folder: Path) -> Workspace:
    """The folders of a workspace, empty; whoever has them made closes the descriptor and removes them."""
    for each in (folder, folder / "work", folder / "home", folder / "tmp"):
        each.mkdir(mode=0o700, parents=True)
    return Workspace(folder, os.open(folder / "work", os.O_PATH | os.O_DIRECTORY))


def left_over(data_dir: Path) -> Iterator[tuple[str, int, Path]]:
    """(run id, attempt, folder) of each workspace that is there; its attempt may be running still."""
    for folder in sorted((data_dir / "workspaces").glob("run_*-*")):
        run_id, _, attempt = folder.name.rpartition("-")
        if attempt.isdigit():
            yield run_id, int(attempt), folder


def remove(folder: Path) -> None:
    """Remove a folder, if it is there, with all that an agent has put into it; the log tells where that failed.

    Not by `shutil.rmtree`, which takes a frame and a descriptor for each level: agents make more of these than we have.
    """
    # Some tools take the right to write from their caches, which keeps everybody but root from emptying them.
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if not os.path.lexists(folder):
            return
        with contextlib.suppress(OSError):
            subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, check=False)  # noqa: S603 - it is ours
    if os.path.lexists(folder):
        log.warning("%s could not be removed", folder)
