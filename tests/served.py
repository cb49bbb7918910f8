"""The web tier as a process of its own."""

import json
import re
import sys
from typing import Any

from processes import Launch, Process
from waiting import wait_for
from watching import Json

from longwick.settings import Settings


def serve_web(launch: Launch, settings: Settings, **more: str) -> tuple[Process, str]:
    """`longwick-web` on the test's record, and its URL; `more` are settings of its own."""
    process = launch(
        [sys.executable, "-P", "-m", "web", "--port", "0"],
        env={
            "LONGWICK_DATA_DIR": str(settings.data_dir),
            "LONGWICK_DATABASE_URL": settings.database_url,
            "LONGWICK_REDIS_URL": settings.redis_url,
            **more,
        },
    )
    found = wait_for(lambda: re.search(r"listening on (http://[0-9.:]+)", process.output), 20, "the server to listen")
    assert found
    return process, found[1]


def read_frame(stream: Any) -> Json:
    """The next frame, of whole lines as they stand in the stream."""
    while (line := stream.readline()) == b": ping\n":
        pass
    assert line.startswith(b"data: "), line
    assert stream.readline() == b"\n"
    found: Json = json.loads(line.removeprefix(b"data: "))
    return found
