"""Folders in folders, as any agent with a shell makes them."""

import os
from pathlib import Path

FRAMES_DO_NOT_SUFFICE = 1200
NO_PATH_SUFFICES = 2200


def deepen(top: Path, levels: int) -> None:
    """Make a folder `a` in it, in that another, and so on, with a file `end` in the last."""
    opened = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("a", dir_fd=opened)
        below = os.open("a", os.O_RDONLY, dir_fd=opened)
        os.close(opened)
        opened = below
    os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=opened))
    os.close(opened)
