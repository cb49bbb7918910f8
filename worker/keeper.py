"""Keeps the leases of this worker's runs alive, learns who wants a run stopped, and lets go in time.

Three threads, each with one worry. `beats` renews the leases of the runs whose own thread has shown a sign of life,
and reads the wishes to cancel. `guard` looks at nothing but this process's clock: a run that could not be renewed is
killed before anybody may claim it. `wishes` listens to Redis, so that a cancel need not wait for the next beat.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Self

from redis.exceptions import RedisError

from longwick import approvals, leases, metrics, spending, steering
from longwick.broadcast import NEWS_CHANNEL, PAUSE_SECONDS, connect
from longwick.database import Database, Db
from longwick.errors import LongwickError
from longwick.leases import Listed
from longwick.models import JsonObject
from longwick.settings import Settings

log = logging.getLogger(__name__)

# Of the lease, how much may pass without a beat before the CLI is killed. The rest is for killing it.
SELF_FENCE = 0.75
# Of the time between two beats, how much makes the second a late one, and the record one that cannot be reached.
LATE_BEATS = 1.5


class Stop(Enum):
    """Why a run's CLI is to be ended, the weightiest last."""

    CANCELLED = 1
    OVERSPENT = 2
    WORKER_SHUTDOWN = 3
    REFUSED = 4
    FENCED = 5


class Hold:
    """This worker's hold on one run: its thread ticks, and looks at `stop` whenever `wake` is readable."""

    def __init__(self, run_id: str, attempt: int, claimed_at: float) -> None:
        self.run_id = run_id
        self.attempt = attempt
        self.stop: Stop | None = None
        self.traceparent: str | None = None
        """The part of a trace that the attempt is, for what goes on elsewhere on its behalf."""
        self.kill: Callable[[], None] = lambda: None
        """Ends the CLI at once, whatever the run's thread is doing."""
        self.asking: tuple[str, ...] = ()
        """Ids of the approvals that its CLI waits for."""
        self.news = threading.Event()
        """Set when the record may have something for the CLI: a decision, or more that the user has to say."""
        self.cost_usd: float | None = None
        """What the run has cost so far, as far as it is known."""
        self.renewed_at = claimed_at
        self.ticked = True
        self._ears, self._mouth = socket.socketpair()
        self._ears.setblocking(False)
        self.wake = self._ears.fileno()

    def tick(self) -> None:
        """The run's thread is alive, and not stuck."""
        self.ticked = True

    def ask_to_stop(self, why: Stop) -> None:
        """Have the run's thread end its CLI; a weightier reason replaces a lighter one."""
        if self.stop is None or why.value > self.stop.value:
            self.stop = why
            self.nudge()

    def tell_news(self) -> None:
        """Have the run's thread look at the record."""
        self.news.set()
        self.nudge()

    def nudge(self) -> None:
        """Have the run's thread look around."""
        with contextlib.suppress(OSError):
            self._mouth.send(b"!")

    def hear(self) -> None:
        """Take note of the wake-ups so far."""
        with contextlib.suppress(BlockingIOError):
            self._ears.recv(64)

    def close(self) -> None:
        self._ears.close()
        self._mouth.close()


