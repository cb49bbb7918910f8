"""Bytes in an object store that speaks S3: the same names, known to every host.

There is no renaming there, so nothing is removed in one step: what nobody lists is moved to `removed/`, and goes from
there a day later. Whoever put the same bytes again just before they were moved has them from there.
"""

import io
import logging
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from longwick import seams, unlisted
from longwick.errors import BadSetting, NotFound, StorageFull, StorageUnavailable
from longwick.patience import Alive, patiently
from longwick.storage import (
    CHUNK,
    Arriving,
    Batch,
    Incoming,
    Stored,
    translated,
    waiting_in,
)
from longwick.unlisted import UNLISTED_SECONDS, Listed

log = logging.getLogger(__name__)

PART_BYTES = 8 * 2**20
"""What is larger is sent in parts of this size."""
PARTS_AT_ONCE = 2
FILES_AT_ONCE = 8
IN_MEMORY_BYTES = CHUNK
"""What is larger waits on the disk until all of it has come."""
READ_SECONDS = 3.0
"""How long an answer may take, all attempts together at most twice as long: a run that waits for it keeps its lease."""
WRITE_SECONDS = 30.0
_OPTIONS = {"endpoint", "region"}
_FULL = ("InsufficientStorage", "QuotaExceeded", "StorageFull", "507 ")
Meta = Any
"""What obstore says of an object: its stub of it does not exist at run time."""


class ObjectStorage:
    """A bucket, or what has a prefix in it. `spool` is where bytes wait until their digest is known."""

    def __init__(self, url: str, spool: Path) -> None:
        """Say where it is; nothing is asked of it yet.

        Raises:
            BadSetting: that is no address of a bucket.
        """
        self._spool = spool
        self._reading = _open(url, READ_SECONDS)
        self._writing = _open(url, WRITE_SECONDS)

    @contextmanager
    def incoming(self, *, limit: int) -> Iterator[Incoming]:
        with translated(), self._spooled(limit) as object_:
            yield object_

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        with translated(), self._spooled(limit) as object_:
            for chunk in chunks:
                object_.write(chunk)
            return object_.keep(alive)

    @contextmanager
    def _spooled(self, limit: int) -> Iterator["_IncomingObject"]:
        self._spool.mkdir(parents=True, exist_ok=True)
        with SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(self._spool)) as file:
            yield _IncomingObject(self, file, limit)

    @contextmanager
    def batch(self, alive: Alive) -> Iterator[Batch]:
        with translated(), waiting_in(self._spool) as batch:
            yield batch

            def send(sha256: str) -> None:
                with (batch.folder / sha256).open("rb") as file:
                    self.send(sha256, file, batch.sizes[sha256])

            def send_all() -> None:
                with ThreadPoolExecutor(FILES_AT_ONCE, "object store") as pool:
                    try:
                        list(pool.map(send, sorted(batch.sizes)))
                    finally:
                        pool.shutdown(cancel_futures=True)

            if batch.sizes:
                patiently(send_all, alive)
                seams.passed("bytes stored")

    def send(self, sha256: str, file: IO[bytes], size: int) -> None:
        """Have the store keep all that is in a file."""
        large = size > PART_BYTES
        with _answering():
            try:
                self._writing.put(
                    _key(sha256),
                    file if large else file.read(),
                    use_multipart=large,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )
            except FileNotFoundError as error:
                raise StorageUnavailable("the object store has no such bucket") from error

    def open(self, sha256: str) -> BinaryIO:
        for _ in range(2):
            with _answering(), suppress(FileNotFoundError):
                got = self._reading.get(_key(sha256))
                if got.meta["size"] <= CHUNK:
                    return io.BytesIO(got.bytes())
                # Of what is larger only the head was wanted: some stores answer a range of all with no range.
                return io.BufferedReader(_Object(self._reading, _key(sha256), got.meta["size"]), CHUNK)
            with _answering(), suppress(FileNotFoundError):
                self._bring_back(sha256)
        raise NotFound("the bytes are not in storage")

    def collect(self, listed: Listed) -> int:
        self._spool.mkdir(parents=True, exist_ok=True)
        unlisted.clear(self._spool, self._spool)
        with _answering():
            long_ago = self._now() - timedelta(seconds=UNLISTED_SECONDS)
            self._empty_removed(listed, long_ago)
            removed = 0
            for metas in self._reading.list("blobs", chunk_size=500):
                names = {_name(meta) for meta in metas if meta["last_modified"] < long_ago}
                for name in sorted(names - listed(sorted(names))) if names else ():
                    removed += self._remove(name)
            return removed

    def _remove(self, name: str) -> bool:
        # Each time to another place, so that whoever empties an old one empties no new one.
        with suppress(FileNotFoundError):
            self._writing.copy(_key(name), f"removed/{name}/{uuid.uuid4().hex}")
            self._writing.delete(_key(name))
            return True
        return False

    def _empty_removed(self, listed: Listed, long_ago: datetime) -> None:
        """Have done with what was removed long ago; what was listed after all is brought back."""
        for metas in self._reading.list("removed"):
            for meta in metas:
                if meta["last_modified"] < long_ago:
                    name = meta["path"].split("/")[-2]
                    if listed([name]) and not self._has(name):
                        self._bring_back(name)
                    self._writing.delete(meta["path"])

    def _bring_back(self, name: str) -> None:
        for metas in self._reading.list(f"removed/{name}"):
            for meta in metas:
                self._writing.copy(meta["path"], _key(name))
                log.warning("%s was removed and is needed: it is brought back", name)
                return

    def _has(self, name: str) -> bool:
        with suppress(FileNotFoundError):
            self._reading.head(_key(name))
            return True
        return False

    def _now(self) -> datetime:
        """The clock of the store, which has put its time on the objects."""
        self._writing.put("clock", b"")
        now: datetime = self._reading.head("clock")["last_modified"]
        return now


