"""An object store that fails, is slow or refuses; and what is removed from it, and what never is."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from s3 import S3

from longwick.doctor import examine
from longwick.errors import BadSetting, NotFound, StorageFull, StorageUnavailable
from longwick.object_store import PART_BYTES, ObjectStorage
from longwick.settings import Settings
from longwick.storage import CHUNK, FolderStorage, Stored, describe, storage_of


@pytest.fixture
def storage(storage_url: str, tmp_path: Path) -> ObjectStorage:
    """An empty one."""
    return ObjectStorage(storage_url, tmp_path / "spool")


def read(storage: ObjectStorage, stored: Stored) -> bytes:
    with storage.open(stored.sha256) as file:
        return file.read()


@pytest.mark.parametrize(
    "url", ["http://bucket", "s3://", "s3://bucket?timeout=1", "s3://user:secret@bucket", "bucket"]
)
def test_what_is_no_bucket_is_refused_and_no_secret_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="LONGWICK_STORAGE_URL") as refused:
        ObjectStorage(url, tmp_path)
    assert "secret" not in refused.value.detail


def test_the_setting_says_where_files_are(storage_url: str, tmp_path: Path) -> None:
    here = storage_of(Settings.from_environ({}, data_dir=tmp_path / "a"))
    assert isinstance(here, FolderStorage)
    hosts = [storage_of(Settings.from_environ({}, data_dir=tmp_path / host, storage_url=storage_url)) for host in "bc"]
    stored = hosts[0].put([b"seen by all"], limit=100)
    with hosts[1].open(stored.sha256) as file:
        assert file.read() == b"seen by all"
    with pytest.raises(NotFound):
        here.open(stored.sha256)


def test_what_is_large_goes_in_parts_and_is_read_from_anywhere(storage: ObjectStorage) -> None:
    data = bytes(range(251)) * (2 * PART_BYTES // 250)
    stored = storage.put((data[at : at + CHUNK] for at in range(0, len(data), CHUNK)), limit=len(data))
    assert stored == describe(data)
    with storage.open(stored.sha256) as file:
        for at, size in [(0, 10), (len(data) - 5, 10), (CHUNK - 3, CHUNK + 7), (PART_BYTES + 1, 3), (len(data), 9)]:
            file.seek(at)
            assert file.read(size) == data[at : at + size]
        file.seek(-7, 2)
        assert file.read() == data[-7:]
    assert read(storage, stored) == data


def test_credentials_that_are_refused_are_said_to_be(
    storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    refused = ObjectStorage(storage_url, tmp_path)
    attempts: list[Callable[[], object]] = [
        lambda: refused.put([b"x"], limit=1),
        lambda: refused.open("0" * 64),
        lambda: refused.collect(lambda names: set()),
    ]
    for attempt in attempts:
        with pytest.raises(StorageUnavailable, match="credentials"):
            attempt()


def test_the_doctor_says_whether_it_takes_files(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> tuple[str, str]:
        monkeypatch.setenv("LONGWICK_STORAGE_URL", storage_url)
        (finding,) = [finding for finding in examine() if finding.part == "files"]
        return finding.level.value, finding.words

    assert said() == ("ok", "the object store takes them")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert said()[0] == "wrong"


def test_a_bucket_that_is_not_there_is_said_not_to_be(s3: S3, storage_url: str, tmp_path: Path) -> None:
    nowhere = ObjectStorage(storage_url.replace("//bucket", "//nowhere"), tmp_path)
    with pytest.raises(StorageUnavailable, match="no such bucket"):
        nowhere.open("0" * 64)


# A store that fails


@contextmanager
def between(s3: S3, answer: Callable[[socket.socket, socket.socket], None]) -> Iterator[str]:
    """The address of somebody who stands between us and the store, and has `answer(client, store)` do what it will."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            while True:
                try:
                    client, _ = door.accept()
                except OSError:
                    return
                host, _, port = s3.endpoint.removeprefix("http://").partition(":")
                with client, socket.create_connection((host, int(port))) as store:
                    client.settimeout(10)
                    store.settimeout(10)
                    answer(client, store)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)
    thread.join(15)
    assert not thread.is_alive()


def cut_upload(client: socket.socket, store: socket.socket) -> None:
    store.sendall(client.recv(4096))


def cut_answer(client: socket.socket, store: socket.socket) -> None:
    store.sendall(client.recv(65536))
    client.sendall(store.recv(65536)[:-1000])


