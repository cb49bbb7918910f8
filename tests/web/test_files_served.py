"""Files that are attached over a real connection: never all in memory, and nothing left of what did not come whole."""

import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import Launch, Process
from scene import new_thread
from served import serve_web
from waiting import wait_for

from longwick import artifacts
from longwick.database import Database
from longwick.settings import Settings

API = "/api/v1"
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
END = b"\r\n--b--\r\n"


@pytest.fixture
def thread_id(database: Database) -> str:
    """A thread to attach to."""
    return new_thread(database).id


def stored(settings: Settings) -> list[Path]:
    """The files that storage has, also those on their way."""
    return [path for path in (settings.data_dir / "blobs").rglob("*") if path.is_file()]


@pytest.fixture
def server(launch: Launch, settings: Settings) -> tuple[Process, int]:
    """`longwick-web` as a process, and its port."""
    process, url = serve_web(launch, settings, LONGWICK_ARTIFACT_BYTES=str(64 * 2**20))
    return process, int(url.rpartition(":")[2])


def ask(port: int, thread_id: str, length: int | None) -> socket.socket:
    """A connection on which a file is announced."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    size = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    head = (
        f"POST {API}/threads/{thread_id}/files HTTP/1.1\r\nHost: 127.0.0.1\r\n{size}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    connection.sendall(head.encode())
    return connection


def answer_to(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the body of the answer on a connection."""
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        received += connection.recv(65536)
    return int(received.split()[1]), json.loads(received.partition(b"\r\n\r\n")[2])


def test_a_large_file_is_never_all_in_memory(
    server: tuple[Process, int], thread_id: str, database: Database, settings: Settings
) -> None:
    process, port = server
    piece = b"0123456789abcdef" * 65536
    content = 60
    memory = psutil.Process(process.pid)
    with ask(port, thread_id, len(HEAD) + content * len(piece) + len(END)) as connection:
        connection.sendall(HEAD + piece)
        before = most = memory.memory_info().rss
        for _ in range(content - 1):
            connection.sendall(piece)
            most = max(most, memory.memory_info().rss)
        connection.sendall(END)
        status, file = answer_to(connection)
    assert (status, file["size"]) == (201, content * len(piece))
    assert most - before < 20 * 2**20
    assert file["sha256"] == hashlib.sha256(piece * content).hexdigest()
    assert [path.stat().st_size for path in stored(settings)] == [content * len(piece)]


def test_a_file_that_turns_out_to_be_too_large_is_refused_while_it_comes(
    server: tuple[Process, int], thread_id: str, settings: Settings
) -> None:
    process, port = server
    piece = bytes(2**20)
    with ask(port, thread_id, None) as connection:
        connection.sendall(b"%x\r\n%s\r\n" % (len(HEAD), HEAD))
        for _ in range(65):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        # More was to come, and is not waited for.
        status, problem = answer_to(connection)
    assert (status, problem["code"]) == (413, "too_large")
    assert stored(settings) == []
    assert "Traceback" not in process.output


def test_a_sender_that_goes_away_leaves_nothing(
    server: tuple[Process, int], thread_id: str, database: Database, settings: Settings
) -> None:
    process, port = server
    with ask(port, thread_id, 1_000_000) as connection:
        connection.sendall(HEAD + bytes(100_000))
        wait_for(lambda: stored(settings), what="the file to come in")
    wait_for(lambda: not stored(settings), what="nothing to be left")
    assert database.read(lambda db: artifacts.of_thread(db, thread_id)).data == []
    assert "Traceback" not in process.output
