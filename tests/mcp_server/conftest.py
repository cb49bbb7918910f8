"""An MCP server in a thread of the tests or in a process of its own, and an agent whose run is running."""

import sys
from collections.abc import Callable, Iterator

import httpx2
import pytest
from mcp_agent import MODES, Agent, served, start_run
from processes import Launch, Process
from waiting import wait_for

from longwick.database import Database
from longwick.settings import Settings
from mcp_server.app import create_app

# As a supervisor starts it: the socket is there first, so that nobody has to guess when and where the server answers.
LISTEN_AND_SERVE = """
import os, socket, sys

listening = socket.create_server(("127.0.0.1", 0))
listening.set_inheritable(True)
print(listening.getsockname()[1], flush=True)
os.execv(sys.executable, [sys.executable, "-P", "-m", "mcp_server", "--fd", str(listening.fileno())])
"""


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    """Where a server with these settings answers."""
    with served(create_app(settings)) as url:
        yield url


@pytest.fixture
def agent(database: Database, url: str) -> Agent:
    """The only attempt of a run that is running."""
    return start_run(database, url)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Once in each era of the protocol."""
    mode: str = request.param
    return mode


@pytest.fixture
def run_server(launch: Launch, settings: Settings) -> Callable[[], tuple[Process, str]]:
    """Start the command on a socket that it is given; gives its process and the URL of its `/mcp`."""

    def start() -> tuple[Process, str]:
        process = launch([sys.executable, "-c", LISTEN_AND_SERVE], env=settings.child_environ())
        wait_for(lambda: "\n" in process.output, what="the socket")
        return process, f"http://127.0.0.1:{process.output.split()[0]}/mcp"

    return start


@pytest.fixture
def run_until_it_answers(run_server: Callable[[], tuple[Process, str]]) -> Callable[[], tuple[Process, str]]:
    """The same, for those who cannot wait for it themselves."""

    def start() -> tuple[Process, str]:
        process, url = run_server()
        assert httpx2.get(httpx2.URL(url).join("/healthz"), timeout=60).status_code == 200
        return process, url

    return start
