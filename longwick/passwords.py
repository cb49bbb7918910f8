"""Passwords of our own making, each kept in a file that only its owner can read."""

import os
import secrets
import tempfile
from pathlib import Path

from longwick.settings import Settings

BYTES = 24
FLOWER_USER = "longwick"


def of_flower(settings: Settings) -> tuple[str, bool]:
    """Flower's password: what was set, or else one that is kept in the data dir; and whether it was made just now."""
    if settings.flower_password:
        return settings.flower_password, False
    return remembered(flower_file(settings))


def flower_file(settings: Settings) -> Path:
    """Where Flower's password is kept."""
    return settings.data_dir / "flower.password"


def remembered(file: Path) -> tuple[str, bool]:
    """The password that `file` keeps, made if there is none yet; and whether it was made just now."""
    if file.exists():
        return file.read_text().strip(), False
    made = secrets.token_urlsafe(BYTES)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", prefix=f"{file.name}.", dir=file.parent) as whole:
        whole.write(made + "\n")
        whole.flush()
        try:
            # Whole or not at all, and never over another's: of several that come at once, one makes it.
            os.link(whole.name, file)
        except FileExistsError:
            return file.read_text().strip(), False
    return made, True
