"""Files that users attach: taken while they come, whole or not at all, one version after the other."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from documented import Serve
from scene import OWNER, new_thread, running_run
from starlette.testclient import TestClient

from longwick import artifacts, sessions
from longwick.artifacts import Quota, Save
from longwick.database import Database
from longwick.settings import Settings
from longwick.storage import FolderStorage

API = "/api/v1"
ON_SQLITE = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
LIMIT = 200_000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As always, but with room for small files only."""
    return settings.model_copy(update={"artifact_bytes": LIMIT})


@pytest.fixture
def thread_id(database: Database) -> str:
    """A thread to attach to."""
    return new_thread(database).id


def attach(
    client: TestClient, thread_id: str, content: bytes = b"hello", name: str = "notes.txt", media_type: str = ""
) -> httpx2.Response:
    return client.post(f"{API}/threads/{thread_id}/files", files={"file": (name, content, media_type or None)})


def send(client: TestClient, thread_id: str, body: bytes, boundary: str = "b") -> httpx2.Response:
    """A body written by hand."""
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return client.post(f"{API}/threads/{thread_id}/files", content=body, headers=headers)


def part(content: bytes = b"hello", disposition: str = 'name="file"; filename="a.txt"') -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


def stored(settings: Settings) -> list[Path]:
    """The files that storage has, also those on their way."""
    return [path for path in (settings.data_dir / "blobs").rglob("*") if path.is_file()]


def test_a_file_is_attached_and_can_be_fetched(client: TestClient, thread_id: str) -> None:
    answer = attach(client, thread_id, b"# Tides\n", "docs/tides.md", "text/markdown")
    assert answer.status_code == 201
    file = answer.json()
    assert file == {
        "id": file["id"],
        "thread_id": thread_id,
        "run_id": None,
        "type": "upload",
        "name": "docs/tides.md",
        "version": 1,
        "media_type": "text/markdown",
        "size": 8,
        "sha256": hashlib.sha256(b"# Tides\n").hexdigest(),
        "created_at": file["created_at"],
    }
    assert client.get(answer.headers["location"]).json() == file
    assert client.get(f"{API}/threads/{thread_id}/artifacts").json()["data"] == [file]
    assert client.get(f"{API}/artifacts/{file['id']}/content").content == b"# Tides\n"
    thread = client.get(f"{API}/threads/{thread_id}").json()
    assert thread["updated_at"] >= file["created_at"]


def test_a_file_of_the_same_name_is_its_next_version_whoever_it_is_from(
    client: TestClient, database: Database, settings: Settings
) -> None:
    run = running_run(database)
    session = database.write(lambda db: sessions.open_session(db, run, 60))
    storage = FolderStorage(settings.data_dir / "blobs")

    def save(content: bytes) -> int:
        wanted = Save("notes.txt", "text/plain", storage.put([content], limit=LIMIT))
        return database.write(lambda db: artifacts.save(db, session.id, wanted, Quota(99, LIMIT))).version

    assert attach(client, run.thread_id, b"one").json()["version"] == 1
    assert save(b"two") == 2
    assert attach(client, run.thread_id, b"three").json()["version"] == 3
    assert attach(client, run.thread_id, b"three").json()["version"] == 4
    assert attach(client, run.thread_id, b"x", "other.txt").json()["version"] == 1
    assert attach(client, new_thread(database).id, b"x").json()["version"] == 1
    listed = client.get(f"{API}/threads/{run.thread_id}/artifacts").json()["data"]
    assert [file["type"] for file in listed] == ["upload", "upload", "upload", "generated_file", "upload"]
    assert client.get(f"{API}/runs/{run.id}/artifacts").json()["data"][0]["version"] == 2


