"""The parts that a worker is made of, put together in one place."""

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from longwick import metrics, traces
from longwick.agents import Roster
from longwick.broadcast import Publisher
from longwick.database import Database
from longwick.ids import new_id
from longwick.kinds import RunKind
from longwick.leases import Listed
from longwick.limits import Limits
from longwick.models import JsonObject
from longwick.profiles import Profile
from longwick.queue import Dispatcher
from longwick.recorder import Recorder
from longwick.settings import Settings
from longwick.storage import Storage, storage_of
from worker.gateway import Gateway
from worker.housing import Housing
from worker.keeper import Keeper
from worker.process import live_pids
from worker.pruner import Pruner
from worker.shared import SharedServers
from worker.spares import Spares
from worker.sweeper import Sweeper, proof_of_life


@dataclass(frozen=True)
class Parts:
    """What executing a run takes."""

    settings: Settings
    limits: Limits
    """What an owner may have who is no exception."""
    worker_id: str
    agents: Mapping[str, Profile]
    database: Database
    storage: Storage
    recorder: Recorder
    dispatcher: Dispatcher
    keeper: Keeper
    gateway: Gateway
    housing: Housing
    shared: SharedServers
    spares: Spares
    draining: threading.Event = field(default_factory=threading.Event)
    """Set when this worker was told to stop: it claims no more runs."""


def capacity(lanes: Sequence[RunKind], concurrency: int) -> dict[str, int]:
    """Lane -> runs that may be outstanding on the account of a worker with so many slots.

    Half as many more than slots, so that a slot that falls free finds its next hint waiting, and an owner who comes
    late to a full worker still gets the slot of one of those at work. Where chats share the slots, background runs get
    half of them and no hint in advance, so that they never fill what chats wait for.
    """
    shared = RunKind.CHAT in lanes and RunKind.BACKGROUND in lanes
    return {
        lane.value: max(1, concurrency // 2) if shared and lane is RunKind.BACKGROUND else concurrency * 3 // 2
        for lane in lanes
    }


def pool_size(concurrency: int) -> int:
    """How many connections to the record a worker with so many slots keeps; for a moment it may have twice as many."""
    return concurrency + 8


def about(roster: Roster, housing: Housing) -> JsonObject:
    """What the list of workers says of each agent, and of how it is kept to itself."""
    kept = str(housing.isolation)
    return {
        name: {"unavailable": housing.reason_against(each), "concurrency": each.concurrency, "isolation": kept}
        for name, each in roster.items()
    }


@contextmanager
def assemble(settings: Settings, lanes: Sequence[RunKind], concurrency: int) -> Iterator[Parts]:
    """Build all parts and start their threads; on leaving, stop them in the opposite order."""
    worker_id = new_id("wrk")
    roster = Roster(settings)
    limits = Limits.usual(settings)
    with ExitStack() as stack:
        stack.callback(traces.end)
        database = Database(settings.database, pool_size=pool_size(concurrency))
        stack.callback(database.dispose)
        publisher = stack.enter_context(Publisher(settings.redis, database))

        def tell(announced: list[Any]) -> None:
            metrics.count(announced)
            publisher.publish(announced)

        database.after_commit = tell
        dispatcher = Dispatcher(database, settings.redis, limits)
        stack.enter_context(proof_of_life(settings, database, worker_id, dispatcher.tell_end))
        stack.enter_context(dispatcher)
        home = settings.data_dir / "workers" / f"{worker_id}.home"
        gateway = stack.enter_context(Gateway(settings.mcp_url))
        housing = Housing(settings, database, gateway, home)
        listed = Listed(
            worker_id,
            socket.gethostname(),
            os.getpid(),
            capacity(lanes, concurrency),
            about(roster, housing),
        )
        keeper = stack.enter_context(Keeper(settings, database, listed, lambda: about(roster, housing)))
        storage = storage_of(settings)
        stack.enter_context(Sweeper(settings, database, dispatcher))
        stack.enter_context(Pruner(settings, database, storage))
        recorder = stack.enter_context(Recorder(database))
        metrics.CLIS_RUNNING.set_function(lambda: len(live_pids))
        metrics.watch_space(settings.data_dir)
        stack.enter_context(metrics.served(settings.worker_metrics_host, settings.worker_metrics_port))
        dispatcher.wake()
        # Asked once beforehand, as it takes as long as the programs do.
        threading.Thread(target=lambda: [p.started for p in roster.values()], name="versions", daemon=True).start()
        yield Parts(
            settings=settings,
            limits=limits,
            worker_id=worker_id,
            agents=roster,
            database=database,
            storage=storage,
            recorder=recorder,
            dispatcher=dispatcher,
            keeper=keeper,
            gateway=gateway,
            housing=housing,
            spares=stack.enter_context(Spares(settings, database, gateway, housing, home / "spares")),
            shared=stack.enter_context(SharedServers(gateway, housing, home)),
        )
