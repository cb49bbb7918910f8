"""The Python client: what the HTTP API offers, as methods, and streams that find their place again after every break.

    from longwick.client import Client

    with Client() as longwick:
        run = longwick.create_run("Write a haiku about the sea")
        for event in longwick.follow(run.id):
            print(event.type)

`AsyncClient` has the same methods, to be awaited. docs/python.md has a page on both.
"""

from longwick.client.answers import (
    Agent,
    Approval,
    Artifact,
    Delivery,
    Event,
    Health,
    Message,
    Run,
    RunError,
    Thread,
    Usage,
)
from longwick.client.connections import AsyncClient, Client, find_server
from longwick.client.following import Connected
from longwick.client.plans import Refused, Unreachable

__all__ = [
    "Agent",
    "Approval",
    "Artifact",
    "AsyncClient",
    "Client",
    "Connected",
    "Delivery",
    "Event",
    "Health",
    "Message",
    "Refused",
    "Run",
    "RunError",
    "Thread",
    "Unreachable",
    "Usage",
    "find_server",
]
