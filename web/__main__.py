"""`longwick-web`, and `python -m web`."""

import argparse
import contextlib
import logging
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from longwick import descriptors, exposure, logs, traces
from longwick.errors import BadSetting
from longwick.heads import bounded
from longwick.settings import Settings
from web.app import create_app

log = logging.getLogger(__name__)

STOP_SECONDS = 5


class Server(uvicorn.Server):
    """Uvicorn, which ends the open streams before it waits for them to end."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=bounded(HttpToolsProtocol),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                # web/callers.py believes those proxies that it is told of.
                proxy_headers=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.hub.close_soon()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve with the settings of the environment, until told to stop."""
    parser = argparse.ArgumentParser(prog="longwick-web", description="Accepts requests and streams events.")
    parser.add_argument("--host", help="address to listen on (default: LONGWICK_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for any (default: LONGWICK_PORT)")
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # a socket that listens already
    given = parser.parse_args()
    try:
        settings = Settings.from_environ(host=given.host, port=given.port)
        logs.configure(settings, "web")
        traces.configure("web")
        descriptors.raise_limit()
        inherited = None if given.fd is None else _inherit(given.fd)
        bound = settings.host if inherited is None else str(inherited.getsockname()[0])
        app = create_app(settings, bound)
        exposure.check_bind(settings, bound, app.state.database)
        listening = inherited or _listen(settings)
    except (BadSetting, ValueError) as error:
        parser.exit(2, f"longwick: {error}\n")
    host, port = listening.getsockname()[:2]
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again once it has shut down
        Server(app).run(sockets=[listening])


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise BadSetting(f"LONGWICK_PORT: cannot listen on {host}:{port}: {error.strerror}") from error


def _inherit(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise BadSetting(f"--fd: {descriptor} is no socket: {error.strerror}") from error


if __name__ == "__main__":
    main()
