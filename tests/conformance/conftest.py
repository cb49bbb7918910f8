"""A server to be held to the contract: the one that `LONGWICK_URL` names, or else one of the tests' own.

Nothing here knows how Longwick is made: it is spoken to over HTTP alone, and asked of its agent `demo`.
"""

import os
import uuid
from collections.abc import Iterator

import pytest
from contract import Api
from stack import Stack


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> str:
    """Its URL."""
    given = os.environ.get("LONGWICK_URL")
    if given:
        return given.rstrip("/")
    stacks: dict[str, Stack] = request.getfixturevalue("stacks")
    return stacks["sqlite"].url


@pytest.fixture
def api(server: str) -> Iterator[Api]:
    api = Api(server, os.environ.get("LONGWICK_API_KEY"))
    yield api
    api.close()


@pytest.fixture
def key() -> str:
    """An idempotency key that nobody has used."""
    return uuid.uuid4().hex