class _IncomingObject(Arriving):
    """An object without its name yet."""

    def __init__(self, storage: ObjectStorage, file: Any, limit: int) -> None:
        super().__init__(file, limit)
        self._storage = storage

    def keep(self, alive: Alive | None = None) -> Stored:
        stored = self.written
        self.file.seek(0)
        if alive:
            patiently(lambda: self._storage.send(stored.sha256, self.file, stored.size), alive)
        else:
            self._storage.send(stored.sha256, self.file, stored.size)
        seams.passed("bytes stored")
        return stored


class _Object(io.RawIOBase):
    """An object that is read part by part, each by a request of its own."""

    def __init__(self, store: S3Store, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._at = 0
        self._part_at, self._part = 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        if not self._part_at <= self._at < self._part_at + len(self._part):
            end = min(self._size, self._at + CHUNK)
            with _answering():
                try:
                    part = self._store.get_range(self._key, start=self._at, end=end)
                except FileNotFoundError as error:
                    raise NotFound("the bytes are not in storage any more") from error
            self._part_at, self._part = self._at, bytes(part)
        ready = self._part[self._at - self._part_at :][: len(buffer)]
        if not ready:
            raise StorageUnavailable("the object store sent less than there is")
        buffer[: len(ready)] = ready
        self._at += len(ready)
        return len(ready)


def _open(url: str, seconds: float) -> S3Store:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme != "s3" or not parts.hostname or parts.username or options.keys() - _OPTIONS:
        raise BadSetting("LONGWICK_STORAGE_URL must look like s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION")
    limit = timedelta(seconds=seconds)
    try:
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config=options,  # type: ignore[arg-type] # of the names in _OPTIONS
            client_options={
                "timeout": limit,
                "connect_timeout": timedelta(seconds=READ_SECONDS),
                "allow_http": options.get("endpoint", "").startswith("http://"),
            },
            retry_config={"retry_timeout": limit, "max_retries": 5, "backoff": {"max_backoff": timedelta(seconds=2)}},
        )
    except (BaseError, ValueError) as error:
        raise BadSetting(f"LONGWICK_STORAGE_URL: {error}") from error


def _key(sha256: str) -> str:
    return f"blobs/{sha256}"


def _name(meta: Meta) -> str:
    name: str = meta["path"].rpartition("/")[2]
    return name


@contextmanager
def _answering() -> Iterator[None]:
    """The one place where an error of the object store becomes one of ours; that something is not there stays."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StorageUnavailable("the object store refuses its credentials") from error
    except BaseError as error:
        if any(word in str(error) for word in _FULL):
            raise StorageFull("no space is left in the object store") from error
        if "NoSuchBucket" in str(error):
            raise StorageUnavailable("the object store has no such bucket") from error
        log.warning("the object store failed: %s", str(error)[:500])
        raise StorageUnavailable("the object store does not answer") from error
