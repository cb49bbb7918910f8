"""What an attempt finds in its folder, and what of that goes on with its thread, to whatever host runs it next."""

import errno
import logging
from collections.abc import Callable, Iterable, Sequence

from longwick import artifacts, room, workspaces
from longwick.database import Db
from longwick.errors import Fenced, LongwickError, NotFound
from longwick.events import notice
from longwick.kinds import ArtifactType
from longwick.models import Artifact, Run, WorkspaceState
from longwick.text import clean
from longwick.workspaces import Entry, Kind, Manifest
from worker.conversation import Conversation
from worker.parts import Parts
from worker.tree import Limits, Tree
from worker.workspace import LEFT_FOLDER, Workspace

log = logging.getLogger(__name__)

MOST_NAMED = 20
ATTACHED_MODE = 0o600
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ThreadFolder:
    """The thread's side of an attempt's folder; `follows` says whether it goes on with the thread at all."""

    def __init__(self, parts: Parts, run: Run, folder: Workspace, conversation: Conversation, *, follows: bool) -> None:
        self._parts = parts
        self._run = run
        self._conversation = conversation
        self._follows = follows
        self._tree = Tree(folder.descriptor, parts.storage, conversation.still_ours)
        self._limits = Limits(parts.settings.workspace_bytes, parts.settings.workspace_files)
        self._attached: dict[str, int] = {}

    def restore(self) -> None:
        """Put in all that was left in it, and then what its user has attached to the thread since.

        Raises:
            Unavailable: the record does not answer; nothing was put in.
            NotFound, OSError: it cannot be made what it was.
        """
        state, uploads = self._parts.database.read(self._look)
        left = workspaces.read_manifest(self._parts.storage, state) if state else Manifest()
        for entry in left.entries:
            self._tree.write(entry)
        self._attached = dict(left.attached)
        self._put_in([file for file in uploads if file.version > left.attached.get(file.name, 0)], left)
        for entry in reversed(left.entries):
            if entry.kind is Kind.FOLDER:
                self._tree.protect(entry)
        if self._follows:
            self._tree.settle()

    def _look(self, db: Db) -> tuple[WorkspaceState | None, Sequence[Artifact]]:
        state = workspaces.newest(db, self._run.thread_id) if self._follows else None
        return state, artifacts.newest_of_thread(db, self._run.thread_id, ArtifactType.UPLOAD)

    def _put_in(self, uploads: Iterable[Artifact], left: Manifest) -> None:
        size, number = left.size, len(left.entries)
        refused: list[tuple[str, str]] = []
        for file in uploads:
            if size + file.size > self._limits.size or number >= self._limits.entries:
                refused.append((file.name, "the folder would be over its limit"))
                continue
            try:
                self._put_one_in(file)
            except (OSError, NotFound) as error:
                if isinstance(error, OSError) and error.errno in _NO_SPACE:
                    raise
                refused.append((file.name, (error.strerror if isinstance(error, OSError) else None) or str(error)))
            else:
                size, number = size + file.size, number + 1
                self._attached[file.name] = file.version
        if refused:
            self._tell("files_not_placed", f"Attached files that were not put into the folder: {_named(refused)}.")

    def _put_one_in(self, file: Artifact) -> None:
        if file.name.split("/")[0] == LEFT_FOLDER:
            raise NotFound(f"what is in ./{LEFT_FOLDER}/ is for the agent to leave there")
        self._tree.make_way(file.name)
        self._tree.write(Entry(file.name, Kind.FILE, ATTACHED_MODE, size=file.size, sha256=file.sha256))

    def store(self, until_done: Callable[[Callable[[], object]], None]) -> None:
        """Make it the state that the thread's next run finds; where that cannot be, say why: the last one stays.

        Raises:
            Fenced: the attempt is over.
        """
        if not self._follows:
            return
        try:
            manifest = Manifest(self._tree.read(self._limits, without=LEFT_FOLDER), self._attached)
            until_done(lambda: self._parts.database.read(lambda db: self._check_room(db, manifest.size)))
            encoded = manifest.encode()
            alive = self._conversation.still_ours
            new = [*self._tree.stored, self._parts.storage.put([encoded], limit=len(encoded), alive=alive)]
        except Fenced:
            raise
        except (LongwickError, OSError) as error:
            log.warning("the thread's folder is not kept: %s", error)
            why = clean((error.detail if isinstance(error, LongwickError) else error.strerror) or str(error))
            self._tell("folder_not_kept", f"The folder was not kept, and stays as the run before left it: {why}.")
            return
        if self._tree.left_out:
            self._tell("files_left_out", f"Not kept with the thread's folder: {_named(self._tree.left_out)}.")
        until_done(lambda: self._parts.database.write(lambda db: workspaces.keep(db, self._run, manifest, new)))

    def _check_room(self, db: Db, size: int) -> None:
        room.check_folder(db, self._run.thread_id, size, self._parts.limits)

    def _tell(self, code: str, words: str) -> None:
        self._conversation.record([notice("warning", code, words)])


def _named(paths: Sequence[tuple[str, str]]) -> str:
    """Paths and reasons in words; of very many, the first."""
    words = [f"{clean(path)!r} ({why})" for path, why in paths[:MOST_NAMED]]
    return ", ".join(words) + (f", and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")
