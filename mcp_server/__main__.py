"""`longwick-mcp`, and `python -m mcp_server`."""

import argparse
import contextlib
import socket

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from longwick import descriptors, logs, traces
from longwick.errors import BadSetting
from longwick.heads import bounded
from longwick.settings import Settings
from mcp_server.app import create_app

SHUTDOWN_SECONDS = 5
BACKLOG = 2048


def main() -> None:
    """Serve with the settings of the environment until told to stop."""
    parser = argparse.ArgumentParser(prog="longwick-mcp", description="Serves the tools that agents call back.")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8001, help="port to bind to (default: %(default)s)")
    # A listening socket of a supervisor's: callers wait there while a server that has died is started again.
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        settings = Settings.from_environ()
        logs.configure(settings, "mcp")
        traces.configure("mcp")
        descriptors.raise_limit()
        app = create_app(settings)
        listening = _listen(given.host, given.port) if given.fd is None else _take_over(given.fd)
    except BadSetting as error:
        parser.exit(2, f"longwick: {error}\n")
    config = uvicorn.Config(
        app,
        http=bounded(HttpToolsProtocol),
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # The log names runs, not addresses, and nothing here is decided by an address.
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise BadSetting(f"cannot listen on {host}:{port} ({error}); choose another with --port") from error


def _take_over(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise BadSetting(f"--fd {descriptor} is not an open socket") from error


if __name__ == "__main__":
    main()
