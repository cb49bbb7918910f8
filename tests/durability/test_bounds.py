"""Whatever an agent prints and however little a reader reads, no process grows with it."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import Stack
from waiting import wait_for

MB = 2**20
LINES = int(os.environ.get("LINES", "50000"))
"""A million of them shows the same, and takes half a minute."""


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that has done everything once, so that what grows later grows with what it is given."""
    with Stack(tmp_path_factory.mktemp("bounded") / "stack", {"LONGWICK_OUTPUT_BYTES_PER_RUN": "2000000000"}) as stack:
        assert stack.settled(stack.run("lines 5000 10; line 1; errors 1"))["status"] == "succeeded"
        yield stack


def resident(pid: int) -> int:
    """What a process has of the memory, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(kilobytes) * 1024


@contextlib.contextmanager
def grows_by_less_than(megabytes: int, pid: int) -> Iterator[None]:
    """Looked at all the time: the kernel's own high-water mark is root's alone to set back."""
    seen = [resident(pid)]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            seen.append(resident(pid))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield
    finally:
        over.set()
        looker.join()
    grown = (max(seen) - seen[0]) / MB
    print(f"grown by {grown:.1f} MB at most")
    assert grown < megabytes


@pytest.mark.parametrize(
    ("printed", "megabytes"),
    [("line 100", 80), (f"lines {LINES} 1", 32), ("errors 1000", 16)],
    ids=lambda value: str(value),
)
def test_a_worker_does_not_grow_with_what_its_agent_prints(bounded: Stack, printed: str, megabytes: int) -> None:
    with grows_by_less_than(megabytes, bounded.pid("worker")):
        assert bounded.settled(bounded.run(printed), 90)["status"] == "succeeded"


def test_a_web_tier_does_not_grow_with_what_nobody_reads(bounded: Stack, tmp_path: Path) -> None:
    printed, gate = tmp_path / "printed", tmp_path / "gate"
    run = bounded.run(f"lines 60000 1000; pid {printed}; wait {gate}")
    address = ("127.0.0.1", int(bounded.url.rpartition(":")[2]))
    asked = f"GET /api/v1/runs/{run['id']}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    with contextlib.ExitStack() as readers:

        def open_some() -> None:
            """Readers that take the first event, and nothing after that."""
            for _ in range(6):
                reader = readers.enter_context(socket.socket())
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                reader.connect(address)
                reader.sendall(asked.encode())
                heard = b""
                while b"id: 1" not in heard:
                    heard += reader.recv(100)

        # Twelve times 60 MB, if it all were kept for them.
        with grows_by_less_than(80, bounded.pid("web")):
            open_some()
            wait_for(printed.exists, 60, "all to be printed")
            open_some()
        gate.touch()
        assert bounded.settled(run, 60)["status"] == "succeeded"
