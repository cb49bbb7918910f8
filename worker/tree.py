"""What a folder holds, written into it from storage or read from it into storage; no link is ever followed."""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Self

from longwick.errors import TooLarge
from longwick.storage import CHUNK, Batch, Storage, Stored
from longwick.workspaces import Entry, Kind
from worker.beneath import link_target, open_beneath, opened_beneath, regular_file

PERMISSIONS = 0o777
MOST_PATH_BYTES = 4000
"""What is longer cannot be opened by its path once that of the folder stands before it."""
CLOCK_REALTIME_COARSE = 5
"""The clock that the kernel dates files by."""
CLOCK_SECONDS = 0.05
_NOT_KEPT = {
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """How a file was when its bytes were known: one with the same mark has the same bytes."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, about: os.stat_result) -> Self:
        return cls(about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a folder is kept."""

    size: int
    """In bytes, all files together."""
    entries: int


@dataclass
class Tree:
    """A folder, by its descriptor, and what is known of the bytes in it.

    `alive` is called again and again while it works, and may raise to have it stopped.
    """

    root: int
    storage: Storage
    alive: Callable[[], None]
    stored: list[Stored] = field(default_factory=list)
    """What was put into storage."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(Path, why) of what was there and could not be read."""
    _known: dict[str, tuple[Mark, str]] = field(default_factory=dict)
    _sizes: dict[int, set[str]] = field(default_factory=dict)
    """Size -> digests of what storage has."""

    def write(self, entry: Entry) -> None:
        """Make what the entry says; the folder that it is in is there, and nothing of its name.

        Raises:
            OSError: it cannot be made.
            NotFound: storage does not have its bytes.
        """
        self.alive()
        if entry.kind is Kind.FILE:
            self._write_file(entry)
            return
        folder, _, name = entry.path.rpartition("/")
        with opened_beneath(self.root, folder or ".", os.O_DIRECTORY) as parent:
            if entry.kind is Kind.FOLDER:
                os.mkdir(name, 0o700, dir_fd=parent)
            else:
                os.symlink(entry.target, name, dir_fd=parent)

    def _write_file(self, entry: Entry) -> None:
        with self.storage.open(entry.sha256) as source:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(open_beneath(self.root, entry.path, flags, 0o600), "wb", buffering=0) as file:
                for chunk in self._chunks(source):
                    # Short only where the disk is full, which the next write tells.
                    while chunk:
                        chunk = chunk[file.write(chunk) :]
                os.fchmod(file.fileno(), entry.mode)
                if entry.modified_ns:
                    os.utime(file.fileno(), ns=(entry.modified_ns, entry.modified_ns))
                self._known[entry.path] = Mark.of(os.fstat(file.fileno())), entry.sha256
            self._sizes.setdefault(entry.size, set()).add(entry.sha256)

    def protect(self, folder: Entry) -> None:
        """Give a folder its permissions, once all that belongs in it is there."""
        with opened_beneath(self.root, folder.path, os.O_DIRECTORY) as descriptor:
            os.fchmod(descriptor, folder.mode)

    def make_way(self, path: str) -> None:
        """Make the folders on the way to a file, and take away what has its name.

        Raises:
            OSError: something else is in the way.
        """
        folder, _, name = path.rpartition("/")
        parts = folder.split("/") if folder else []
        for number, part in enumerate(parts):
            above = "/".join(parts[:number]) or "."
            with opened_beneath(self.root, above, os.O_DIRECTORY) as parent, contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=parent)
        with opened_beneath(self.root, folder or ".", os.O_DIRECTORY) as parent, contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)

    def settle(self) -> None:
        """Let the clock of the file system go on, so that whatever is changed from now on has another time."""
        newest = max((mark.changed_ns for mark, _ in self._known.values()), default=0)
        give_up = time.monotonic() + CLOCK_SECONDS
        while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= newest and time.monotonic() < give_up:
            time.sleep(0.001)

    def read(self, limits: Limits, *, without: str) -> list[Entry]:
        """All that is in the folder but for the folder `without`, each folder before what is in it.

        The bytes are in storage then; those that were there before are neither read nor stored again.

        Raises:
            OSError: the folder itself cannot be read.
            TooLarge: there is more than the limits allow.
            StorageFull: there is no space.
        """
        found: list[tuple[str, os.stat_result | None]] = []
        size = 0
        for path, about in self._walk(without):
            found.append((path, about))
            size += about.st_size if about and stat.S_ISREG(about.st_mode) else 0
            if len(found) > limits.entries:
                raise TooLarge(f"it has more than {limits.entries} files and folders")
            if size > limits.size:
                raise TooLarge(f"it has more than {limits.size} bytes, with {path!r}")
        entries, size = [], 0
        with self.storage.batch(self.alive) as batch:
            for path, about in found:
                self.alive()
                entry = self._entry(path, about, batch, limits.size)
                if entry is not None:
                    entries.append(entry)
                    size += entry.size
                if size > limits.size:
                    raise TooLarge(f"it grew to more than {limits.size} bytes, with {path!r}")
        return entries

    def _walk(self, without: str) -> Iterator[tuple[str, os.stat_result | None]]:
        """Each path, a folder before what is in it, and what is known of it: nothing, where it cannot be read."""
        folders = [""]
        while folders:
            self.alive()
            folder = folders.pop()
            try:
                descriptor = open_beneath(self.root, folder or ".", os.O_DIRECTORY)
            except OSError:
                if not folder:
                    raise
                self.left_out.append((f"{folder}/", "it cannot be read"))
                continue
            try:
                for name in sorted(os.listdir(descriptor)):
                    path = f"{folder}/{name}" if folder else name
                    if len(os.fsencode(path)) > MOST_PATH_BYTES:
                        yield path, None
                        continue
                    try:
                        about = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    except OSError:
                        yield path, None
                        continue
                    if stat.S_ISDIR(about.st_mode):
                        if path == without:
                            continue
                        folders.append(path)
                    yield path, about
            finally:
                os.close(descriptor)

    def _entry(self, path: str, about: os.stat_result | None, batch: Batch, most: int) -> Entry | None:
        """What is kept of a path; None, and a word of it, where that is nothing."""
        kind = stat.S_IFMT(about.st_mode) if about else 0
        if about and kind == stat.S_IFDIR:
            return Entry(path, Kind.FOLDER, mode=about.st_mode & PERMISSIONS)
        why = _NOT_KEPT.get(kind, "it is gone, lies too deep, or cannot be read")
        if kind == stat.S_IFREG and (entry := self._file(path, batch, most)):
            return entry
        if kind == stat.S_IFLNK:
            try:
                target = link_target(self.root, path)
                if target is not None:
                    return Entry(path, Kind.LINK, target=target)
                why = "it is a link that leads out of the folder"
            except OSError:
                pass
        self.left_out.append((path, why))
        return None

    def _file(self, path: str, batch: Batch, most: int) -> Entry | None:
        with regular_file(self.root, path) or contextlib.nullcontext() as file:
            if file is None:
                return None
            about = os.fstat(file.fileno())
            mark, sha256 = self._known.get(path, (None, ""))
            size = about.st_size
            if mark != Mark.of(about):
                sha256, size = self._keep(file, size, batch, most)
        return Entry(path, Kind.FILE, about.st_mode & PERMISSIONS, about.st_mtime_ns, size, sha256)

    def _keep(self, file: BinaryIO, size: int, batch: Batch, most: int) -> tuple[str, int]:
        """Digest and size of a file, which storage has, or will have with the batch."""
        if size in self._sizes:
            digest = hashlib.sha256()
            for chunk in self._chunks(file):
                digest.update(chunk)
            if digest.hexdigest() in self._sizes[size]:
                return digest.hexdigest(), size
            file.seek(0)
        stored = batch.put(self._chunks(file), limit=most)
        self._sizes.setdefault(stored.size, set()).add(stored.sha256)
        self.stored.append(stored)
        return stored.sha256, stored.size

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        while chunk := file.read(CHUNK):
            self.alive()
            yield chunk
