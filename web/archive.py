"""Files as a zip archive, made while it is sent: never all of it, nor all of a file, in memory."""

from collections.abc import Iterator, Sequence
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from longwick.models import Artifact
from longwick.storage import Storage

CHUNK = 256 * 1024
MEDIA_TYPE = "application/zip"
# What is worth the time that it takes to compress.
COMPRESSIBLE = {
    "application/json",
    "application/javascript",
    "application/x-sh",
    "application/xml",
    "application/sql",
    "application/octet-stream",
    "image/bmp",
    "image/svg+xml",
}


def archive(storage: Storage, files: Sequence[Artifact]) -> Iterator[bytes]:
    """The bytes of an archive that holds these files under their names.

    Raises:
        NotFound: storage lacks one; the archive is broken off.
    """
    sink = _Sink()
    with ZipFile(sink, "w") as made:
        for file, name in zip(files, _names(files), strict=True):
            entry = ZipInfo(name, file.created_at.timetuple()[:6])
            entry.compress_type = ZIP_DEFLATED if _is_compressible(file.media_type) else ZIP_STORED
            entry.external_attr = 0o644 << 16
            # Told in advance, so that the few that need it get the format for large ones.
            entry.file_size = file.size
            with storage.open(file.sha256) as source, made.open(entry, "w") as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


class _Sink:
    """What the archive is written to: it cannot be sought in, and is emptied as it fills."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        """What was written since."""
        taken = b"".join(self._written)
        self._written.clear()
        return taken


def _is_compressible(media_type: str) -> bool:
    kind = media_type.partition(";")[0].strip()
    return kind.startswith("text/") or kind in COMPRESSIBLE


def _names(files: Sequence[Artifact]) -> Iterator[str]:
    """A name for each file that is safe wherever the archive is unpacked, and that no other one has."""
    taken: set[str] = set()
    for file in files:
        # Beside what no artifact's name has: on Windows it stands behind a drive, and a file's name ignores case.
        name = wanted = file.name.replace(":", "_")
        for number in range(2, len(files) + 2):
            if name.lower() not in taken:
                break
            stem, dot, ending = wanted.rpartition(".")
            name = f"{stem} ({number}).{ending}" if dot and "/" not in ending else f"{wanted} ({number})"
        taken.add(name.lower())
        yield name
