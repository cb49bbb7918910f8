"""Where bytes live: named by their SHA-256, whole or not there at all."""

import ctypes
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from longwick import seams, unlisted
from longwick.errors import NotFound, StorageFull, TooLarge
from longwick.unlisted import Listed

CHUNK = 1024 * 1024
TICK_SECONDS = 1.0
_libc = ctypes.CDLL(None, use_errno=True)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Stored:
    """What was put: its name and its size in bytes."""

    sha256: str
    size: int


def describe(data: bytes) -> Stored:
    """What these bytes are called once they are put."""
    return Stored(hashlib.sha256(data).hexdigest(), len(data))


class Incoming(Protocol):
    """Bytes on their way into storage; unless they are kept, nothing is left of them."""

    def write(self, chunk: bytes) -> None:
        """Take some more.

        Raises:
            TooLarge: there are more than the limit.
            StorageFull: there is no space.
        """
        ...

    def keep(self) -> Stored:
        """That was all: make it durable, before this returns, and known by its name.

        Raises:
            StorageFull: there is no space.
        """
        ...


class Batch(Protocol):
    """Many things on their way into storage."""

    def put(self, chunks: Iterable[bytes], *, limit: int) -> Stored:
        """Take one that is to be kept with the others.

        Raises:
            TooLarge: there are more than `limit` bytes.
            StorageFull: there is no space.
        """
        ...


class Storage(Protocol):
    """The seam for an object store to come."""

    def incoming(self, *, limit: int) -> AbstractContextManager[Incoming]:
        """A place for up to `limit` bytes that come piece by piece."""
        ...

    def put(self, chunks: Iterable[bytes], *, limit: int) -> Stored:
        """Keep the bytes, durably, before this returns; putting the same again changes nothing.

        Raises:
            TooLarge: there are more than `limit` bytes; nothing is kept.
            StorageFull: there is no space; nothing is kept.
        """
        ...

    def batch(self, alive: Callable[[], None]) -> AbstractContextManager[Batch]:
        """Where many are put that become durable, and known by their names, together: on leaving it, or never.

        `alive` is called every second while that takes, and may raise to leave it be.

        Raises:
            StorageFull: there is no space.
        """
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The bytes of that name, seekable.

        Raises:
            NotFound: there are none.
        """
        ...

    def collect(self, listed: Listed) -> int:
        """Remove what a crash has left: old bytes that nothing lists. How many there were; safe while others save."""
        ...


class FolderStorage:
    """A folder of files, spread over 256 subfolders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def incoming(self, *, limit: int) -> Iterator[Incoming]:
        # Around all of it: closing a file writes, too.
        with _translated():
            folder = self.folder / "incoming"
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder)
            try:
                with open(descriptor, "wb") as file:
                    yield _IncomingFile(self, Path(name), file, limit)
            finally:
                Path(name).unlink(missing_ok=True)

    def put(self, chunks: Iterable[bytes], *, limit: int) -> Stored:
        with self.incoming(limit=limit) as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.keep()

    @contextmanager
    def batch(self, alive: Callable[[], None]) -> Iterator[Batch]:
        with _translated():
            folder = self.folder / "incoming"
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as waiting:
                batch = _BatchFolder(self, Path(waiting))
                yield batch
                batch.keep(alive)

    def open(self, sha256: str) -> BinaryIO:
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError as error:
            raise NotFound("the bytes are not in storage") from error

    def collect(self, listed: Listed) -> int:
        if not self.folder.is_dir():
            return 0
        with _translated():
            return unlisted.collect(self.folder, self.path, listed)

    def path(self, sha256: str) -> Path:
        """Where the bytes of that name are, or would be."""
        return self.folder / sha256[:2] / sha256

    def name(self, sha256: str, file: Path) -> Path:
        """Give a file its name; the folder that must be synced for it is returned."""
        place = self.path(sha256)
        # The name is to be as durable as the bytes.
        if not place.parent.is_dir():
            place.parent.mkdir(exist_ok=True)
            _sync(self.folder)
        file.replace(place)
        return place.parent


class _IncomingFile:
    """A file without its name yet."""

    def __init__(self, storage: FolderStorage, path: Path, file: BinaryIO, limit: int) -> None:
        self._storage = storage
        self._path = path
        self._file = file
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            raise TooLarge(f"the file is over the limit of {self._limit} bytes")
        self._digest.update(chunk)
        self._file.write(chunk)

    def keep(self) -> Stored:
        stored = self.written
        self._file.flush()
        os.fsync(self._file.fileno())
        _sync(self._storage.name(stored.sha256, self._path))
        seams.passed("bytes stored")
        return stored

    @property
    def written(self) -> Stored:
        """What came until now."""
        return Stored(self._digest.hexdigest(), self._size)


class _BatchFolder:
    """Files without their names yet; to wait for the disk once is as quick for thousands as for one."""

    def __init__(self, storage: FolderStorage, folder: Path) -> None:
        self._storage = storage
        self._folder = folder
        self._digests: set[str] = set()

    def put(self, chunks: Iterable[bytes], *, limit: int) -> Stored:
        path = self._folder / "next"
        with path.open("wb") as file:
            incoming = _IncomingFile(self._storage, path, file, limit)
            for chunk in chunks:
                incoming.write(chunk)
        stored = incoming.written
        path.replace(self._folder / stored.sha256)
        self._digests.add(stored.sha256)
        return stored

    def keep(self, alive: Callable[[], None]) -> None:
        """That was all: make it durable."""
        if not self._digests:
            return
        # What others have written to the disk goes there, too: this may take long.
        pool = ThreadPoolExecutor(1, "storage syncs")
        try:
            kept = pool.submit(self._keep)
            while not wait([kept], TICK_SECONDS).done:
                alive()
            kept.result()
        finally:
            pool.shutdown(wait=False)
        seams.passed("bytes stored")

    def _keep(self) -> None:
        with _opened(self._folder) as descriptor:
            if _libc.syncfs(descriptor) < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(self._folder))
        for folder in {self._storage.name(digest, self._folder / digest) for digest in self._digests}:
            _sync(folder)


def _sync(folder: Path) -> None:
    with _opened(folder) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    """The one place where an error of the file system becomes one of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("no space is left for files") from error
        raise
