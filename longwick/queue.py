"""The contract with Celery: how its messages look, and the one place that sends them.

A message is a hint, "look at this run"; losing one, doubling it or sending it late changes when something happens and
never what. The rows are the outbox: `dispatch` sends hints for the queued runs that are next.
"""

import logging
import threading
import time
from collections import deque
from typing import Self

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from longwick import metrics, seams
from longwick.broadcast import connect
from longwick.database import Database
from longwick.errors import LongwickError
from longwick.hints import MOST_AT_ONCE, Hint, forget_hints, put_back, take_hints
from longwick.limits import NO_LIMITS, Limits
from longwick.models import Run

log = logging.getLogger(__name__)

EXECUTE_TASK = "run.execute"
EPOCH_KEY = "longwick:epoch"
PAUSE = 4
MOST_PAUSE_SECONDS = 0.1
"""A dispatcher pauses four times as long as it has looked: those who submit get to write meanwhile, and what they
submit is one look's work. Alone, a look takes some 5 ms."""


def celery_app(redis_url: str, *, socket_timeout: float) -> Celery:
    """A Celery application on our Redis, with the settings that both ends share.

    `socket_timeout`, in seconds, must be longer than a second for a consumer, which waits that long for a message.
    """
    app = Celery("longwick", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_create_missing_queues=True,
        # Recovery is the sweeper's: Celery's own loses accepted work and runs work twice.
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=True,
        task_send_sent_event=False,
        task_track_started=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=min(socket_timeout, 4),
        broker_transport_options={
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": min(socket_timeout, 4),
            "socket_keepalive": True,
            # A connection whose packets vanish is given up after about twice as long.
            "health_check_interval": 3,
            "max_retries": 0,
        },
    )
    return app


class Dispatcher:
    """A thread that sends the hints that are due whenever it is woken; many wake-ups in a row cost one look."""

    def __init__(self, database: Database, redis_url: str, usual: Limits = NO_LIMITS) -> None:
        self._database = database
        self._usual = usual
        self._redis = connect(redis_url)
        self._celery = celery_app(redis_url, socket_timeout=0.5)
        self._ends: deque[Hint] = deque(maxlen=MOST_AT_ONCE)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._failing = False
        self._starting_over = False
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(3)
        self._celery.close()
        self._redis.close()

    def wake(self) -> None:
        """A run was accepted or settled, or time has passed: have a look. Returns at once."""
        self._wake.set()

    def start_over(self) -> None:
        """Send all hints again: a predecessor may have died with some that it had marked and not sent."""
        self._starting_over = True
        self.wake()

    def tell_end(self, run: Run) -> None:
        """Have a worker look once more at a run whose own task cannot tell of its end; Flower alone would miss it."""
        if run.status.terminal:
            self._ends.append(Hint(run.id, run.kind, run.owner, run.agent))

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            began = time.monotonic()
            try:
                self.dispatch()
                self._failing = False
            except (RedisError, OperationalError, OSError, LongwickError) as error:
                if not isinstance(error, LongwickError):
                    metrics.REDIS_FAILURES.labels("hint").inc()
                if not self._failing:
                    log.warning("no hints can be sent for now, accepted runs wait in the record: %s", error)
                self._failing = True
            except Exception:
                log.exception("dispatch failed")
                self._stop.wait(1)
            self._stop.wait(min(PAUSE * (time.monotonic() - began), MOST_PAUSE_SECONDS))

    def dispatch(self) -> list[Hint]:
        """Send the hints that are due, and return them.

        Raises:
            RedisError, OperationalError, OSError: the broker does not take them; they are due again.
            Unavailable: the record does not answer.
        """
        if self._redis.set(EPOCH_KEY, "1", nx=True) or self._starting_over:
            # Redis is new or was emptied: whatever was sent before is gone.
            self._database.write(forget_hints)
            self._starting_over = False
        hints = take_hints(self._database, self._usual)
        sent = 0
        try:
            for hint in hints:
                self._send(hint)
                sent += 1
        finally:
            if sent < len(hints):
                unsent = hints[sent:]
                self._database.write(lambda db: put_back(db, unsent))
        while self._ends:
            self._send(self._ends.popleft())
        return hints

    def _send(self, hint: Hint) -> None:
        lane = hint.lane.value
        self._celery.send_task(EXECUTE_TASK, args=[hint.run_id], task_id=hint.run_id, queue=lane, retry=False)
        metrics.HINTS_SENT.labels(lane).inc()
        seams.passed("hinted")
