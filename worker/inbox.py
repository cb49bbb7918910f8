"""What comes to a worker over the queue, and what of it is not heard: Redis hands out hints, and commands nobody.

Celery ends its process over a message that is none, and obeys whoever can write to Redis; either would end all runs.
"""

import logging
from collections.abc import Callable
from queue import Empty
from typing import Any

from celery.worker.control import Panel
from kombu.transport import redis

log = logging.getLogger(__name__)

HEARD = {
    *("ping", "conf", "registered", "stats", "active", "active_queues", "reserved", "revoked", "scheduled"),
    "enable_events",
}
"""What Flower asks, which is read-only; of Celery's other commands even some that only ask do something: `hello` says
which tasks are to be dropped."""


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


def hear_hints_alone(is_open: Callable[[], bool]) -> None:
    """Have the worker of this process drop what is no message, and know no command but those of Flower.

    While `is_open` says no, hints stay in Redis for others, but for one that it may have asked for just before.
    """

    class HintsWhileOpen(Channel):
        def _brpop_start(self, timeout: int | None = None) -> None:
            # Whoever reads from Redis asks for this again with each round.
            if is_open():
                super()._brpop_start(timeout)  # type: ignore[misc] # celery-types knows no private names

    redis.Transport.Channel = HintsWhileOpen
    for command in Panel.data.keys() - HEARD:
        del Panel.data[command]
