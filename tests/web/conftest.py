"""The real application, asked by a client that checks every answer against the OpenAPI document."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from documented import Documented, Serve
from starlette.testclient import TestClient

from longwick.settings import Settings
from web.app import create_app

BASE = "http://127.0.0.1:8000"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts the application with any settings."""
    with ExitStack() as stack:

        def start(settings: Settings) -> TestClient:
            app = create_app(settings)
            client = stack.enter_context(TestClient(app, base_url=BASE, raise_server_exceptions=False))
            client.event_hooks = {"response": [Documented(app.openapi())]}
            return client

        yield start


@pytest.fixture
def client(settings: Settings, serve: Serve) -> TestClient:
    """A client of the application with the test's settings."""
    return serve(settings)


@pytest.fixture
def frozen_port() -> Iterator[int]:
    """A port of loopback that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
