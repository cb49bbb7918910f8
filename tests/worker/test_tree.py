"""A folder that is read into storage and written from it: the same again, and nothing that is not in it."""

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from depths import FRAMES_DO_NOT_SUFFICE, NO_PATH_SUFFICES, deepen

from longwick.errors import NotFound, TooLarge
from longwick.patience import Alive
from longwick.storage import Batch, FolderStorage, Stored
from longwick.workspaces import Entry, Kind, Manifest
from worker.tree import Limits, Tree
from worker.workspace import workspace

LARGE = Limits(2**20, 1000)


class Counting(FolderStorage):
    """A real folder of bytes that tells what is put into it, and may have something happen first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.put_in: list[str] = []
        self.first: Callable[[], None] = lambda: None

    @contextmanager
    def batch(self, alive: Callable[[], None]) -> Iterator[Batch]:
        with super().batch(alive) as batch:
            self._batch = batch
            yield self

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        self.first()
        stored = self._batch.put(chunks, limit=limit)
        self.put_in.append(stored.sha256)
        return stored


@pytest.fixture
def storage(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "blobs")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Where an agent has worked."""
    path = tmp_path / "host-a" / "work"
    path.mkdir(parents=True)
    return path


@contextmanager
def tree_of(folder: Path, storage: FolderStorage) -> Iterator[Tree]:
    folder.mkdir(parents=True, exist_ok=True)
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Tree(root, storage, lambda: None)
    finally:
        os.close(root)


def read(folder: Path, storage: FolderStorage, limits: Limits = LARGE) -> tuple[Manifest, dict[str, str]]:
    """What is in a folder, and what was left out of that, and why."""
    with tree_of(folder, storage) as tree:
        entries = tree.read(limits, without="artifacts")
        # As it is kept and found again.
        return Manifest.decode(Manifest(entries).encode()), dict(tree.left_out)


@contextmanager
def written(manifest: Manifest, folder: Path, storage: FolderStorage) -> Iterator[Tree]:
    """A folder with all that, as its next agent finds it."""
    with tree_of(folder, storage) as tree:
        for entry in manifest.entries:
            tree.write(entry)
        for entry in reversed(manifest.entries):
            if entry.kind is Kind.FOLDER:
                tree.protect(entry)
        tree.settle()
        yield tree


def listing(folder: Path) -> dict[bytes, tuple[str, object, int, int]]:
    """All that can be seen of a folder."""
    found: dict[bytes, tuple[str, object, int, int]] = {}
    for path in (Path(parent, name) for parent, folders, files in os.walk(folder) for name in [*folders, *files]):
        about = path.lstat()
        what: object = None
        if path.is_symlink():
            what = os.readlink(path)
        elif path.is_file():
            what = path.read_bytes()
        is_file = stat.S_ISREG(about.st_mode)
        found[os.fsencode(path.relative_to(folder))] = (
            stat.filemode(about.st_mode),
            what,
            about.st_mtime_ns if is_file else 0,
            about.st_size if is_file else 0,
        )
    return found


