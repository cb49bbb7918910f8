"""What the CLI of an attempt says, written down as it says it."""

import math
import time
from collections.abc import Iterable, Sequence

from longwick import metrics, traces, values
from longwick.database import utc_now
from longwick.errors import Fenced, StorageFull, StorageUnavailable
from longwick.events import DELTAS, Event, EventType, notice
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.profiles import Profile
from longwick.recorder import RunLog
from longwick.text import clean
from longwick.transcript import Transcript
from worker.agents import Adapter, Ask, End, Reply
from worker.cli import Cli, Overlong
from worker.ending import Ending, failure
from worker.exchange import Exchange
from worker.keeper import Hold, Stop
from worker.parts import Parts
from worker.passes import Pass

TICK_SECONDS = 1.0
ERROR_CHARACTERS = 2000
NOT_EXECUTED = (126, 127)
"""With these setpriv, where there is no sandbox, exits instead of becoming the CLI."""
SETPRIV = "setpriv: "
SEEN = (EventType.MESSAGE_STARTED, EventType.REASONING_DELTA, EventType.TOOL_DELTA, EventType.TOOL_STARTED)
"""What shows that the agent is at work."""
DAY_IS_SPENT = "Your runs have used all that they may in a day; the next one begins at 00:00 UTC."
SECRET_CHARACTERS = 6
"""Shorter values of the environment are no secrets, and would tear holes into the text."""


class Parked(Exception):
    """The turn goes on once somebody has decided what its agent asked; it is kept waiting no longer."""