def test_files_attached_at_once_each_get_their_own_version(client: TestClient, thread_id: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: attach(client, thread_id, f"draft {n % 3}".encode()), range(8)))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 9))


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
def test_a_file_up_to_the_limit_is_taken(client: TestClient, thread_id: str, size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    file = attach(client, thread_id, content).json()
    assert (file["size"], file["sha256"]) == (size, hashlib.sha256(content).hexdigest())
    assert client.get(f"{API}/artifacts/{file['id']}/content").content == content


def test_an_owner_who_keeps_too_much_cannot_attach_more(serve: Serve, settings: Settings, database: Database) -> None:
    client = serve(settings.model_copy(update={"artifact_bytes_per_owner": 10}))
    thread_id = new_thread(database).id
    assert attach(client, thread_id, b"12345").status_code == 201
    refused = attach(client, thread_id, b"123456")
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert attach(client, thread_id, b"12345").status_code == 201


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 60_000, 3 * LIMIT])
@pytest.mark.parametrize("told", [True, False])
def test_a_file_over_the_limit_is_refused_and_nothing_of_it_is_kept(
    client: TestClient, settings: Settings, thread_id: str, size: int, told: bool
) -> None:
    body = part(bytes(size)) + b"--b--\r\n"

    def chunks() -> Iterator[bytes]:
        yield from (body[at : at + 10_000] for at in range(0, len(body), 10_000))

    headers = {"content-type": "multipart/form-data; boundary=b"}
    path = f"{API}/threads/{thread_id}/files"
    refused = client.post(path, content=body if told else chunks(), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert client.get(f"{API}/threads/{thread_id}/artifacts").json()["data"] == []
    assert stored(settings) == []


def test_only_this_route_takes_so_much(client: TestClient, settings: Settings, thread_id: str) -> None:
    small = settings.body_bytes
    for path in (f"threads/{thread_id}/runs", f"threads/{thread_id}", f"threads/{thread_id}/files/x", "runs"):
        method = "PATCH" if path.endswith(thread_id) else "POST"
        refused = client.request(method, f"{API}/{path}", content=b"x" * (small + 1))
        assert refused.status_code == 413, path


@ON_SQLITE
@pytest.mark.parametrize(
    "name", ["../a.txt", "/etc/passwd", "a/../b", "a\\b", ".", "..", "a\u202etxt.exe", " a", "x" * 256, "a\x1bb"]
)
def test_a11_a_name_that_no_file_should_have_is_refused(
    client: TestClient, settings: Settings, thread_id: str, name: str
) -> None:
    refused = send(client, thread_id, part(disposition=f'name="file"; filename="{name}"') + b"--b--\r\n")
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_name"), refused.text
    assert stored(settings) == []


@ON_SQLITE
@pytest.mark.parametrize("name", ["Überblick 2026.pdf", "日本語.txt", "a;b.txt", "it's (1).md", "no-ending", "x" * 255])
def test_names_of_all_kinds_are_kept_as_they_are(client: TestClient, thread_id: str, name: str) -> None:
    body = part(disposition=f'name="file"; filename="{name}"') + b"--b--\r\n"
    assert send(client, thread_id, body).json()["name"] == name


@ON_SQLITE
@pytest.mark.parametrize(
    ("given", "name", "kept"),
    [
        ("text/markdown", "a.txt", "text/markdown"),
        ("text/plain; charset=utf-8", "a.txt", "text/plain; charset=utf-8"),
        ("application/octet-stream", "chart.png", "image/png"),
        ("", "chart.png", "image/png"),
        ("", "data.unknown", "application/octet-stream"),
        ("rubbish", "a.csv", "text/csv"),
        ("text/html\u00a0", "a.csv", "text/csv"),
    ],
)
def test_the_media_type_is_what_the_sender_says_or_the_name_suggests(
    client: TestClient, thread_id: str, given: str, name: str, kept: str
) -> None:
    told = f"\r\nContent-Type: {given}" if given else ""
    body = part(disposition=f'name="file"; filename="{name}"{told}') + b"--b--\r\n"
    assert send(client, thread_id, body).json()["media_type"] == kept


@ON_SQLITE
@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"--b--\r\n", 422, "file"),
        (part() + part() + b"--b--\r\n", 422, "file"),
        (part() + part(disposition='name="note"') + b"--b--\r\n", 422, "file"),
        (part(disposition='name="other"; filename="a.txt"') + b"--b--\r\n", 422, "other"),
        (part(disposition='name="file"') + b"--b--\r\n", 422, "file"),
        (part(disposition='filename="a.txt"') + b"--b--\r\n", 422, "file"),
        (part(), 400, None),
        (part()[:-2], 400, None),
        (part()[:40], 400, None),
        (b"", 400, None),
        (b"hello", 400, None),
        (b"--other\r\n\r\n", 400, None),
        (b"--b\r\n" + b"X-Many: 1\r\n" * 50 + b"\r\n", 400, None),
        (b"--b\r\nX-Long: " + b"x" * 10_000, 400, None),
    ],
)
def test_a_body_that_is_not_one_file_is_refused(
    client: TestClient, settings: Settings, thread_id: str, body: bytes, status: int, param: str | None
) -> None:
    refused = send(client, thread_id, body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), refused.text
    assert client.get(f"{API}/threads/{thread_id}/artifacts").json()["data"] == []
    assert stored(settings) == []


@ON_SQLITE
@pytest.mark.parametrize(
    "media_type",
    ["application/json", "multipart/form-data", "multipart/mixed; boundary=b", "text/plain; boundary=b", ""],
)
def test_a_body_of_another_kind_is_refused(client: TestClient, thread_id: str, media_type: str) -> None:
    headers = {"content-type": media_type} if media_type else {}
    refused = client.post(f"{API}/threads/{thread_id}/files", content=part() + b"--b--\r\n", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")


@ON_SQLITE
def test_a_boundary_that_is_too_long_is_refused(client: TestClient, thread_id: str) -> None:
    assert send(client, thread_id, b"", "b" * 300).status_code == 400


@ON_SQLITE
@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
def test_where_the_body_is_cut_on_its_way_does_not_matter(
    client: TestClient, settings: Settings, thread_id: str, pieces: int
) -> None:
    content = b"\r\n--b\r\n-\r\n--b-\r--b\n" * 40
    body = part(content.replace(b"--b", b"--c")) + b"--b--\r\n"
    step = max(1, len(body) // pieces)

    def chunks() -> Iterator[bytes]:
        yield from (body[at : at + step] for at in range(0, len(body), step))

    headers = {"content-type": "multipart/form-data; boundary=b"}
    file = client.post(f"{API}/threads/{thread_id}/files", content=chunks(), headers=headers).json()
    assert file["sha256"] == hashlib.sha256(content.replace(b"--b", b"--c")).hexdigest()
    assert len(stored(settings)) == 1


def test_a_file_for_a_thread_that_is_not_there_is_not_even_read(client: TestClient, settings: Settings) -> None:
    refused = attach(client, f"thr_{'0' * 26}", bytes(LIMIT))
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert stored(settings) == []


def test_a_full_disk_is_told(
    settings: Settings, serve: Serve, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(settings)
    thread_id = new_thread(database, OWNER).id
    (settings.data_dir / "blobs").mkdir(parents=True)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("longwick.storage.os.fsync", full)
    refused = attach(client, thread_id)
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    monkeypatch.undo()
    assert stored(settings) == []
    assert attach(client, thread_id).status_code == 201
