"""The folders that follow their threads, as attempts left them; what was in them is in storage."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Self

from sqlalchemy import select

from longwick.artifacts import keep_blob
from longwick.database import Db, utc_now
from longwick.errors import Fenced, NotFound
from longwick.ids import new_id
from longwick.kinds import RunStatus
from longwick.models import Run, WorkspaceState
from longwick.storage import Storage, Stored


class Kind(StrEnum):
    """What can be in a folder that is kept."""

    FOLDER = "folder"
    FILE = "file"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is found under a path; a name that is no text has its bytes as lone surrogates, as Python has them."""

    path: str
    kind: Kind
    mode: int = 0
    modified_ns: int = 0
    size: int = 0
    sha256: str = ""
    target: str = ""
    """Of a link."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is in a folder, and what of the thread's attached files was put there: name -> version."""

    entries: Sequence[Entry] = ()
    """Each folder before what is in it."""
    attached: Mapping[str, int] = field(default_factory=dict)

    @property
    def files(self) -> Mapping[str, Entry]:
        """The entries with bytes of their own, by path."""
        return {entry.path: entry for entry in self.entries if entry.kind is Kind.FILE}

    @property
    def size(self) -> int:
        """In bytes, all files together."""
        return sum(entry.size for entry in self.entries)

    def encode(self) -> bytes:
        """The same bytes for the same folder."""
        entries = [{name: value for name, value in asdict(entry).items() if value} for entry in self.entries]
        return json.dumps({"entries": entries, "attached": self.attached}, sort_keys=True).encode()

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """What was encoded.

        Raises:
            ValueError: it is no manifest.
        """
        try:
            said = json.loads(encoded)
            entries = [Entry(**{**entry, "kind": Kind(entry["kind"])}) for entry in said["entries"]]
            return cls(entries, said["attached"])
        except (KeyError, TypeError) as error:
            raise ValueError("it is no manifest") from error


def newest(db: Db, thread_id: str) -> WorkspaceState | None:
    """How the thread's folder was left, if it ever was."""
    states = select(WorkspaceState).where(WorkspaceState.thread_id == thread_id)
    return db.scalar(states.order_by(WorkspaceState.version.desc()).limit(1))


def read_manifest(storage: Storage, state: WorkspaceState) -> Manifest:
    """What was in the folder.

    Raises:
        NotFound: storage does not have it, or has something else.
    """
    with storage.open(state.manifest_sha256) as file:
        try:
            return Manifest.decode(file.read())
        except ValueError as error:
            raise NotFound("what storage has is no list of files") from error


def keep(db: Db, run: Run, manifest: Manifest, new: Sequence[Stored]) -> WorkspaceState:
    """Make this the state of the thread's folder; `new` in storage are some of its files and, last, the manifest.

    Raises:
        Fenced: the run's attempt is over.
    """
    keep_blob(db, *new)
    # Late, as it locks the run's row; and held to the end, so that the attempt cannot be over before COMMIT.
    ours = select(Run.id).where(Run.id == run.id, Run.attempt == run.attempt, Run.status == RunStatus.RUNNING)
    if db.scalar(ours.with_for_update(key_share=True)) is None:
        raise Fenced(f"attempt {run.attempt} of {run.id} is over")
    before = newest(db, run.thread_id)
    if before is not None and before.manifest_sha256 == new[-1].sha256:
        return before
    state = WorkspaceState(
        id=new_id("wsp"),
        thread_id=run.thread_id,
        version=before.version + 1 if before else 1,
        run_id=run.id,
        attempt=run.attempt,
        manifest_sha256=new[-1].sha256,
        files=len(manifest.files),
        size=manifest.size,
        created_at=utc_now(),
    )
    db.add(state)
    db.flush()
    return state