def full(client: socket.socket, store: socket.socket) -> None:
    client.recv(65536)
    body = b"<Error><Code>InsufficientStorage</Code><Message>no</Message></Error>"
    client.sendall(b"HTTP/1.1 507 Full\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails for good is tried again for a few seconds only."""
    monkeypatch.setattr("longwick.object_store.READ_SECONDS", 5.0)
    monkeypatch.setattr("longwick.object_store.WRITE_SECONDS", 10.0)


@pytest.mark.parametrize("size", [100_000, PART_BYTES + 1])
def test_a_store_that_goes_while_it_is_sent_something_has_none_of_it(
    size: int, s3: S3, storage: ObjectStorage, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = b"x" * size
    with between(s3, cut_upload) as endpoint:
        cut = ObjectStorage(s3.url(request.node.name, endpoint), tmp_path / "spool")
        with pytest.raises(StorageUnavailable):
            cut.put([data], limit=size)
        with pytest.raises(StorageUnavailable), cut.batch(lambda: None) as batch:
            batch.put([data], limit=size)
    with pytest.raises(NotFound):
        storage.open(describe(data).sha256)
    assert not list((tmp_path / "spool").iterdir())
    assert read(storage, storage.put([data], limit=size)) == data


@pytest.mark.parametrize("size", [100_000, 2 * CHUNK])
def test_an_answer_that_is_cut_short_is_never_taken_for_a_whole_one(
    size: int, s3: S3, storage: ObjectStorage, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    stored = storage.put([b"x" * size], limit=size)
    with between(s3, cut_answer) as endpoint:
        cut = ObjectStorage(s3.url(request.node.name, endpoint), tmp_path / "spool")
        with pytest.raises(StorageUnavailable):
            read(cut, stored)


def test_a_store_without_space_is_told_from_one_that_is_gone(
    s3: S3, request: pytest.FixtureRequest, tmp_path: Path, storage_url: str
) -> None:
    with between(s3, full) as endpoint:
        storage = ObjectStorage(s3.url(request.node.name, endpoint), tmp_path / "spool")
        with pytest.raises(StorageFull):
            storage.put([b"x"], limit=1)


def test_whoever_waits_for_a_slow_store_is_alive(
    s3: S3, request: pytest.FixtureRequest, storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longwick.object_store.WRITE_SECONDS", 20.0)
    monkeypatch.setattr("longwick.patience.TICK_SECONDS", 0.01)
    asked, heard = threading.Event(), threading.Event()

    def slow(client: socket.socket, store: socket.socket) -> None:
        request = client.recv(65536)
        asked.clear()
        heard.set()
        assert asked.wait(30)
        store.sendall(request)
        client.sendall(store.recv(65536))

    with between(s3, slow) as endpoint:
        storage = ObjectStorage(s3.url(request.node.name, endpoint), tmp_path / "spool")
        assert storage.put([b"x"], limit=1, alive=asked.set) == describe(b"x")
        with storage.batch(asked.set) as batch:
            batch.put([b"y"], limit=1)

        def give_up() -> None:
            if heard.is_set():
                raise ZeroDivisionError

        heard.clear()
        with pytest.raises(ZeroDivisionError):
            storage.put([b"z"], limit=1, alive=give_up)
        asked.set()


# What nobody lists


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes it so many days later, by the clock of the store."""
    now = ObjectStorage._now

    def go(days: int) -> None:
        monkeypatch.setattr(ObjectStorage, "_now", lambda self: now(self) + timedelta(days=days))

    return go


def test_f49_old_objects_that_nothing_lists_are_collected_and_no_others(
    storage: ObjectStorage, later: Callable[[int], None]
) -> None:
    unlisted, listed = (storage.put([data], limit=9) for data in (b"unlisted", b"listed"))

    def known(names: Sequence[str]) -> set[str]:
        return {listed.sha256} & set(names)

    assert storage.collect(known) == 0
    later(2)
    assert storage.collect(known) == 1
    assert storage.collect(known) == 0
    assert read(storage, listed) == b"listed"
    assert [meta["path"] for metas in storage._reading.list("removed") for meta in metas] == []
    with pytest.raises(NotFound):
        storage.open(unlisted.sha256)


def test_f49_an_object_that_is_put_again_or_listed_while_it_is_collected_is_kept(
    storage: ObjectStorage, later: Callable[[int], None]
) -> None:
    """There is no moment at which it is gone: the second look, a day later, decides."""
    stored = storage.put([b"x"], limit=1)
    later(2)

    def listed(names: Sequence[str]) -> set[str]:
        storage.put([b"x"], limit=1)
        return set()

    assert storage.collect(listed) == 1
    assert [meta["path"] for metas in storage._reading.list("blobs") for meta in metas] == []
    assert read(storage, stored) == b"x"
    assert storage.collect(lambda names: {stored.sha256}) == 0
    assert read(storage, stored) == b"x"


def test_f49_what_was_removed_and_then_listed_comes_back_without_being_asked_for(
    storage: ObjectStorage, later: Callable[[int], None]
) -> None:
    stored = storage.put([b"x"], limit=1)
    later(2)
    assert storage.collect(lambda names: set()) == 1
    assert storage.collect(lambda names: {stored.sha256}) == 0
    assert [meta["path"] for metas in storage._reading.list("removed") for meta in metas] == []
    assert read(storage, stored) == b"x"
    assert isinstance(storage._now(), datetime)
