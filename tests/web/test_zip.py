"""A thread's files as an archive: the newest of each, whole, under names that are safe, made while it is sent."""

import io
import re
import urllib.request
import zipfile
from collections.abc import Callable

import psutil
import pytest
from processes import Launch
from scene import new_thread
from served import serve_web
from starlette.testclient import TestClient

from longwick import artifacts
from longwick.artifacts import Save
from longwick.database import Database
from longwick.models import Artifact
from longwick.settings import Settings
from longwick.storage import FolderStorage
from web import archive as archive_module
from web.archive import archive

API = "/api/v1"
ON_SQLITE = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
Attach = Callable[..., Artifact]


@pytest.fixture
def thread_id(database: Database) -> str:
    """A thread with files."""
    return new_thread(database).id


@pytest.fixture
def attach(database: Database, settings: Settings, thread_id: str) -> Attach:
    """Puts a file into the thread."""
    storage = FolderStorage(settings.data_dir / "blobs")

    def attached(name: str, content: bytes = b"hello", media_type: str = "text/plain") -> Artifact:
        stored = storage.put([content], limit=2**30)
        return database.write(lambda db: artifacts.attach(db, "local", thread_id, Save(name, media_type, stored)))

    return attached


def fetch(client: TestClient, thread_id: str) -> zipfile.ZipFile:
    answer = client.get(f"{API}/threads/{thread_id}/artifacts.zip")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    return zipfile.ZipFile(io.BytesIO(answer.content))


def contents(made: zipfile.ZipFile) -> dict[str, bytes]:
    assert made.testzip() is None
    return {name: made.read(name) for name in made.namelist()}


def test_the_newest_version_of_each_file_is_in_it(client: TestClient, thread_id: str, attach: Attach) -> None:
    attach("a.txt", b"one")
    attach("charts/sales.csv", b"1,2\n")
    attach("a.txt", b"two")
    attach("empty", b"")
    attach("Überblick 日本.md", b"# Hm")
    assert contents(fetch(client, thread_id)) == {
        "a.txt": b"two",
        "charts/sales.csv": b"1,2\n",
        "empty": b"",
        "Überblick 日本.md": b"# Hm",
    }


def test_a_thread_without_files_has_an_empty_archive(client: TestClient, thread_id: str) -> None:
    assert contents(fetch(client, thread_id)) == {}


@ON_SQLITE
@pytest.mark.parametrize(
    ("title", "name"),
    [("Tides", "Tides.zip"), ("a/b: c", "a-b: c.zip"), ("", None), (" ..", None), ("\r\nx: 1", "\r\nx: 1.zip")],
)
def test_it_is_for_saving_under_the_name_of_the_thread(client: TestClient, title: str, name: str | None) -> None:
    thread_id = client.post(f"{API}/threads", json={"title": title}).json()["id"]
    answer = client.get(f"{API}/threads/{thread_id}/artifacts.zip")
    found = re.fullmatch(
        r"attachment; filename=\"([A-Za-z0-9 ._()+,-]+)\"; filename\*=UTF-8''(\S+)",
        answer.headers["content-disposition"],
    )
    assert found
    assert urllib.request.unquote(found[2]) == (name or f"{thread_id}.zip")  # type: ignore[attr-defined]
    assert answer.headers["x-content-type-options"] == "nosniff"


@ON_SQLITE
def test_what_is_compressed_already_is_not_compressed_again(client: TestClient, thread_id: str, attach: Attach) -> None:
    for name, media_type in [("a.txt", "text/plain; charset=utf-8"), ("b.json", "application/json")]:
        attach(name, b"x" * 100_000, media_type)
    for name, media_type in [("c.png", "image/png"), ("d.zip", "application/zip"), ("e.mp4", "video/mp4")]:
        attach(name, b"x" * 100_000, media_type)
    sizes = {info.filename: info.compress_size for info in fetch(client, thread_id).infolist()}
    assert {name for name, size in sizes.items() if size < 1000} == {"a.txt", "b.json"}
    assert [sizes[name] for name in ("c.png", "d.zip", "e.mp4")] == [100_000] * 3


@ON_SQLITE
def test_a11_names_are_safe_and_each_is_there_once(client: TestClient, thread_id: str, attach: Attach) -> None:
    names = ["C:evil.txt", "C_evil.txt", "a.txt", "A.TXT", "Makefile", "makefile", "x.d/readme", "X.D/README"]
    for name in names:
        attach(name, name.encode())
    found = contents(fetch(client, thread_id))
    assert len({name.lower() for name in found}) == len(names)
    assert sorted(found.values()) == sorted(name.encode() for name in names)
    assert not any(":" in name or "\\" in name or name.startswith("/") or ".." in name for name in found)
    assert found["C_evil.txt"] in (b"C:evil.txt", b"C_evil.txt")
    assert {"C_evil (2).txt", "C_evil.txt"} <= set(found)


@ON_SQLITE
def test_what_is_unpacked_can_be_read_by_all(client: TestClient, thread_id: str, attach: Attach) -> None:
    file = attach("a.txt")
    (info,) = fetch(client, thread_id).infolist()
    assert (info.external_attr >> 16) & 0o777 == 0o644
    assert info.date_time == (*file.created_at.timetuple()[:5], file.created_at.second // 2 * 2)


@ON_SQLITE
def test_it_is_made_piece_by_piece(
    database: Database, settings: Settings, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "CHUNK", 1000)
    attach("a.png", bytes(50_000), "image/png")
    attach("b.png", bytes(50_000), "image/png")
    files = database.read(lambda db: artifacts.newest_of_thread(db, attach("c.txt").thread_id))
    pieces = list(archive(FolderStorage(settings.data_dir / "blobs"), files))
    assert max(map(len, pieces)) < 2000
    assert zipfile.ZipFile(io.BytesIO(b"".join(pieces))).namelist() == ["c.txt", "b.png", "a.png"]


@ON_SQLITE
def test_bytes_that_are_missing_break_it_off(
    launch: Launch, database: Database, settings: Settings, thread_id: str, attach: Attach
) -> None:
    """Half an archive must not look like a whole one."""
    first = attach("a.txt", b"x" * 300_000)
    attach("b.txt", b"y" * 300_000)
    folder = settings.data_dir / "blobs"
    (folder / first.sha256[:2] / first.sha256).unlink()
    process, url = serve_web(launch, settings)
    with pytest.raises(Exception, match=r"IncompleteRead|incomplete"):
        urllib.request.urlopen(f"{url}{API}/threads/{thread_id}/artifacts.zip", timeout=20).read()
    assert psutil.Process(process.pid).is_running()


def test_a_thread_that_is_not_there_is_not_found(client: TestClient) -> None:
    missing = client.get(f"{API}/threads/thr_{'0' * 26}/artifacts.zip")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
