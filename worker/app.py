"""A worker process: Celery on a pool of threads, around the parts of worker/parts.py."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from celery import signals

from longwick.errors import LongwickError
from longwick.kinds import RunKind
from longwick.queue import celery_app
from longwick.settings import Settings
from worker.inbox import hear_hints_alone
from worker.keeper import Stop
from worker.parts import Parts, assemble
from worker.strays import adopt_orphans, keep_to_itself
from worker.tasks import register

log = logging.getLogger(__name__)

BROKER_TIMEOUT_SECONDS = 4


def work(settings: Settings, lanes: Sequence[RunKind], concurrency: int) -> None:
    """Run a worker until it is told to stop, and then until its runs have ended."""
    adopt_orphans()
    keep_to_itself()
    with assemble(settings, lanes, concurrency) as parts:
        hear_hints_alone(parts.keeper.is_in_touch)
        app = celery_app(settings.redis, socket_timeout=BROKER_TIMEOUT_SECONDS)
        app.conf.update(
            broker_transport_options=app.conf.broker_transport_options | {"queue_order_strategy": "priority"}
        )
        register(app, parts)

        def drain(**_: Any) -> None:
            parts.draining.set()
            threading.Thread(target=_drain, args=(parts,), name="drain", daemon=True).start()

        signals.worker_shutting_down.connect(drain)
        app.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=threads",
                f"--concurrency={concurrency}",
                f"--queues={','.join(lane.value for lane in lanes)}",
                f"--hostname={parts.worker_id}@%h",
                f"--loglevel={settings.log_level}",
                "--task-events",
                "--without-gossip",
                "--without-mingle",
            ]
        )


def _drain(parts: Parts) -> None:
    """Let the runs finish within the limit, then end those that have not."""
    try:
        parts.keeper.take_no_more()
    except LongwickError as error:
        log.warning("the record was not told that this worker stops: %s", error)
    limit = parts.settings.drain_seconds
    log.info("told to stop: %d runs have %g s to finish", len(parts.keeper.holds()), limit)
    threading.Event().wait(limit)
    parts.keeper.stop_all(Stop.WORKER_SHUTDOWN)
