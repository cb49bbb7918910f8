"""A file that comes in a multipart body, put into storage while it comes: never all of it in memory."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from longwick import artifacts
from longwick.artifacts import Save
from longwick.errors import Invalid
from longwick.storage import Incoming, Storage
from longwick.text import clean, shorten

FIELD = "file"
# What a body may have beside its file.
OVERHEAD_BYTES = 64 * 1024


async def receive(request: Request, storage: Storage, limit: int) -> Save:
    """The one file of the body, once all of it is in storage.

    Raises:
        HTTPException: the body is no multipart/form-data (415, 400), or ended early.
        Invalid: it is not one part with the name `file` and the name of a file.
        BadName: the file has a name that no artifact may have.
        TooLarge: the file is over the limit; nothing is kept.
    """
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(415, "the body must come with Content-Type: multipart/form-data; boundary=...")
    with storage.incoming(limit=limit) as incoming:
        file = _FilePart(incoming)
        try:
            parser = file.parser(options[b"boundary"])
            async for chunk in request.stream():
                await run_in_threadpool(parser.write, chunk)
        except FormParserError as error:
            raise HTTPException(400, f"the body is no multipart/form-data: {shorten(str(error))}") from error
        except ClientDisconnect as error:
            raise HTTPException(400, "the body ended early") from error
        file.check_whole()
        stored = await run_in_threadpool(incoming.keep)
    return Save(file.name, file.media_type, stored)


class _FilePart:
    """The part of the body that is the file, told piece by piece by the parser."""

    def __init__(self, incoming: Incoming) -> None:
        self.name = ""
        self.media_type = ""
        self._incoming = incoming
        self._parts = 0
        self._ended = False
        self._headers: dict[str, str] = {}
        self._field = self._value = b""

    def parser(self, boundary: bytes) -> MultipartParser:
        """What is to be fed with the body."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._take_field,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._look,
                "on_part_data": self._take,
                "on_end": self._end,
            },
        )

    def check_whole(self) -> None:
        """Raise unless there was one file, and all of it."""
        if not self._ended:
            raise HTTPException(400, "the body ended before its last boundary")
        if not self._parts:
            raise Invalid(f"the body must have a part named {FIELD!r}", param=FIELD)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise Invalid(f"the body must have one part, a file named {FIELD!r}, and no other", param=FIELD)

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._field = self._value = b""

    def _look(self) -> None:
        """See what the part is, before any of it is taken."""
        _, options = parse_options_header(self._headers.get("content-disposition"))
        field = clean(options.get(b"name", b"").decode("utf-8", "replace"))
        if field != FIELD:
            raise Invalid(
                f"there is no such field as {shorten(field)!r}, only {FIELD!r}", param=shorten(field) or FIELD
            )
        if b"filename" not in options:
            raise Invalid(f"{FIELD}: must be a file, with its name", param=FIELD)
        self.name = artifacts.check_name(clean(options[b"filename"].decode("utf-8", "replace")))
        self.media_type = _media_type(self._headers.get("content-type", ""), self.name)

    def _take(self, data: bytes, start: int, end: int) -> None:
        self._incoming.write(data[start:end])

    def _end(self) -> None:
        self._ended = True


def _media_type(given: str, name: str) -> str:
    """What the sender says; where that is nothing to go by, what the name suggests."""
    try:
        return artifacts.check_media_type(given if given != "application/octet-stream" else None, name, text=False)
    except Invalid:
        return artifacts.check_media_type(None, name, text=False)
