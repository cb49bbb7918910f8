"""Bytes in storage, in a folder or an object store: whole under their digest, or not there at all."""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longwick.errors import NotFound, StorageFull, TooLarge
from longwick.object_store import ObjectStorage
from longwick.storage import FolderStorage, Storage, Stored, describe
from longwick.unlisted import UNLISTED_SECONDS


@pytest.fixture
def folder(tmp_path: Path) -> FolderStorage:
    """An empty one; its folder is made when it is needed."""
    return FolderStorage(tmp_path / "blobs")


@pytest.fixture(params=["folder", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Each of the two, empty."""
    if request.param == "folder":
        return FolderStorage(tmp_path / "blobs")
    return ObjectStorage(request.getfixturevalue("storage_url"), tmp_path / "blobs" / "incoming")


def kept(storage: Storage) -> list[str]:
    """The names of all that is there, of what is on its way, too."""
    there: list[str] = []
    if isinstance(storage, ObjectStorage):
        there += [meta["path"].rpartition("/")[2] for metas in storage._reading.list("blobs") for meta in metas]
        on_its_way = storage._spool
    else:
        assert isinstance(storage, FolderStorage)
        on_its_way = storage.folder
    return sorted(there + [path.name for path in on_its_way.rglob("*") if path.is_file()])


def read(storage: Storage, stored: Stored) -> bytes:
    with storage.open(stored.sha256) as file:
        return file.read()


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 100, bytes(range(256)) * 20_000])
def test_what_is_put_is_found_under_its_digest(storage: Storage, data: bytes) -> None:
    stored = storage.put([data[:10], b"", data[10:]], limit=len(data))
    assert stored == Stored(hashlib.sha256(data).hexdigest(), len(data)) == describe(data)
    assert read(storage, stored) == data
    assert storage.put([data], limit=len(data)) == stored
    assert kept(storage) == [stored.sha256]


def test_what_comes_piece_by_piece_is_there_once_it_is_kept(storage: Storage) -> None:
    with storage.incoming(limit=100) as incoming:
        for piece in (b"one ", b"two ", b"three"):
            incoming.write(piece)
        with pytest.raises(NotFound):
            storage.open(describe(b"one two three").sha256)
        stored = incoming.keep()
        assert read(storage, stored) == b"one two three"
    assert kept(storage) == [stored.sha256]


def test_what_is_not_kept_leaves_nothing(storage: Storage) -> None:
    with storage.incoming(limit=100) as incoming:
        incoming.write(b"one")
    with pytest.raises(ZeroDivisionError):
        storage.put((bytes([n // n]) for n in (2, 1, 0)), limit=100)
    assert kept(storage) == []


def test_a_batch_is_there_all_at_once_or_not_at_all(storage: Storage, tmp_path: Path) -> None:
    with storage.batch(lambda: None) as batch:
        put = [batch.put([b"part ", str(n).encode()], limit=10) for n in (1, 2, 3, 1)]
        assert put[0] == put[3] == describe(b"part 1")
        with pytest.raises(NotFound):
            storage.open(put[0].sha256)
    assert [read(storage, each) for each in put[:3]] == [b"part 1", b"part 2", b"part 3"]
    assert len(kept(storage)) == 3
    with storage.batch(lambda: None):
        pass

    def fail(limit: int) -> None:
        with storage.batch(lambda: None) as batch:
            batch.put([b"else"], limit=10)
            batch.put((bytes([n // n]) * 9 for n in (2, 1, 0)), limit=limit)

    with pytest.raises(TooLarge):
        fail(10)
    with pytest.raises(ZeroDivisionError):
        fail(100)
    assert len(kept(storage)) == 3
    assert not list(tmp_path.rglob("incoming/*"))


def test_a_disk_that_takes_long_is_waited_for_by_someone_alive(
    folder: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longwick.patience.TICK_SECONDS", 0.01)
    asked, done = threading.Event(), threading.Event()
    sync = os.fsync

    def slow(descriptor: int) -> None:
        assert asked.wait(30)
        sync(descriptor)
        done.set()

    monkeypatch.setattr("longwick.storage.os.fsync", slow)
    with folder.batch(asked.set) as batch:
        stored = batch.put([b"x"], limit=1)
    assert done.is_set()
    assert read(folder, stored) == b"x"


def test_more_than_the_limit_is_refused_as_it_comes(storage: Storage) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 10

    with pytest.raises(TooLarge, match="35 bytes"):
        storage.put(endless(), limit=35)
    assert taken == 4
    assert kept(storage) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("where", ["os.fsync", "tempfile.mkstemp"])
def test_f34_without_space_nothing_is_kept_and_the_caller_is_told(
    folder: FolderStorage, monkeypatch: pytest.MonkeyPatch, code: int, where: str
) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"longwick.storage.{where}", full)
    with pytest.raises(StorageFull):
        folder.put([b"x"], limit=1)
    monkeypatch.setattr("longwick.storage.tempfile.TemporaryDirectory", full)
    with pytest.raises(StorageFull), folder.batch(lambda: None) as batch:
        batch.put([b"x"], limit=1)
    monkeypatch.undo()
    assert kept(folder) == []
    assert read(folder, folder.put([b"x"], limit=1)) == b"x"


def test_other_errors_of_the_file_system_stay_what_they_are(
    folder: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "it is broken")

    monkeypatch.setattr("longwick.storage.os.fsync", broken)
    with pytest.raises(OSError, match="it is broken"):
        folder.put([b"x"], limit=1)
    assert kept(folder) == []


def test_the_same_bytes_may_be_put_by_many_at_once(storage: Storage) -> None:
    data = b"x" * 100_000
    with ThreadPoolExecutor(8) as pool:
        (stored,) = set(pool.map(lambda n: storage.put([data], limit=len(data)), range(16)))
    assert read(storage, stored) == data
    assert len(kept(storage)) == 1


def test_what_was_never_put_is_not_found(storage: Storage) -> None:
    with pytest.raises(NotFound):
        storage.open("0" * 64)


def make_old(path: Path) -> None:
    long_ago = path.stat().st_mtime - 2 * UNLISTED_SECONDS
    os.utime(path, (long_ago, long_ago))


def test_f49_old_bytes_that_nothing_lists_are_collected_and_no_others(folder: FolderStorage) -> None:
    assert folder.collect(lambda names: set()) == 0
    unlisted, listed, fresh = (folder.put([data], limit=9) for data in (b"unlisted", b"listed", b"fresh"))
    left, coming = (folder.folder / "incoming" / name for name in ("left", "coming"))
    for path in (left, coming):
        path.write_bytes(b"half a fi")
    batch = folder.folder / "incoming" / "batch"
    batch.mkdir()
    (batch / "next").touch()
    for path in (left, batch, folder.path(unlisted.sha256), folder.path(listed.sha256)):
        make_old(path)
    assert folder.collect(lambda names: {listed.sha256} & set(names)) == 1
    assert kept(folder) == sorted(["coming", listed.sha256, fresh.sha256])


def test_f49_bytes_that_are_put_again_while_they_are_collected_are_kept(folder: FolderStorage) -> None:
    stored = folder.put([b"x"], limit=1)
    make_old(folder.path(stored.sha256))
    asked = []

    def listed(names: Sequence[str]) -> set[str]:
        asked.append(folder.put([b"x"], limit=1))
        return set()

    assert folder.collect(listed) == 0
    assert asked
    assert read(folder, stored) == b"x"


def test_f49_bytes_that_are_listed_while_they_are_collected_are_kept(folder: FolderStorage) -> None:
    stored = folder.put([b"x"], limit=1)
    make_old(folder.path(stored.sha256))
    answers = iter([set[str](), {stored.sha256}])
    assert folder.collect(lambda names: next(answers)) == 0
    assert read(folder, stored) == b"x"


def test_f49_a_crash_while_they_are_collected_loses_nothing(folder: FolderStorage) -> None:
    stored = folder.put([b"x"], limit=1)
    make_old(folder.path(stored.sha256))

    def crash(names: Sequence[str]) -> set[str]:
        if not folder.path(stored.sha256).exists():
            raise KeyboardInterrupt
        return set()

    with pytest.raises(KeyboardInterrupt):
        folder.collect(crash)
    assert folder.collect(lambda names: {stored.sha256}) == 0
    assert read(folder, stored) == b"x"
