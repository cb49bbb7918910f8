"""What of this machine a CLI in a sandbox needs to see: the system, and where the programs of its command live."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
ETC = (
    *("alternatives", "ca-certificates", "crypto-policies", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"),
    *("localtime", "mime.types", "pki", "protocols", "services", "ssl", "timezone"),
)
"""What there is of /etc beside what a sandbox makes up."""
PREFIX = ("bin", "lib", "lib64", "libexec")
MOST_LINKS = 40


def places(command: Sequence[str], path: str) -> list[Path]:
    """The folders and files that the command needs beside the system: of each program, where it is installed, and of
    each other file that it names, the folder."""
    found: dict[Path, None] = {}
    program = shutil.which(command[0], path=path)
    if program:
        found |= dict.fromkeys(_of_program(Path(program), path))
    for word in command[1:]:
        if os.path.isabs(word) and os.path.lexists(word):
            named = Path(word)
            found |= dict.fromkeys([named] if named.is_dir() else _of_program(named, path))
    return [place for place in found if not is_system(place)]


def is_system(place: Path) -> bool:
    """Whether every sandbox has it."""
    return any(place.is_relative_to(folder) for folder in SYSTEM)


def names_in(within: Iterable[Path], hidden: Path) -> Iterator[Path]:
    """Where it would be seen in these places, to which links may lead, as they may to it."""
    real = Path(os.path.realpath(hidden))
    for place in within:
        there = Path(os.path.realpath(place))
        if real.is_relative_to(there) and real.exists():
            yield place / real.relative_to(there)


def _of_program(program: Path, path: str) -> Iterator[Path]:
    """Where each link on the way to it lives, where it lives itself, and the same of what interprets it."""
    for _ in range(MOST_LINKS):
        yield from _home_of(program)
        yield from _home_of(Path(os.path.realpath(program.parent), program.name))
        if not program.is_symlink():
            break
        program = program.parent / program.readlink()
    interpreter = _interpreter(program)
    if interpreter and (found := shutil.which(interpreter, path=path)):
        yield from _of_program(Path(found), path)


def _home_of(file: Path) -> Iterator[Path]:
    """The least that holds all of what the file is a part of."""
    modules = [parent for parent in file.parents if parent.name == "node_modules"]
    environment = next((parent for parent in file.parents if (parent / "pyvenv.cfg").is_file()), None)
    folder = file.parent
    if modules:
        yield modules[-1]
    elif environment:
        yield environment
    elif folder.name == "shims":
        # pyenv and its like: what it leads to is beside it.
        yield folder.parent
    elif folder.name in ("bin", "sbin"):
        yield file
        if (folder.parent / "lib").is_dir() and not _is_personal(folder.parent):
            yield from (folder.parent / name for name in PREFIX if (folder.parent / name).exists())
    elif _is_personal(folder):
        yield file
    else:
        yield folder


def _is_personal(folder: Path) -> bool:
    """Whether it holds more of somebody's than one program."""
    home = Path.home()
    return home.is_relative_to(folder) or folder == home / ".local" or len(folder.parts) <= 2


def _interpreter(program: Path) -> str | None:
    """What its first line says that it is run by."""
    try:
        with program.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return None
    if not first.startswith(b"#!"):
        return None
    words = [word for word in first[2:].decode("utf-8", "replace").split() if not word.startswith("-")]
    if words and Path(words[0]).name == "env":
        words = words[1:]
    return words[0] if words else None