def test_a_folder_is_the_same_again_on_another_host(work: Path, storage: Counting, tmp_path: Path) -> None:
    (work / "src" / "deep" / "deeper").mkdir(parents=True)
    (work / "empty" / "too").mkdir(parents=True)
    (work / "src" / "main.py").write_text("print('hello')\n")
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    (work / "secret").write_text("s")
    (work / "secret").chmod(0o400)
    (work / ".hidden").write_bytes(b"")
    (work / "a name\nof two lines").write_text("x")
    (work / "é ‮ .txt").write_text("é")
    Path(os.fsdecode(os.fsencode(work) + b"/caf\xe9")).write_bytes(b"latin")
    (work / "zero").write_bytes(bytes(3 * 2**20 // 4))
    os.utime(work / "run.sh", ns=(1, 1_234_567_890_123_456_789))
    (work / "to-file").symlink_to("src/main.py")
    (work / "src" / "up").symlink_to("../run.sh")
    (work / "src" / "here").symlink_to(".")
    (work / "to-nothing").symlink_to("not/there/yet")
    (work / "loop").symlink_to("loop")
    (work / "cache").mkdir()
    (work / "cache" / "kept").write_text("go")
    (work / "cache").chmod(0o555)
    manifest, left_out = read(work, storage)
    assert left_out == {}
    with written(manifest, tmp_path / "host-b" / "work", storage):
        pass
    assert listing(tmp_path / "host-b" / "work") == listing(work)
    again, _ = read(tmp_path / "host-b" / "work", storage)
    assert again.encode() == manifest.encode()


def test_what_would_lead_out_or_is_no_file_is_named_and_left_out(work: Path, storage: Counting, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (work / "deep").mkdir()
    (work / "absolute").symlink_to(outside / "secret")
    (work / "inside-but-absolute").symlink_to(work / "good")
    (work / "folder").symlink_to(outside)
    (work / "relative").symlink_to("../../outside/secret")
    (work / "process").symlink_to("/proc/self/root/etc/passwd")
    # Beneath the folder by its words; not by the link on its way.
    (work / "deep" / "up").symlink_to("..")
    (work / "round").symlink_to("deep/up/../../outside")
    (work / "later").symlink_to("not-there/../../outside")
    os.mkfifo(work / "pipe")
    os.mknod(work / "socket", stat.S_IFSOCK | 0o600)
    if os.getuid() == 0:
        os.mknod(work / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (work / "good").write_text("good")
    manifest, left_out = read(work, storage)
    assert {entry.path for entry in manifest.entries} == {"deep", "deep/up", "good"}
    leads_out = "it is a link that leads out of the folder"
    links = ("absolute", "inside-but-absolute", "folder", "relative", "process", "round", "later")
    expected = {**dict.fromkeys(links, leads_out), "pipe": "it is a pipe", "socket": "it is a socket"}
    if os.getuid() == 0:
        expected["null"] = "it is a device"
    assert left_out == expected


def test_what_becomes_artifacts_is_no_part_of_it(work: Path, storage: Counting) -> None:
    (work / "artifacts" / "deep").mkdir(parents=True)
    (work / "artifacts" / "deep" / "a.txt").touch()
    (work / "src" / "artifacts").mkdir(parents=True)
    (work / "src" / "artifacts" / "b.txt").touch()
    manifest, left_out = read(work, storage)
    assert [entry.path for entry in manifest.entries] == ["src", "src/artifacts", "src/artifacts/b.txt"]
    assert left_out == {}


def test_only_what_changed_is_read_and_stored_again(
    work: Path, storage: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (work / f"{number}.txt").write_text(f"content {number:02}")
    manifest, _ = read(work, storage)
    assert len(storage.put_in) == 20
    storage.put_in.clear()
    there = tmp_path / "host-b"
    with written(manifest, there, storage) as tree:
        opened: list[int] = []
        keep = tree._keep

        def counted(file: BinaryIO, size: int, batch: Batch, most: int) -> tuple[str, int]:
            opened.append(size)
            return keep(file, size, batch, most)

        monkeypatch.setattr(tree, "_keep", counted)
        (there / "3.txt").write_text("content 33")
        (there / "4.txt").rename(there / "four.txt")
        shutil.copy(there / "5.txt", there / "five.txt")
        (there / "6.txt").unlink()
        entries = {entry.path: entry for entry in tree.read(LARGE, without="artifacts")}
    assert len(storage.put_in) == 1
    # Read again were the one that was changed, the one that has another name now, and the copy.
    assert len(opened) == 3
    assert entries["four.txt"].sha256 == manifest.files["4.txt"].sha256
    assert entries["five.txt"].sha256 == entries["5.txt"].sha256
    assert entries["3.txt"].sha256 == storage.put_in[0]
    assert "6.txt" not in entries


def test_a_change_that_hides_itself_is_seen(work: Path, storage: Counting, tmp_path: Path) -> None:
    (work / "file").write_text("one")
    manifest, _ = read(work, storage)
    with written(manifest, tmp_path / "b", storage) as tree:
        before = (tmp_path / "b" / "file").stat()
        (tmp_path / "b" / "file").write_text("two")
        os.utime(tmp_path / "b" / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
        (entry,) = tree.read(LARGE, without="artifacts")
    with storage.open(entry.sha256) as file:
        assert file.read() == b"two"


def test_a_folder_over_its_limits_stores_nothing(work: Path, storage: Counting) -> None:
    (work / "a").write_bytes(bytes(600))
    (work / "b").write_bytes(bytes(500))
    with pytest.raises(TooLarge, match="more than 1000 bytes, with 'b'"):
        read(work, storage, Limits(1000, 100))
    with pytest.raises(TooLarge, match="more than 1 files and folders"):
        read(work, storage, Limits(10_000, 1))
    os.truncate(work / "a", 2**40)
    with pytest.raises(TooLarge):
        read(work, storage)
    assert storage.put_in == []


def test_a_file_that_grows_meanwhile_is_within_the_limits_or_nothing_is_kept(work: Path, storage: Counting) -> None:
    for name in "abc":
        (work / name).write_text(name)

    def grow() -> None:
        (work / "c").write_bytes(bytes(998))

    storage.first = grow
    with pytest.raises(TooLarge, match="it grew to more than 999 bytes, with 'c'"):
        read(work, storage, Limits(999, 100))


def test_what_vanishes_meanwhile_is_named_and_the_rest_kept(work: Path, storage: Counting) -> None:
    (work / "a").write_text("a")
    (work / "b").write_text("b")
    (work / "sub").mkdir()
    (work / "sub" / "c").write_text("c")

    def vanish() -> None:
        (work / "b").unlink(missing_ok=True)
        shutil.rmtree(work / "sub", ignore_errors=True)

    storage.first = vanish
    manifest, left_out = read(work, storage)
    assert [entry.path for entry in manifest.files.values()] == ["a"]
    assert left_out == dict.fromkeys(("b", "sub/c"), "it is gone, lies too deep, or cannot be read")


def test_what_lies_too_deep_to_be_put_back_is_named_and_the_rest_kept(storage: Counting, tmp_path: Path) -> None:
    with workspace(tmp_path / "a", "run_1", 1) as left, workspace(tmp_path / "b", "run_2", 1) as found:
        (left.work / "file").write_text("kept")
        deepen(left.work, NO_PATH_SUFFICES)
        manifest, left_out = read(left.work, storage, Limits(2**20, NO_PATH_SUFFICES))
        assert list(left_out.values()) == ["it is gone, lies too deep, or cannot be read"]
        with written(manifest, found.work, storage):
            assert (found.work / "file").read_text() == "kept"
            assert Path(found.work, *["a"] * FRAMES_DO_NOT_SUFFICE).is_dir()


def test_what_becomes_a_link_meanwhile_is_not_followed(work: Path, storage: Counting) -> None:
    (work / "a").write_text("a")
    (work / "etc").mkdir()
    (work / "etc" / "passwd").write_text("mine")
    (work / "file").write_text("mine, too")

    def change() -> None:
        if not (work / "file").is_symlink():
            shutil.rmtree(work / "etc")
            (work / "etc").symlink_to("/etc")
            (work / "file").unlink()
            (work / "file").symlink_to("/etc/passwd")

    storage.first = change
    manifest, left_out = read(work, storage)
    assert list(manifest.files) == ["a"]
    assert left_out.keys() == {"etc/passwd", "file"}


@pytest.mark.parametrize("path", ["../out", "/out", "link/out", "link", "there"])
def test_nothing_is_written_outside_or_over_what_is_there(
    path: str, work: Path, storage: Counting, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (work / "link").symlink_to(tmp_path / "elsewhere")
    (work / "there").write_text("as it was")
    stored = FolderStorage(storage.folder).put([b"new"], limit=10)
    before = listing(tmp_path / "elsewhere"), listing(work), set(tmp_path.iterdir())
    with tree_of(work, storage) as tree, pytest.raises(OSError, match=r"."):
        tree.write(Entry(path, Kind.FILE, 0o600, size=3, sha256=stored.sha256))
    assert (listing(tmp_path / "elsewhere"), listing(work), set(tmp_path.iterdir())) == before


def test_room_is_made_for_a_file_and_never_through_a_link(work: Path, storage: Counting, tmp_path: Path) -> None:
    stored = FolderStorage(storage.folder).put([b"new"], limit=10)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    (work / "old").write_text("old")
    (work / "link").symlink_to(tmp_path / "precious" / "file")
    (work / "folder").symlink_to(tmp_path / "precious")
    (work / "full").mkdir()
    with tree_of(work, storage) as tree:
        for path in ("old", "link", "new/deep/file"):
            tree.make_way(path)
            tree.write(Entry(path, Kind.FILE, 0o600, size=3, sha256=stored.sha256))
        for path in ("folder/file", "old/file", "full"):
            with pytest.raises(OSError, match=r"."):
                tree.make_way(path)
    assert (tmp_path / "precious" / "file").read_text() == "precious"
    assert [(work / path).read_text() for path in ("old", "link", "new/deep/file")] == ["new"] * 3


def test_bytes_that_storage_lacks_are_told(work: Path, storage: Counting) -> None:
    with tree_of(work, storage) as tree, pytest.raises(NotFound):
        tree.write(Entry("file", Kind.FILE, 0o600, size=3, sha256="0" * 64))


def test_whoever_waits_for_it_is_asked_again_and_again(work: Path, storage: Counting) -> None:
    for number in range(10):
        (work / str(number)).write_text(str(number))
    asked: list[int] = []

    def alive() -> None:
        asked.append(1)
        if len(asked) == 5:
            raise InterruptedError

    with tree_of(work, storage) as tree:
        tree.alive = alive
        with pytest.raises(InterruptedError):
            tree.read(LARGE, without="artifacts")
    assert len(storage.put_in) < 5


@pytest.mark.parametrize("said", [b"", b"{}", b"[]", b"null", b'{"entries": [{"kind": "door"}], "attached": {}}'])
def test_what_is_no_manifest_is_none(said: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Manifest.decode(said)
