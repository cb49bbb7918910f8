"""Rooms in a sandbox, for programs that no agents file names."""

import os
from collections.abc import Sequence
from pathlib import Path

from longwick import isolation
from worker.sandbox import Limits, Room, Sandbox

LIMITS = Limits(memory_bytes=2**32, processes=200, open_files=1024, file_bytes=2**30, cpu_seconds=60)


def a_room(folder: Path, argv: Sequence[str], limits: Limits = LIMITS) -> Room:
    """A room for a program that owns this folder."""
    found = isolation.of("auto")
    assert found.bwrap, found.reason
    (folder / "tmp").mkdir(exist_ok=True)
    return Sandbox(found.bwrap, limits, folder.parent / f"{folder.name}.etc").room(argv, folder, os.environ["PATH"])
