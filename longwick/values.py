"""Values that are too large for the log: the event keeps a reference, the bytes go to storage."""

import json

from longwick.artifacts import keep_blob
from longwick.database import Database
from longwick.events import Event
from longwick.patience import Alive
from longwick.storage import Storage

INLINE_CHARACTERS = 256 * 1024
LARGEST_BYTES = 256 * 2**20
_FIELDS = ("text", "output", "input")


def inline_or_refer(database: Database, storage: Storage, event: Event, alive: Alive | None = None) -> Event:
    """`event`, or with its large value put into storage: the field is null then, and `value` tells where it is.

    Raises:
        StorageFull: there is no space.
        StorageUnavailable: the object store does not answer.
    """
    if event.type.endswith(".delta"):
        return event
    name = next((name for name in _FIELDS if event.data.get(name) is not None), None)
    if name is None:
        return event
    value = event.data[name]
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= INLINE_CHARACTERS:
        return event
    stored = storage.put([text.encode()], limit=LARGEST_BYTES, alive=alive)
    database.write(lambda db: keep_blob(db, stored))
    media_type = "text/plain; charset=utf-8" if isinstance(value, str) else "application/json"
    reference = {"field": name, "sha256": stored.sha256, "size": stored.size, "media_type": media_type}
    return Event(event.type, {**event.data, name: None, "value": reference}, event.at)
