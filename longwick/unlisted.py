"""Bytes in a folder of files that nothing lists, as a crash came between the two; they go when they are old."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

UNLISTED_SECONDS = 24 * 3600.0
"""How old bytes must be before it is no save any more that will list them soon."""
ASIDE = ".unlisted"

Listed = Callable[[Sequence[str]], set[str]]
"""Which of these names the record has."""


def collect(folder: Path, path: Callable[[str], Path], listed: Listed) -> int:
    """Remove them, and return how many there were; `path` is where the bytes of a name are, in a folder in `folder`."""
    incoming = folder / "incoming"
    for aside in incoming.glob("*" + ASIDE):
        # Whoever moved it here did not live to decide.
        with suppress(FileNotFoundError):
            aside.replace(path(aside.stem))
    clear(folder, incoming)
    removed = 0
    for part in folder.glob("??"):
        names = {file.name for file in _old(folder, part.iterdir())}
        for name in sorted(names - listed(sorted(names))):
            removed += _remove(folder, path(name), listed)
    return removed


def clear(folder: Path, incoming: Path) -> None:
    """Remove what was on its way into storage long ago; both are on one file system."""
    for left in _old(folder, incoming.glob("*")):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _remove(folder: Path, path: Path, listed: Listed) -> bool:
    """Take bytes out of the way, and remove them unless somebody has put or listed them since they were seen."""
    aside = folder / "incoming" / (path.name + ASIDE)
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _old(folder, [aside]) and not listed([path.name]):
            aside.unlink()
            return True
        aside.replace(path)
    return False


def _old(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Those of `paths` that are old, by the clock of the file system, which has put its time on them."""
    old = []
    with tempfile.TemporaryFile(dir=folder) as new:
        now = os.fstat(new.fileno()).st_mtime
    for path in paths:
        with suppress(FileNotFoundError):
            if now - path.stat().st_mtime > UNLISTED_SECONDS:
                old.append(path)
    return old
