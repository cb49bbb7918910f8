import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from longwick.database import Database
from longwick.errors import StorageFull
from longwick.events import Event, EventType
from longwick.models import Blob
from longwick.patience import Alive
from longwick.storage import Batch, FolderStorage, Incoming, Stored
from longwick.unlisted import Listed
from longwick.values import INLINE_CHARACTERS, inline_or_refer


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "blobs")


def completed(text: str | None) -> Event:
    return Event(EventType.MESSAGE_COMPLETED, {"message_id": "b1", "text": text, "partial": False})


def used(**value: Any) -> Event:
    return Event(EventType.TOOL_COMPLETED, {"tool_call_id": "t1", "is_error": False, **value})


def content(storage: FolderStorage, event: Event) -> bytes:
    with storage.open(event.data["value"]["sha256"]) as file:
        return file.read()


@pytest.mark.parametrize(
    "event",
    [
        completed("x" * INLINE_CHARACTERS),
        completed(""),
        completed(None),
        used(output=None),
        used(output={"rows": [1, 2, 3]}),
        Event(EventType.MESSAGE_DELTA, {"message_id": "b1", "text": "x" * (INLINE_CHARACTERS + 1)}),
        Event(EventType.REASONING_DELTA, {"reasoning_id": "r1", "text": "x" * (INLINE_CHARACTERS + 1)}),
        Event(EventType.MESSAGE_STARTED, {"message_id": "b1"}),
        Event(EventType.RUN_QUEUED, {"agent": "demo", "kind": "chat"}),
    ],
    ids=lambda event: f"{event.type} {str(event.data)[:40]}",
)
def test_what_is_not_large_stays_in_the_event(event: Event, database: Database, storage: FolderStorage) -> None:
    assert inline_or_refer(database, storage, event) is event
    assert not storage.folder.exists()


def test_large_text_goes_to_storage_and_the_event_says_where_it_is(database: Database, storage: FolderStorage) -> None:
    text = "é" * (INLINE_CHARACTERS + 1)
    event = completed(text)
    kept = inline_or_refer(database, storage, event)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    assert (kept.type, kept.at) == (event.type, event.at)
    assert kept.data == {
        "message_id": "b1",
        "text": None,
        "partial": False,
        "value": {"field": "text", "sha256": sha256, "size": 2 * len(text), "media_type": "text/plain; charset=utf-8"},
    }
    assert event.data["text"] == text, "what was shown is not changed"
    assert content(storage, kept) == text.encode()
    blob = database.read(lambda db: db.get(Blob, sha256))
    assert blob is not None
    assert blob.size == 2 * len(text)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (EventType.REASONING_COMPLETED, "text"),
        (EventType.TOOL_STARTED, "input"),
        (EventType.TOOL_COMPLETED, "output"),
    ],
)
def test_every_large_value_does(kind: EventType, field: str, database: Database, storage: FolderStorage) -> None:
    value = {"rows": ["x" * 1000] * 300}
    kept = inline_or_refer(database, storage, Event(kind, {"id": "1", field: value}))
    assert kept.data[field] is None
    assert kept.data["value"]["field"] == field
    assert kept.data["value"]["media_type"] == "application/json"
    assert json.loads(content(storage, kept)) == value


def test_the_same_value_is_kept_once(database: Database, storage: FolderStorage) -> None:
    event = completed("x" * 300_000)
    first, second = (inline_or_refer(database, storage, event) for _ in range(2))
    assert first.data == second.data
    assert len([path for path in storage.folder.rglob("*") if path.is_file()]) == 1


def test_an_event_with_a_reference_is_small(database: Database, storage: FolderStorage) -> None:
    kept = inline_or_refer(database, storage, used(output="x" * 10_000_000))
    assert len(kept.encoded_tail()) < 1000


class Full:
    def incoming(self, *, limit: int) -> AbstractContextManager[Incoming]:
        raise StorageFull("no space is left for files")

    def batch(self, alive: Callable[[], None]) -> AbstractContextManager[Batch]:
        raise StorageFull("no space is left for files")

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        raise StorageFull("no space is left for files")

    def open(self, sha256: str) -> BinaryIO:
        raise AssertionError

    def collect(self, listed: Listed) -> int:
        raise AssertionError


def test_no_space_is_an_error_and_leaves_nothing(database: Database) -> None:
    with pytest.raises(StorageFull):
        inline_or_refer(database, Full(), completed("x" * 300_000))
    assert database.read(lambda db: db.query(Blob).count()) == 0
