"""Names of files: those that are accepted are safe in a header, in an archive, and on a disk."""

import random
import tempfile
from collections.abc import Sequence
from email.message import Message
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

from fuzz.findings import Findings
from longwick.artifacts import NAME_BYTES, check_name
from longwick.client.files import write_file
from longwick.database import utc_now
from longwick.errors import BadName, Conflict
from longwick.models import Artifact
from longwick.storage import FolderStorage
from web.archive import archive
from web.content import disposition

PIECES = [
    *(
        "a",
        "b.txt",
        "/",
        "/",
        "..",
        ".",
        "\\",
        ":",
        "C:",
        "CON",
        "nul.txt",
        ".claude",
        "~",
        "-rf",
        "$(id)",
        "`id`",
        "%00",
        "%2e%2e",
    ),
    *("\0", "\n", "\r", "\t", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800", "\U000e0041"),
    *(
        " ",
        "  ",
        "'",
        '"',
        ";",
        "*",
        "?",
        "<b>",
        "é",
        "e\u0301",
        "ﬀ",
        "İ",
        "ß",
        "🕯",
        "．．",
        "／",
        "x" * 100,
        "é" * 127,
    ),
]
TOGETHER = 6


def fuzz(seconds: float, seed: int) -> Findings:
    """Put names together; those that are accepted are used for all that names are used for."""
    findings = Findings("names of files", seed)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="longwick-fuzz-") as folder:
        storage = FolderStorage(Path(folder) / "blobs")
        accepted: list[str] = []
        while findings.going(seconds):
            name = "".join(chance.choices(PIECES, k=chance.randrange(1, 7)))
            findings.cases += 1
            try:
                accepted.append(check_name(name))
            except BadName:
                continue
            if len(accepted) < TOGETHER:
                continue
            try:
                for each in accepted:
                    check_words(each)
                    check_header(each)
                check_disk(Path(folder), findings.cases, accepted)
                check_archive(Path(folder), findings.cases, storage, accepted)
            except Exception as error:
                findings.found.append(f"{accepted!r}: {type(error).__name__}: {error}")
            accepted.clear()
    return findings


def check_words(name: str) -> None:
    """What was promised of a name."""
    assert 0 < len(name.encode()) <= NAME_BYTES
    assert not name.startswith("/")
    assert not {"", ".", ".."} & set(name.split("/"))
    assert name.isprintable() or not any(ord(c) < 32 or c in "\x7f\u2028\u2029\u202e" for c in name)


def check_header(name: str) -> None:
    """It stays one header, which says the last part of the name to whoever reads it."""
    header = disposition("attachment", name)
    assert header.isascii()
    assert header.isprintable()
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    plain = str(message.get_param("filename", header="content-disposition"))
    assert "/" not in plain
    read = header.partition("filename*=UTF-8''")[2]
    assert '"' not in read
    assert ";" not in read


def check_disk(folder: Path, number: int, names: Sequence[str]) -> None:
    """It is written beneath the folder that was named, or not at all."""
    home = folder / f"disk-{number}"
    home.mkdir()
    for name in names:
        try:
            written = write_file(home, name, b"x")
        except (Conflict, BadName):
            continue
        assert written.resolve().is_relative_to(home)
        assert written.read_bytes() == b"x"
    assert not [path for path in home.rglob("*") if path.is_symlink()]


def check_archive(folder: Path, number: int, storage: FolderStorage, names: Sequence[str]) -> None:
    """In an archive each name is there once, and none leads out of where it is unpacked."""
    kept = storage.put([b"x"], limit=1)
    files = [
        Artifact(name=name, sha256=kept.sha256, size=1, media_type="text/plain", created_at=utc_now()) for name in names
    ]
    made = ZipFile(BytesIO(b"".join(archive(storage, files))))
    found = made.namelist()
    assert len({name.lower() for name in found}) == len(names)
    for name in found:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert ":" not in name
        assert "\\" not in name
    assert made.testzip() is None
