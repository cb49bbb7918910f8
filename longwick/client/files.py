"""Files as they leave Longwick for a folder of this machine: beneath it, whole, and over nothing by accident."""

import errno
import os
import unicodedata
from pathlib import Path

from longwick.errors import BadName, Conflict, StorageFull


def write_file(folder: Path, name: str, content: bytes, *, overwrite: bool = False) -> Path:
    """Write `content` to the file `name` beneath `folder`, whole or not at all; where it is then.

    Raises:
        BadName: the name would lead out of the folder.
        Conflict: there is something of that name already, or the folder cannot be written.
        StorageFull: no space is left.
    """
    target = _beneath(folder, name)
    # A new file takes its name at once, which fails where there is one; an old one is replaced in one step.
    written = target.with_name(f".{os.getpid()}.part") if overwrite else target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written.open("xb") as file:
            try:
                file.write(content)
                file.flush()
            except OSError:
                written.unlink()
                raise
        if overwrite:
            written.replace(target)
    except FileExistsError as error:
        raise Conflict(f"{error.filename} is there already") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space is left for {target}") from error
        raise Conflict(f"{target} cannot be written: {error.strerror}") from error
    return target


def _beneath(folder: Path, name: str) -> Path:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(unicodedata.category(c) == "Cc" for c in name):
        raise BadName(f"{name!r} is no name that a file may have here")
    target = folder.joinpath(*parts)
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise BadName(f"{name!r} would be written outside of {folder}: there is a link in its way")
    return target
