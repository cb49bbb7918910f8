"""Where bytes live: named by their SHA-256, whole or not there at all."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from longwick.errors import NotFound, StorageFull, TooLarge

CHUNK = 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Stored:
    """What was put: its name and its size in bytes."""

    sha256: str
    size: int


def describe(data: bytes) -> Stored:
    """What these bytes are called once they are put."""
    return Stored(hashlib.sha256(data).hexdigest(), len(data))


class Storage(Protocol):
    """The seam for an object store to come."""

    def put(self, chunks: Iterable[bytes], *, limit: int) -> Stored:
        """Keep the bytes, durably, before this returns; putting the same again changes nothing.

        Raises:
            TooLarge: there are more than `limit` bytes; nothing is kept.
            StorageFull: there is no space; nothing is kept.
        """
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The bytes of that name, seekable.

        Raises:
            NotFound: there are none.
        """
        ...


class FolderStorage:
    """A folder of files, spread over 256 subfolders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, chunks: Iterable[bytes], *, limit: int) -> Stored:
        incoming = self.folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=incoming)
        try:
            digest, size = hashlib.sha256(), 0
            with open(descriptor, "wb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge(f"the file is over the limit of {limit} bytes")
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            self._keep(Path(name), self._path(digest.hexdigest()))
            return Stored(digest.hexdigest(), size)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull("no space is left for files") from error
            raise
        finally:
            Path(name).unlink(missing_ok=True)

    def _keep(self, written: Path, place: Path) -> None:
        """Give the file its name, and make the name as durable as the bytes."""
        place.parent.mkdir(exist_ok=True)
        written.replace(place)
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def open(self, sha256: str) -> BinaryIO:
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError as error:
            raise NotFound("the bytes are not in storage") from error

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256
