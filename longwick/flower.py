"""The Flower tier: Celery's own monitor over our queue, for people to watch and not to touch.

`longwick flower`, and `python -m longwick.flower`. Put together here and not by `celery flower`, which runs whatever
`flowerconfig.py` lies in the current folder and would take its password from an argument that everybody can see.
"""

import argparse
import ast
import logging
import os
import re
import signal
import socket
from typing import Any

from flower.app import Flower  # type: ignore[import-untyped] # it ships no types
from flower.options import options  # type: ignore[import-untyped]
from flower.urls import settings as flower_settings  # type: ignore[import-untyped]
from tornado.httpserver import HTTPServer

from longwick import logs, passwords
from longwick.errors import BadSetting
from longwick.queue import celery_app
from longwick.settings import Settings, is_loopback

log = logging.getLogger(__name__)

BROKER_TIMEOUT_SECONDS = 10
MOST_TASKS = 10_000
"""What it remembers, all of it in memory; the oldest go first."""
COLUMNS = "uuid,state,result,started,runtime,worker"
_FAILED = re.compile(r"RunNotSucceeded\('(\w+)', (\{.*\})\)")
"""What worker/tasks.py raises, as Celery passes it on."""


def main() -> None:
    """Serve with the settings of the environment until told to stop."""
    parser = argparse.ArgumentParser(prog="longwick flower", description="Shows the runs as tasks of Celery.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for any (default: LONGWICK_FLOWER_PORT)")
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # a socket that listens already
    given = parser.parse_args()
    try:
        settings = Settings.from_environ(flower_port=given.port)
        logs.configure(settings, "flower")
        logging.getLogger("tornado.access").setLevel(logging.WARNING)
        listening = _listen(settings, given.host) if given.fd is None else socket.socket(fileno=given.fd)
        serve(settings, listening)
    except (BadSetting, OSError) as error:
        parser.exit(2, f"longwick: {error}\n")


def serve(settings: Settings, listening: socket.socket) -> None:
    """Show the queue's tasks to whoever knows the password, on a socket that listens."""
    password, _ = passwords.of_flower(settings)
    options.basic_auth = [f"{passwords.FLOWER_USER}:{password}"]
    # Celery cannot end a run: its Terminate says that it did, and the run goes on.
    options.read_only = True
    options.tasks_columns = COLUMNS
    options.format_task = with_outcome
    options.max_tasks = MOST_TASKS
    app = celery_app(settings.redis, socket_timeout=BROKER_TIMEOUT_SECONDS)
    flower = Flower(capp=app, options=options, **flower_settings)
    listening.setblocking(False)
    HTTPServer(flower).add_socket(listening)
    log.info("listening on http://%s:%d", *listening.getsockname()[:2])
    # It keeps nothing, so there is nothing to wait for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    flower.start()


def with_outcome(task: Any) -> Any:
    """A task as its pages show it: a failed one has a result and a runtime too, and results are short."""
    failed = _FAILED.fullmatch(task.exception or "")
    code, summary = failed.groups() if failed else ("", task.result or task.exception)
    try:
        task.result = in_words(ast.literal_eval(summary), code) if summary else None
    except (ValueError, SyntaxError, TypeError, AttributeError):
        task.result = summary
    if task.runtime is None and task.failed and task.started:
        task.runtime = task.failed - task.started
    return task


def in_words(summary: dict[str, Any], code: str) -> str:
    """What became of a run, as short as the column is narrow."""
    status = summary.get("status", "")
    usage, cost = summary.get("usage") or {}, summary.get("cost_usd")
    return " · ".join(
        [
            f"{status} ({code})" if code not in ("", status) else status,
            *(summary[key] for key in ("owner", "agent") if key in summary),
            *([f"{usage.get('input_tokens', 0)}+{usage.get('output_tokens', 0)} tokens"] if usage else []),
            *([f"${cost:g}"] if cost is not None else []),
        ]
    )


def _listen(settings: Settings, host: str) -> socket.socket:
    if not (is_loopback(host) or settings.flower_password):
        raise BadSetting(
            f"--host: {host} can be reached from other machines, and the password would travel there in the clear: set "
            "LONGWICK_FLOWER_PASSWORD if you mean it. Or use 127.0.0.1, and a tunnel (ssh -L) to reach it."
        )
    try:
        return socket.create_server((host, settings.flower_port))
    except OSError as error:
        raise BadSetting(f"LONGWICK_FLOWER_PORT: cannot listen on {host}:{settings.flower_port}: {error}") from error


if __name__ == "__main__":
    main()
