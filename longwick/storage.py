"""Where bytes live: named by their SHA-256, whole or not there at all."""

import ctypes
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from longwick import seams, unlisted
from longwick.errors import LongwickError, NotFound, StorageFull, TooLarge
from longwick.patience import Alive, patiently
from longwick.settings import Settings
from longwick.unlisted import Listed

CHUNK = 1024 * 1024
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
    """A folder, or an object store; each method raises `StorageUnavailable` where that does not answer."""

    def incoming(self, *, limit: int) -> AbstractContextManager[Incoming]:
        """A place for up to `limit` bytes that come piece by piece."""
        ...

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        """Keep the bytes, durably, before this returns; putting the same again changes nothing.

        `alive` is called every second while the bytes are sent, where they are sent anywhere.

        Raises:
            TooLarge: there are more than `limit` bytes; nothing is kept.
            StorageFull: there is no space; nothing is kept.
        """
        ...

    def batch(self, alive: Alive) -> AbstractContextManager[Batch]:
        """Where many are put that become durable, and known by their names, together: on leaving it, or never.

        `alive` is called every second while that takes.

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


def storage_of(settings: Settings) -> Storage:
    """Where these settings have the bytes of files.

    Raises:
        BadSetting: the address of the object store is none.
    """
    if not settings.storage_url:
        return FolderStorage(settings.blobs)
    # Ten megabytes that a folder does not need.
    from longwick.object_store import ObjectStorage

    return ObjectStorage(settings.storage_url, settings.data_dir / "spool")


def find_fault(storage: Storage) -> str | None:
    """Why it takes no files, in words."""
    try:
        storage.put([b"Is anybody there?"], limit=100)
    except LongwickError as error:
        return error.detail
    return None


class FolderStorage:
    """A folder of files, spread over 256 subfolders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def incoming(self, *, limit: int) -> Iterator[Incoming]:
        # Around all of it: closing a file writes, too.
        with translated():
            folder = self.folder / "incoming"
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder)
            try:
                with open(descriptor, "wb") as file:
                    yield _IncomingFile(self, Path(name), file, limit)
            finally:
                Path(name).unlink(missing_ok=True)

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        with self.incoming(limit=limit) as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.keep()

    @contextmanager
    def batch(self, alive: Alive) -> Iterator[Batch]:
        with translated(), waiting_in(self.folder / "incoming") as batch:
            yield batch
            if batch.sizes:
                # What others have written to the disk goes there, too: this may take long.
                patiently(lambda: self._keep_all(batch), alive)
                seams.passed("bytes stored")

    def open(self, sha256: str) -> BinaryIO:
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError as error:
            raise NotFound("the bytes are not in storage") from error

    def collect(self, listed: Listed) -> int:
        if not self.folder.is_dir():
            return 0
        with translated():
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

    def _keep_all(self, batch: "WaitingFiles") -> None:
        with _opened(batch.folder) as descriptor:
            if _libc.syncfs(descriptor) < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(batch.folder))
        for folder in {self.name(digest, batch.folder / digest) for digest in batch.sizes}:
            _sync(folder)


class Arriving:
    """Bytes on their way into a file, counted and digested as they come."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file = file
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            raise TooLarge(f"the file is over the limit of {self._limit} bytes")
        self._digest.update(chunk)
        self.file.write(chunk)

    @property
    def written(self) -> Stored:
        """What came until now."""
        return Stored(self._digest.hexdigest(), self._size)


class _IncomingFile(Arriving):
    """A file without its name yet."""

    def __init__(self, storage: FolderStorage, path: Path, file: BinaryIO, limit: int) -> None:
        super().__init__(file, limit)
        self._storage = storage
        self._path = path

    def keep(self) -> Stored:
        stored = self.written
        self.file.flush()
        os.fsync(self.file.fileno())
        _sync(self._storage.name(stored.sha256, self._path))
        seams.passed("bytes stored")
        return stored


class WaitingFiles:
    """Files named by their digests, in a folder of their own; to wait once is as quick for thousands as for one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sizes: dict[str, int] = {}

    def put(self, chunks: Iterable[bytes], *, limit: int) -> Stored:
        path = self.folder / "next"
        with path.open("wb") as file:
            arriving = Arriving(file, limit)
            for chunk in chunks:
                arriving.write(chunk)
        stored = arriving.written
        path.replace(self.folder / stored.sha256)
        self.sizes[stored.sha256] = stored.size
        return stored


@contextmanager
def waiting_in(folder: Path) -> Iterator[WaitingFiles]:
    """A batch of files in a folder in `folder`, which is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as waiting:
        yield WaitingFiles(Path(waiting))


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
def translated() -> Iterator[None]:
    """The one place where an error of the file system becomes one of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("no space is left for files") from error
        raise
