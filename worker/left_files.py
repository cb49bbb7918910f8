"""Files that a CLI has left in `./artifacts/`: saved when its turn ends, as if by save_artifact."""

import os
from typing import BinaryIO

from longwick import artifacts, room, traces
from longwick.artifacts import Quota, Save
from longwick.errors import BadName, Fenced, LongwickError
from longwick.events import notice
from longwick.storage import CHUNK
from longwick.text import clean
from worker.conversation import Conversation
from worker.parts import Parts
from worker.workspace import Workspace


@traces.traced("collect")
def save_left_files(parts: Parts, conversation: Conversation, session_id: str, folder: Workspace) -> None:
    """Save them all; a notice tells of each that could not be."""
    for name, file in folder.left_files():
        conversation.still_ours()
        try:
            if file is None:
                raise BadName("it is no file of its own")
            _save(parts, conversation, session_id, name, file)
        except Fenced:
            return
        except LongwickError as error:
            words = f"The file {clean(name)!r} was not saved: {error.detail}"
            conversation.record([notice("warning", error.code, words)])


def _save(parts: Parts, conversation: Conversation, session_id: str, name: str, file: BinaryIO) -> None:
    settings = parts.settings
    artifacts.check_name(name)
    media_type = artifacts.check_media_type(None, name, text=False)
    quota = Quota(settings.artifacts_per_run, settings.artifact_bytes_per_run)
    size = os.fstat(file.fileno()).st_size
    parts.database.read(lambda db: room.check(db, conversation.run.thread_id, size, parts.limits))
    chunks = iter(lambda: file.read(CHUNK), b"")
    stored = parts.storage.put(chunks, limit=settings.artifact_bytes, alive=conversation.still_ours)
    parts.database.write(lambda db: artifacts.save(db, session_id, Save(name, media_type, stored), quota))
