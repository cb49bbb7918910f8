"""Bytes from storage as an answer: a range of them, or that the caller has them; never as a page of this origin."""

import re
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from longwick.storage import Storage

CHUNK = 256 * 1024
# What a browser may show by itself. All else is for saving: a file that an agent wrote may be any web page.
SHOWN = {
    "text/plain",
    "text/markdown",
    "text/csv",
    "application/json",
    "application/pdf",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
}
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))")


# What may act, and what nobody can look into: shown only in a frame of the page, where it reaches nothing.
FRAMED = {
    "text/html": "sandbox allow-scripts",
    "application/xhtml+xml": "sandbox allow-scripts",
    "image/svg+xml": "sandbox",
    "application/pdf": "",
}
_REACHES_NOTHING = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; media-src data: blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)


def framed(answer: Response, media_type: str, *, in_frame: bool) -> Response:
    """The answer with a file's bytes as a frame of the page may show it; whoever else asks gets it to be saved.

    What runs in it has no origin: neither the page, nor the API, nor any cookie is its own, and no address is open to
    it. A PDF is drawn by the browser's own viewer, which no sandbox lets work.
    """
    sandbox = FRAMED.get(media_type.partition(";")[0].strip())
    if sandbox is None or not in_frame:
        answer.headers["content-disposition"] = answer.headers["content-disposition"].replace("inline", "attachment", 1)
        return answer
    answer.headers["content-disposition"] = answer.headers["content-disposition"].replace("attachment", "inline", 1)
    answer.headers["content-security-policy"] = "; ".join(filter(None, [sandbox, _REACHES_NOTHING]))
    answer.headers["x-dns-prefetch-control"] = "off"
    answer.headers["vary"] = "sec-fetch-dest"
    return answer


def content(
    request: Request, storage: Storage, *, sha256: str, size: int, media_type: str, name: str, download: bool = False
) -> Response:
    """The answer to a GET or HEAD of stored bytes.

    Raises:
        NotFound: storage does not have them.
        HTTPException: 416, a range past their end.
    """
    etag = f'"{sha256}"'
    shown = media_type.partition(";")[0].strip() in SHOWN and not download
    headers = {
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=31536000, immutable",
        "content-disposition": disposition("inline" if shown else "attachment", name),
        "content-security-policy": "sandbox; default-src 'none'",
        "etag": etag,
    }
    if _has_it(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    start, end = 0, size
    status = 200
    wanted = _RANGE.fullmatch(request.headers.get("range", ""))
    # Several ranges at once, or one of an older file: the whole may be sent instead.
    if wanted and request.headers.get("if-range", etag) == etag:
        start, end = _span(wanted, size)
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        status = 206
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(_chunks(storage.open(sha256), start, end), status, headers, media_type)


def disposition(kind: str, name: str) -> str:
    """A Content-Disposition; the name as RFC 5987 has it, and an ASCII one for those that know no better."""
    name = name.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9 ._()+,-]", "_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _has_it(given: str, etag: str) -> bool:
    return given.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in given.split(",")]


def _span(wanted: re.Match[str], size: int) -> tuple[int, int]:
    first, last, suffix = wanted.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if start >= end:
        raise HTTPException(416, "the range is past the end", {"Content-Range": f"bytes */{size}"})
    return start, end


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end and (chunk := file.read(min(CHUNK, end - start))):
            start += len(chunk)
            yield chunk
