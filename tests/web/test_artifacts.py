"""Files that agents saved: their bytes come whole, in part or not at all, and never as a page of our origin."""

import hashlib
from collections.abc import Callable

import httpx2
import pytest
from scene import OWNER, new_thread, running_run
from starlette.testclient import TestClient

from longwick import artifacts, sessions
from longwick.database import Database
from longwick.models import Artifact, Run
from longwick.settings import Settings
from longwick.storage import FolderStorage

API = "/api/v1"
TEXT = b"0123456789"

Save = Callable[..., Artifact]
# What is the same whatever the record lives in.
ON_SQLITE = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)


@pytest.fixture
def save(database: Database, settings: Settings) -> Save:
    """Saves a file as the MCP server does."""
    storage = FolderStorage(settings.data_dir / "blobs")

    def saved(
        name: str = "notes.txt",
        content: bytes = TEXT,
        media_type: str = "text/plain",
        run: Run | None = None,
        owner: str = OWNER,
    ) -> Artifact:
        run = run or running_run(database, new_thread(database, owner))
        session = database.write(lambda db: sessions.open_session(db, run, 60))
        stored = storage.put([content], limit=2**20)
        return database.write(
            lambda db: artifacts.save(
                db, session.id, artifacts.Save(name, media_type, stored), artifacts.Quota(99, 2**30)
            )
        )

    return saved


def content(artifact: Artifact) -> str:
    return f"{API}/artifacts/{artifact.id}/content"


def test_a_file_is_described_and_listed_newest_first(client: TestClient, database: Database, save: Save) -> None:
    run = running_run(database)
    first, second = save(run=run), save(content=b"more", run=run)
    told = client.get(f"{API}/artifacts/{second.id}").json()
    assert told == {
        "id": second.id,
        "thread_id": run.thread_id,
        "run_id": run.id,
        "type": "generated_file",
        "name": "notes.txt",
        "version": 2,
        "media_type": "text/plain",
        "size": 4,
        "sha256": hashlib.sha256(b"more").hexdigest(),
        "created_at": told["created_at"],
    }
    for owner in (f"/runs/{run.id}", f"/threads/{run.thread_id}"):
        listed = client.get(f"{API}{owner}/artifacts").json()
        assert [artifact["id"] for artifact in listed["data"]] == [second.id, first.id]
        page = client.get(f"{API}{owner}/artifacts", params={"limit": 1, "after": second.id}).json()
        assert ([artifact["id"] for artifact in page["data"]], page["has_more"]) == ([first.id], False)


def test_a15_the_bytes_come_with_what_keeps_them_from_doing_harm(client: TestClient, save: Save) -> None:
    answer = client.get(content(save()))
    assert (answer.status_code, answer.content) == (200, TEXT)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-length"] == "10"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["content-disposition"] == "inline; filename=\"notes.txt\"; filename*=UTF-8''notes.txt"


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        ("text/plain; charset=latin-1", "inline"),
        ("image/png", "inline"),
        ("application/pdf", "inline"),
        ("text/html", "attachment"),
        ("image/svg+xml", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("text/xml", "attachment"),
        ("text/javascript", "attachment"),
        ("application/octet-stream", "attachment"),
    ],
)
@ON_SQLITE
def test_a15_a_browser_shows_safe_types_only(client: TestClient, save: Save, media_type: str, kind: str) -> None:
    artifact = save(media_type=media_type)
    answer = client.get(content(artifact))
    assert answer.headers["content-type"].startswith(media_type)
    assert answer.headers["content-disposition"].startswith(f"{kind};")
    answer = client.get(content(artifact), params={"download": 1})
    assert answer.headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    ("name", "plain", "encoded"),
    [
        ("charts/sales 2026.csv", "sales 2026.csv", "sales%202026.csv"),
        ("Übersicht €.pdf", "_bersicht _.pdf", "%C3%9Cbersicht%20%E2%82%AC.pdf"),
        ('a"b;c%d.txt', "a_b_c_d.txt", "a%22b%3Bc%25d.txt"),
    ],
)
@ON_SQLITE
def test_a_file_is_saved_under_its_own_name(
    client: TestClient, save: Save, name: str, plain: str, encoded: str
) -> None:
    answer = client.get(content(save(name)))
    expected = f"inline; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    assert answer.headers["content-disposition"] == expected


