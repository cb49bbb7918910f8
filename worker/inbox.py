"""What comes to a worker over the queue, and what of it is not heard: Redis hands out hints, and commands nobody.

Celery ends its process over a message that is none, and obeys whoever can write to Redis; either would end all runs.
"""

import logging
from queue import Empty
from typing import Any

from celery.worker.control import Panel
from kombu.transport import redis

log = logging.getLogger(__name__)

COMMANDS = (
    "shutdown",
    "revoke",
    "revoke_by_stamped_headers",
    "terminate",
    "pool_grow",
    "pool_shrink",
    "pool_restart",
    "autoscale",
    "rate_limit",
    "time_limit",
    "election",
)
"""Celery's commands that end or hold up what a worker does; Flower, which is read-only, asks for none."""


class Channel(redis.Channel):
    """Celery's own, which drops what is no message of Celery's."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc] # celery-types knows no private names
        except (Empty, *self.connection_errors):  # type: ignore[attr-defined]
            raise
        except Exception as error:
            log.warning("what came over the queue is no message: %s: %s", type(error).__name__, error)
            raise Empty from error


def hear_hints_alone() -> None:
    """Have the worker of this process drop what is no message, and obey no command."""
    redis.Transport.Channel = Channel
    for command in COMMANDS:
        Panel.data.pop(command, None)