class Conversation:
    """One turn's worth of it. `shown` is what a reader has seen of it so far."""

    def __init__(self, parts: Parts, run: Run, hold: Hold, log: RunLog) -> None:
        self.profile: Profile | None = None
        self.given: Pass | None = None
        """Its pass to the gateway."""
        self.exchange = Exchange(parts, run, hold, log, self.still_ours)
        self.parts = parts
        self.run = run
        self.hold = hold
        self.log = log
        self.shown = Transcript()
        self._seen = False
        self._followed_at = utc_now()
        self.printed_bytes = 0
        self.secrets: Sequence[str] = ()
        """What the CLI was given in confidence, and may not be repeated when it fails."""

    @property
    def timeout_seconds(self) -> float:
        """The longest that the turn may take."""
        of_agent = self.profile and self.profile.timeout_seconds
        return self.run.timeout_seconds or of_agent or self.parts.settings.run_timeout_seconds

    @property
    def idle_seconds(self) -> float:
        """The longest that the CLI may be silent."""
        of_agent = self.profile and self.profile.idle_timeout_seconds
        return self.run.idle_timeout_seconds or of_agent or self.parts.settings.idle_timeout_seconds

    @property
    def most_usd(self) -> float:
        """What the turn may cost."""
        limits = (self.run.max_cost_usd, self.profile.max_cost_usd if self.profile else None)
        return min((limit for limit in limits if limit is not None), default=math.inf)

    @traces.traced("cli")
    def follow(self, process: Cli, adapter: Adapter) -> Outcome:
        """Write down all that the CLI says until its turn ends, in whatever way.

        Raises:
            Fenced: the run is no longer ours.
            Parked: it waits for a decision, for longer than a CLI is kept.
        """
        started, self._followed_at = time.monotonic(), utc_now()
        ending = Ending(process, adapter)
        while True:
            self.hold.tick()
            lines = process.poll(ending.next_step_in(TICK_SECONDS))
            self.hold.hear()
            if self.hold.stop is Stop.FENCED:
                raise Fenced("the lease is lost")
            for line in lines:
                end = self._take(line, process, adapter)
                if end is None:
                    continue
                if end.takes_more and ending.outcome is None and self._goes_on(process, adapter):
                    continue
                if end.kill:
                    process.kill()
                self._hear_of_gateway()
                return ending.outcome or self._refused() or self._outcome_of(end)
            self._hear_of_gateway()
            self.exchange.pass_on(process, adapter)
            now = time.monotonic()
            if process.ended:
                return ending.outcome or self._refused() or self._outcome_without_end(process)
            if self.hold.stop is Stop.CANCELLED:
                ending.begin(Outcome(RunStatus.CANCELLED, partial=True))
            elif self.hold.stop is Stop.OVERSPENT:
                ending.begin(failure("budget_exceeded", DAY_IS_SPENT))
            elif self.hold.stop is Stop.WORKER_SHUTDOWN:
                ending.begin(failure("worker_shutdown", "The worker was told to stop before the agent was done."))
            elif self.hold.stop is Stop.REFUSED:
                ending.begin(failure("internal_error", "The record refused some of the agent's output."))
            elif now - started > self.timeout_seconds:
                ending.begin(failure("timeout", f"The agent was not done after {self.timeout_seconds:g} s."))
            elif refused := self._refused():
                ending.begin(refused)
            elif (self.shown.cost_usd or 0) > self.most_usd:
                ending.begin(failure("budget_exceeded", f"The agent has used more than {self.most_usd:g} USD."))
            elif self._too_much():
                ending.begin(failure("budget_exceeded", f"The agent printed more than {self._most_bytes} bytes."))
            elif self.exchange.waits:
                # It is silent because we are.
                if ending.outcome is None and now - self.exchange.moved_at > self.parts.settings.park_seconds:
                    raise Parked
            elif now - max(process.heard_at, self.exchange.moved_at) > self.idle_seconds:
                ending.begin(failure("idle_timeout", f"The agent said nothing for {self.idle_seconds:g} s."))
            ending.step()

    def _take(self, line: bytes | Overlong, process: Cli, adapter: Adapter) -> End | None:
        if isinstance(line, Overlong):
            self.record([notice("warning", "overlong_line", f"The agent printed a line of {line.size} bytes.")])
            return None
        self.printed_bytes += len(line)
        if self._too_much():
            return None
        for meant in adapter.translate(line, self.shown):
            match meant:
                case End():
                    return meant
                case Reply():
                    process.write(meant.data)
                case Ask():
                    self.exchange.ask(meant, process, adapter)
                case _ if meant.type is EventType.USAGE_UPDATED and self.given:
                    self.record([Event(meant.type, self.given.merged(meant.data))])
                case _:
                    self.record([meant])
        return None

    def _hear_of_gateway(self) -> None:
        """Write down what has passed there."""
        if self.given:
            self.record(self.given.take())

    def _refused(self) -> Outcome | None:
        """How the turn ends that has asked for more than it may."""
        refused = self.given and self.given.refused
        return failure(refused.code, refused.words) if refused else None

    def _goes_on(self, process: Cli, adapter: Adapter) -> bool:
        """Whether the user has more to say to a CLI that has come to the end of its turn; it is told then."""
        self.hold.news.set()
        return self.exchange.pass_on(process, adapter)

    @property
    def _most_bytes(self) -> int:
        return self.parts.settings.output_bytes_per_run

    def _too_much(self) -> bool:
        return self.printed_bytes > self._most_bytes

    def record(self, events: Iterable[Event]) -> None:
        for event in events:
            if not self._seen and event.type in SEEN:
                self._seen = True
                traces.passed("first event", self._followed_at)
                metrics.observe_first_event(self.run, "said")
            if event.type in DELTAS:
                self.shown.add(event.type, event.data)
                kept = event
            else:
                # Only when there is space for what completes it is a block complete.
                kept = values.inline_or_refer(self.parts.database, self.parts.storage, event, self.still_ours)
                self.shown.add(event.type, event.data)
                self.hold.cost_usd = self.shown.cost_usd
            self.log.append(kept, wait=self.still_ours)

    def closing(self, *, partial: bool) -> list[Event]:
        """What completes all that is open; where storage does not take large values, with these inside."""
        return [self._kept(event) for event in self.shown.close(partial=partial)]

    def _kept(self, event: Event) -> Event:
        try:
            return values.inline_or_refer(self.parts.database, self.parts.storage, event, self.hold.tick)
        except (StorageFull, StorageUnavailable):
            return event

    def still_ours(self) -> None:
        """Called while we wait for the record: waiting is alive, but ends with the lease."""
        self.hold.tick()
        if self.hold.stop is Stop.FENCED:
            raise Fenced("the lease is lost")

    def _outcome_of(self, end: End) -> Outcome:
        if end.error_code is not None:
            return failure(end.error_code, self._redacted(clean(end.error_message or ""))[:ERROR_CHARACTERS])
        return Outcome(RunStatus.SUCCEEDED, end.text if end.text is not None else self.shown.text)

    def _outcome_without_end(self, process: Cli) -> Outcome:
        used = "The agent, with what it started,"
        if process.excess == "out_of_memory":
            most = self.parts.settings.run_memory_bytes
            return failure("out_of_memory", f"{used} used more than {most} bytes of memory.")
        if process.excess:
            most = self.parts.settings.run_processes
            return failure("too_many_processes", f"{used} was {most} processes and threads, and wanted to be more.")
        if process.returncode == 0:
            return failure("no_result", "The agent ended without a result.")
        status = process.returncode or 0
        how = f"signal {-status}" if status < 0 else f"status {status}"
        last_words = self._redacted(clean(process.stderr_tail)).strip()[-ERROR_CHARACTERS:]
        outside = self.parts.housing.isolation.bwrap is None
        if status in NOT_EXECUTED and outside and last_words.startswith(SETPRIV):
            return failure("spawn_failed", f"The agent could not be started: {last_words.removeprefix(SETPRIV)}.")
        return failure("cli_exit", f"The agent ended with {how}." + (f" It said: {last_words}" if last_words else ""))

    def _redacted(self, text: str) -> str:
        """`text` without what the CLI was given in confidence."""
        # The longest first: one may begin like another.
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= SECRET_CHARACTERS:
                text = text.replace(secret, "[removed]")
        return text
