"""The page: static files that may run nothing but themselves."""

import base64
import hashlib
import os
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

FOLDER = Path(__file__).with_name("static")
_INLINE = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)
SMALLEST_GZIPPED_BYTES = 1000


def policy(page: str) -> str:
    """What the page may do: run its own files and its map of imports, and talk to nobody but this server."""
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in _INLINE.findall(page)]
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in digests)])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self'; font-src 'self'; connect-src 'self'; "
        "img-src 'self' data: blob:; frame-src 'self'; worker-src 'self'; manifest-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def page() -> ASGIApp:
    """The files of `static/`, packed where that is worth it; `/` is `index.html`."""
    return GZipMiddleware(Page(), minimum_size=SMALLEST_GZIPPED_BYTES)


class Page(StaticFiles):
    """The files of `static/` with what a browser must know about them."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER, html=True)
        self._headers = {
            "cache-control": "no-cache",
            "content-security-policy": policy((FOLDER / "index.html").read_text()),
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(404)
        return await super().get_response(path, scope)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(self._headers)
        return response
