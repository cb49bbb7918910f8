"""The real application, asked by a client that checks every answer against the OpenAPI document."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from documented import Serve, is_documented
from processes import unheard_port
from starlette.testclient import TestClient

from longwick import broadcast, queue
from longwick.queue import celery_app
from longwick.settings import Settings
from web.app import create_app

BASE = "http://127.0.0.1:8000"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts the application with any settings."""
    with ExitStack() as stack:

        def start(settings: Settings) -> TestClient:
            client = stack.enter_context(TestClient(create_app(settings), base_url=BASE, raise_server_exceptions=False))
            client.event_hooks = {"response": [is_documented]}
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
def closed_port() -> Iterator[int]:
    """A port of loopback on which nobody listens, nor can while the test runs."""
    with unheard_port() as port:
        yield port


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for Redis: what it does not take in half a second is dropped by design, and a busy machine may hold it."""
    monkeypatch.setattr(broadcast, "TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(queue, "celery_app", lambda url, socket_timeout: celery_app(url, socket_timeout=30))