def test_who_has_the_bytes_is_not_sent_them_again(client: TestClient, save: Save) -> None:
    artifact = save()
    etag = client.get(content(artifact)).headers["etag"]
    assert etag == f'"{artifact.sha256}"'
    for has in (etag, f'"other", W/{etag}', "*"):
        answer = client.get(content(artifact), headers={"if-none-match": has})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert client.get(content(artifact), headers={"if-none-match": '"other"'}).content == TEXT


@pytest.mark.parametrize(
    ("wanted", "part", "of"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", TEXT, "bytes 0-9/10"),
    ],
)
@ON_SQLITE
def test_a_range_of_the_bytes(client: TestClient, save: Save, wanted: str, part: bytes, of: str) -> None:
    answer = client.get(content(save()), headers={"range": wanted})
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, part, of)
    assert answer.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=99-100", "bytes=-0", "bytes=5-3"])
@ON_SQLITE
def test_a_range_past_the_end(client: TestClient, save: Save, wanted: str) -> None:
    answer = client.get(content(save()), headers={"range": wanted})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize("wanted", ["bytes=0-1,4-5", "lines=0-3", "bytes=x-y", "bytes=-"])
@ON_SQLITE
def test_a_range_of_another_kind_is_the_whole(client: TestClient, save: Save, wanted: str) -> None:
    answer = client.get(content(save()), headers={"range": wanted})
    assert (answer.status_code, answer.content) == (200, TEXT)


def test_a_range_of_another_version_is_the_whole(client: TestClient, save: Save) -> None:
    artifact = save()
    for version, status in ((f'"{artifact.sha256}"', 206), ('"other"', 200)):
        answer = client.get(content(artifact), headers={"range": "bytes=0-3", "if-range": version})
        assert answer.status_code == status


def test_a_large_file_comes_whole(client: TestClient, save: Save) -> None:
    large = bytes(range(256)) * 3_000
    artifact = save("large.bin", large, "application/octet-stream")
    assert client.get(content(artifact)).content == large
    part = client.get(content(artifact), headers={"range": "bytes=300000-700000"})
    assert part.content == large[300_000:700_001]


def test_an_empty_file_is_one(client: TestClient, save: Save) -> None:
    answer: httpx2.Response = client.get(content(save(content=b"")))
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


def test_the_head_of_a_file(client: TestClient, save: Save) -> None:
    answer = client.head(content(save()))
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "10")


def test_a_file_whose_bytes_are_gone_is_not_found(client: TestClient, save: Save, settings: Settings) -> None:
    artifact = save()
    (settings.data_dir / "blobs" / artifact.sha256[:2] / artifact.sha256).unlink()
    answer = client.get(content(artifact))
    assert answer.status_code == 404
    assert str(settings.data_dir) not in answer.text


def test_the_same_bytes_of_another_owner_are_not_found(client: TestClient, save: Save) -> None:
    ours, theirs = save(), save(owner="other")
    assert ours.sha256 == theirs.sha256
    assert client.get(content(ours)).status_code == 200
    for path in (content(theirs), f"{API}/artifacts/{theirs.id}"):
        assert client.get(path).status_code == 404


@ON_SQLITE
@pytest.mark.parametrize(
    ("media_type", "sandbox"),
    [("text/html", "sandbox allow-scripts"), ("image/svg+xml", "sandbox"), ("application/pdf", None)],
)
def test_what_may_act_is_shown_in_a_frame_of_the_page_alone(
    client: TestClient, save: Save, media_type: str, sandbox: str | None
) -> None:
    path = f"{API}/artifacts/{save(media_type=media_type).id}/preview"
    framed = client.get(path, headers={"sec-fetch-dest": "iframe"})
    rules = framed.headers["content-security-policy"].split("; ")
    assert framed.content == TEXT
    assert framed.headers["content-disposition"].startswith("inline")
    assert [rule for rule in rules if rule.startswith("sandbox")] == ([sandbox] if sandbox else [])
    assert {"default-src 'none'", "frame-ancestors 'self'", "form-action 'none'"} <= set(rules)
    for elsewhere in ({}, {"sec-fetch-dest": "document"}):
        alone = client.get(path, headers=elsewhere)
        assert alone.headers["content-disposition"].startswith("attachment")
        assert alone.headers["content-security-policy"] == "sandbox; default-src 'none'"


@ON_SQLITE
def test_what_is_not_for_a_frame_is_not_shown_in_one(client: TestClient, save: Save) -> None:
    path = f"{API}/artifacts/{save(media_type='application/x-sh').id}/preview"
    assert (
        client.get(path, headers={"sec-fetch-dest": "iframe"}).headers["content-disposition"].startswith("attachment")
    )
