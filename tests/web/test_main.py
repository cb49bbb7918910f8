"""`longwick-web` as a process: where it listens, what it refuses, and that it ends its streams when told to stop."""

import json
import re
import signal
import socket
import sys
import urllib.request

import pytest
from processes import Launch, Process
from scene import queued_run
from waiting import wait_for

from longwick.database import Database
from longwick.settings import Settings

COMMAND = [sys.executable, "-P", "-m", "web"]


def environ(settings: Settings) -> dict[str, str]:
    return {
        "LONGWICK_DATA_DIR": str(settings.data_dir),
        "LONGWICK_DATABASE_URL": settings.database_url,
        "LONGWICK_REDIS_URL": settings.redis_url,
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_it_refuses_to_listen_to_strangers(launch: Launch, settings: Settings, host: str) -> None:
    process = launch([*COMMAND, "--host", host], env=environ(settings))
    assert process.wait() == 2
    assert "LONGWICK_HOST" in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_what_cannot_be_used_is_refused_in_words(launch: Launch, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = {
            "LONGWICK_PORT": launch([*COMMAND, "--port", port], env=environ(settings)),
            "LONGWICK_DEFAULT_AGENT": launch(COMMAND, env={"LONGWICK_DEFAULT_AGENT": "nobody"}),
            "did you mean LONGWICK_PORT": launch(COMMAND, env={"LONGWICK_PROT": "1"}),
            "--fd": launch([*COMMAND, "--fd", "0"], env=environ(settings)),
        }
        for words, process in cases.items():
            assert process.wait() == 2, process.output
            assert words in process.output
            assert "Traceback" not in process.output


def listening(process: Process) -> str:
    found = wait_for(lambda: re.search(r"listening on (http://\S+:\d+)", process.output), 20, "the server to listen")
    assert found
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f19_it_stops_at_once_although_a_stream_is_open(
    launch: Launch, settings: Settings, database: Database, number: signal.Signals
) -> None:
    run = queued_run(database)
    process = launch([*COMMAND, "--port", "0"], env=environ(settings))
    url = f"{listening(process)}/api/v1/runs/{run.id}/events"
    asked = urllib.request.Request(url, headers={"accept": "text/event-stream"})
    with urllib.request.urlopen(asked, timeout=20) as stream:
        assert stream.readline() == b"id: 1\n"
        assert json.loads(stream.readline().removeprefix(b"data: "))["type"] == "run.queued"
        assert stream.readline() == b"\n"
        process.send(number)
        assert stream.readline() == b""
    process.wait()
    assert "timeout graceful shutdown exceeded" not in process.output
    assert "Traceback" not in process.output