class Keeper:
    """The holds of this worker, and its place on the list of workers. Enter it to start its threads."""

    def __init__(
        self, settings: Settings, database: Database, listed: Listed, agents: Callable[[], JsonObject] | None = None
    ) -> None:
        """`agents` tells what the list is to say of them, whenever it is asked."""
        self._agents = agents or (lambda: listed.agents)
        self._settings = settings
        self._database = database
        self._listed = listed
        self._holds: dict[str, Hold] = {}
        self._beaten_at = time.monotonic()
        self._lock = threading.Lock()
        self._look = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat_for_ever, name="beats", daemon=True),
            threading.Thread(target=self._guard_for_ever, name="guard", daemon=True),
            threading.Thread(target=self._listen_for_ever, name="wishes", daemon=True),
        ]

    def __enter__(self) -> Self:
        self._database.write(lambda db: leases.list_worker(db, self._listed))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._look.set()
        for thread in self._threads:
            thread.join(2)
        with contextlib.suppress(LongwickError):
            self._database.write(lambda db: leases.retire_worker(db, self._listed.id))

    def hold(self, run_id: str, attempt: int, claimed_at: float) -> Hold:
        """Answer for a run; `claimed_at` is the monotonic time just before it was claimed."""
        hold = Hold(run_id, attempt, claimed_at)
        with self._lock:
            self._holds[run_id] = hold
        return hold

    def release(self, hold: Hold) -> None:
        """The attempt is over: settled, or no longer ours."""
        with self._lock:
            if self._holds.get(hold.run_id) is hold:
                del self._holds[hold.run_id]

    def holds(self) -> list[Hold]:
        """What this worker answers for now."""
        with self._lock:
            return list(self._holds.values())

    def is_in_touch(self) -> bool:
        """Whether the record has taken a beat of late, and so would let a run be claimed."""
        return not self._is_late(time.monotonic())

    def _is_late(self, now: float) -> bool:
        return now - self._beaten_at > LATE_BEATS * self._settings.beat_seconds

    def take_no_more(self) -> None:
        """Have no more runs dispatched on this worker's account."""
        self._listed = replace(self._listed, capacity={})
        self._database.write(lambda db: leases.list_worker(db, self._listed))

    def stop_all(self, why: Stop) -> None:
        """End every CLI."""
        for hold in self.holds():
            hold.ask_to_stop(why)

    def _beat_for_ever(self) -> None:
        next_beat = self._beaten_at = time.monotonic()
        while not self._stopping.is_set():
            try:
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + self._settings.beat_seconds
                    self.beat()
                else:
                    self.look_for_wishes()
            except LongwickError as error:
                log.warning("the record took no beat: %s", error)
            except Exception:
                log.exception("a beat failed")
            self._look.wait(max(0.0, next_beat - time.monotonic()))
            self._look.clear()

    def beat(self) -> None:
        """Renew the leases of the runs that have ticked; those that are no longer ours are fenced."""
        if (agents := self._agents()) != self._listed.agents:
            self._listed = replace(self._listed, agents=agents)
            self._database.write(lambda db: leases.list_worker(db, self._listed))
        alive = [hold for hold in self.holds() if hold.ticked]
        for hold in alive:
            hold.ticked = False
        asked_at = time.monotonic()
        held = [(hold.run_id, hold.attempt) for hold in alive]
        costs = {hold.run_id: hold.cost_usd for hold in alive}
        renewed = self._database.write(lambda db: leases.beat(db, self._listed, held, costs))
        if self._is_late(asked_at):
            metrics.BEATS_LATE.inc()
        self._beaten_at = asked_at
        for hold in alive:
            if hold.run_id in renewed:
                hold.renewed_at = asked_at
            else:
                hold.ask_to_stop(Stop.FENCED)
        self.look_for_wishes()

    def look_for_wishes(self) -> None:
        """Ask the record which of our runs are to end, and for which it has something else."""
        holds = {hold.run_id: hold for hold in self.holds()}
        if not holds:
            return
        asking = [approval for hold in holds.values() for approval in hold.asking]

        def look(db: Db) -> tuple[set[str], set[str], set[str]]:
            cancelled = leases.cancel_wishes(db, list(holds))
            spent = spending.overspent(db, list(holds), self._settings.spend_usd_per_owner_per_day)
            news = steering.runs_with_undelivered(db, list(holds))
            return cancelled, spent, news | (approvals.runs_decided(db, asking) if asking else set())

        cancelled, spent, told = self._database.read(look)
        for run_id in cancelled:
            holds[run_id].ask_to_stop(Stop.CANCELLED)
        for run_id in spent:
            holds[run_id].ask_to_stop(Stop.OVERSPENT)
        for run_id in told & holds.keys():
            holds[run_id].tell_news()

    def _guard_for_ever(self) -> None:
        limit = self._settings.lease_seconds * SELF_FENCE
        while not self._stopping.wait(limit / 20):
            for hold in self.holds():
                if time.monotonic() - hold.renewed_at > limit:
                    if hold.stop is not Stop.FENCED:
                        metrics.SELF_FENCES.inc()
                        log.error("%s was not renewed in time, its CLI is killed", hold.run_id)
                    hold.kill()
                    hold.ask_to_stop(Stop.FENCED)

    def _listen_for_ever(self) -> None:
        while not self._stopping.is_set():
            try:
                with connect(self._settings.redis) as redis, redis.pubsub(ignore_subscribe_messages=True) as heard:
                    heard.subscribe(NEWS_CHANNEL)
                    while not self._stopping.is_set():
                        message = heard.get_message(timeout=0.4)
                        if message and message["data"].decode("ascii", "replace") in self._holds:
                            self._look.set()
            except (RedisError, OSError, ValueError):
                metrics.REDIS_FAILURES.labels("listen").inc()
                # Wishes are in the record, and read with the next beat.
                self._stopping.wait(PAUSE_SECONDS)
