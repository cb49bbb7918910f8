"""The story of one attempt, from claimed to settled."""

import logging
import time
from collections.abc import Iterable
from typing import BinaryIO

from longwick import artifacts, metrics, runs, sessions, threads, transcript, values
from longwick.agents import Profile
from longwick.artifacts import Quota, Save
from longwick.database import Db
from longwick.errors import Fenced, LongwickError, StorageFull, Unavailable
from longwick.events import Event, notice
from longwick.logs import bound
from longwick.models import Run, RunStatus
from longwick.recorder import RunLog
from longwick.runs import Outcome
from longwick.settings import environ_values
from longwick.storage import CHUNK
from longwick.text import clean
from longwick.transcript import Transcript
from worker.agents import Adapter, End, Said, Turn, adapter_for
from worker.ending import Ending, failure
from worker.keeper import Hold, Stop
from worker.parts import Parts
from worker.process import CliProcess, Overlong
from worker.strays import kill_adopted
from worker.workspace import Workspace, workspace

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LINGER_SECONDS = 30.0
"""How long a CLI that has given its result may take to exit."""
ERROR_CHARACTERS = 2000
SECRET_CHARACTERS = 6
"""Shorter values of the environment are no secrets, and would tear holes into the text."""


def execute(parts: Parts, run_id: str) -> Run | None:
    """Claim a run, run its agent, settle it. None when the run was not to be had, or was taken away meanwhile."""
    claimed_at = time.monotonic()
    run = parts.database.write(lambda db: runs.claim(db, run_id, parts.worker_id, {}))
    if run is None:
        return None
    if run.attempt == 1 and run.started_at:
        metrics.QUEUE_SECONDS.labels(run.kind).observe(max(0, (run.started_at - run.created_at).total_seconds()))
    hold = parts.keeper.hold(run.id, run.attempt, claimed_at)
    run_log = parts.recorder.open(run.id, run.attempt, on_fenced=lambda: hold.ask_to_stop(Stop.FENCED))
    attempt = Attempt(parts, run, hold, run_log)
    with bound(run_id=run.id, attempt=run.attempt):
        try:
            attempt.run_agent()
        except Fenced:
            log.warning("the attempt is over, by somebody else's hand")
        except StorageFull as error:
            attempt.settle(failure(error.code, "No space is left for what the agent makes."))
        except Exception:
            # No bug of ours may leave a run beating for ever.
            log.exception("the attempt failed")
            attempt.settle(failure("internal_error", "Longwick itself failed; its log says how."))
        finally:
            parts.keeper.release(hold)
            parts.recorder.close(run_log)
            hold.close()
    return attempt.settled


class Attempt:
    """What one attempt knows while it lasts."""

    def __init__(self, parts: Parts, run: Run, hold: Hold, run_log: RunLog) -> None:
        self.parts = parts
        self.run = run
        self.hold = hold
        self.log = run_log
        self.shown = Transcript()
        self.settled: Run | None = None
        self.session_id: str | None = None
        self.secrets: list[str] = []

    def run_agent(self) -> None:
        """The main flow. Ends with the run settled, unless somebody else was first (`Fenced`)."""
        profile = self.parts.agents.get(self.run.agent)
        reason = "no worker knows it" if profile is None else profile.unavailable()
        if profile is None or reason:
            self.settle(failure("agent_unavailable", f"The agent {self.run.agent!r} cannot run here: {reason}."))
            return
        turn = self._prepare()
        with workspace(self.parts.settings.data_dir, turn) as folder:
            adapter = adapter_for(profile, turn)
            try:
                process = self._spawn(profile, turn, adapter, folder)
            except OSError as error:
                self.settle(failure("spawn_failed", f"The agent could not be started: {error.strerror or error}."))
                return
            with process:
                outcome = self._follow(process, adapter)
                if outcome.error_code == "worker_shutdown" and self._hand_back():
                    return
                self._collect(folder)
                self.settle(outcome)
                self._let_it_exit(process)
            kill_adopted(self.run.id)

    def _prepare(self) -> Turn:
        """Register the session, note that the CLI is about to start, and gather what it is told; in one transaction."""
        run, wants_files = self.run, self.run.artifact_generation

        def prepare(db: Db) -> tuple[list[Said], sessions.Opened | None, Transcript]:
            session = sessions.open_session(db, run, self._timeout() + 60) if wants_files else None
            runs.mark_spawned(db, run)
            history = [Said(message.role.value, message.text) for message in threads.history(db, run)]
            return history, session, transcript.of_run(db, run.id) if run.attempt > 1 else Transcript()

        history, session, self.shown = self.parts.database.write(prepare)
        self.session_id = session.id if session else None
        token = session.token if session else None
        return Turn(
            run.id,
            run.thread_id,
            run.attempt,
            run.input,
            history,
            run.model,
            self.shown.text,
            mcp_url=self.parts.settings.mcp_url if token else None,
            mcp_token=token,
        )

    def _spawn(self, profile: Profile, turn: Turn, adapter: Adapter, folder: Workspace) -> CliProcess:
        launch = adapter.launch(folder.work)
        self.secrets = [turn.mcp_token or "", *environ_values(profile.pass_env).values(), *profile.env.values()]
        env = folder.environ(profile, turn, launch.env)
        process = CliProcess(launch.argv, env=env, folder=folder.work, wake=self.hold.wake)
        self.hold.kill = process.kill
        process.write(launch.opening)
        return process

    def _follow(self, process: CliProcess, adapter: Adapter) -> Outcome:
        """Write down all that the CLI says until its turn ends, in whatever way."""
        run, settings = self.run, self.parts.settings
        started = heard = time.monotonic()
        idle_seconds = run.idle_timeout_seconds or settings.idle_timeout_seconds
        ending = Ending(process, adapter)
        while True:
            self.hold.tick()
            lines = process.poll(ending.next_step_in(TICK_SECONDS))
            self.hold.hear()
            if self.hold.stop is Stop.FENCED:
                raise Fenced("the lease is lost")
            for line in lines:
                end = self._take(line, adapter)
                if end is not None:
                    return ending.outcome or self._outcome_of(end)
            now = time.monotonic()
            heard = now if lines else heard
            if process.ended:
                return ending.outcome or self._outcome_without_end(process)
            if self.hold.stop is Stop.CANCELLED:
                ending.begin(Outcome(RunStatus.CANCELLED, partial=True))
            elif self.hold.stop is Stop.WORKER_SHUTDOWN:
                ending.begin(failure("worker_shutdown", "The worker was told to stop before the agent was done."))
            elif now - started > self._timeout():
                ending.begin(failure("timeout", f"The agent was not done after {self._timeout():g} s."))
            elif run.max_cost_usd is not None and self._cost() > run.max_cost_usd:
                ending.begin(failure("budget_exceeded", f"The agent has used more than {run.max_cost_usd:g} USD."))
            elif now - heard > idle_seconds:
                ending.begin(failure("idle_timeout", f"The agent said nothing for {idle_seconds:g} s."))
            ending.step()

    def _take(self, line: bytes | Overlong, adapter: Adapter) -> End | None:
        if isinstance(line, Overlong):
            self._record([notice("warning", "overlong_line", f"The agent printed a line of {line.size} bytes.")])
            return None
        for meant in adapter.translate(line, self.shown):
            if isinstance(meant, End):
                return meant
            self._record([meant])
        return None

    def _record(self, events: Iterable[Event]) -> None:
        for event in events:
            self.shown.add(event.type, event.data)
            kept = values.inline_or_refer(self.parts.database, self.parts.storage, event)
            self.log.append(kept, wait=self._still_ours)

    def _still_ours(self) -> None:
        """Called while we wait for the record: waiting is alive, but ends with the lease."""
        self.hold.tick()
        if self.hold.stop is Stop.FENCED:
            raise Fenced("the lease is lost")

    def _outcome_of(self, end: End) -> Outcome:
        if end.error_code is not None:
            return failure(end.error_code, clean(end.error_message or "")[:ERROR_CHARACTERS])
        return Outcome(RunStatus.SUCCEEDED, end.text if end.text is not None else self.shown.text)

    def _outcome_without_end(self, process: CliProcess) -> Outcome:
        if process.returncode == 0:
            return failure("no_result", "The agent ended without a result.")
        status = process.returncode or 0
        how = f"signal {-status}" if status < 0 else f"status {status}"
        last_words = self._redacted(clean(process.stderr_tail)).strip()[-ERROR_CHARACTERS:]
        return failure("cli_exit", f"The agent ended with {how}." + (f" It said: {last_words}" if last_words else ""))

    def _redacted(self, text: str) -> str:
        """`text` without what the CLI was given in confidence."""
        for secret in self.secrets:
            if len(secret) >= SECRET_CHARACTERS:
                text = text.replace(secret, "[removed]")
        return text

    def _collect(self, folder: Workspace) -> None:
        """Save what the CLI left in ./artifacts/, as if by save_artifact."""
        if self.session_id is None:
            return
        for name, file in folder.left_files():
            try:
                self._save_left(name, file)
            except Fenced:
                return
            except LongwickError as error:
                self._record([notice("warning", error.code, f"The file {clean(name)!r} was not saved: {error.detail}")])

    def _save_left(self, name: str, file: BinaryIO) -> None:
        settings = self.parts.settings
        artifacts.check_name(name)
        session_id = self.session_id
        assert session_id is not None
        media_type = artifacts.check_media_type(None, name, text=False)
        stored = self.parts.storage.put(iter(lambda: file.read(CHUNK), b""), limit=settings.artifact_bytes)
        quota = Quota(settings.artifacts_per_run, settings.artifact_bytes_per_run)
        self.parts.database.write(lambda db: artifacts.save(db, session_id, Save(name, media_type, stored), quota))

    def settle(self, outcome: Outcome) -> None:
        """Write the end into the record: the log first, then the terminal status with its event. Until it is done."""
        text = outcome.text or self.shown.text
        usage = self.shown.usage or {}
        whole = Outcome(
            outcome.status,
            text,
            outcome.partial,
            outcome.error_code,
            outcome.error_message,
            {name: count for name, count in usage.items() if name != "cost_usd"} or None,
            self._cost() if "cost_usd" in usage else None,
        )
        closing = [
            values.inline_or_refer(self.parts.database, self.parts.storage, event)
            for event in self.shown.close(partial=outcome.partial)
        ]
        try:
            self.log.flush(wait=self._still_ours)
        except Fenced:
            raise
        except Exception:
            log.exception("some events were refused by the record")
            whole = failure("internal_error", "The record refused some of the agent's output; the log says why.")
        while self.hold.stop is not Stop.FENCED:
            self.hold.tick()
            try:
                self.settled = self.parts.database.write(
                    lambda db: runs.settle(db, self.run.id, self.run.attempt, whole, closing)
                )
                break
            except Unavailable as error:
                log.warning("the record does not take the end of the run yet: %s", error)
                time.sleep(0.2)
        self.parts.keeper.release(self.hold)
        self.parts.dispatcher.wake()

    def _let_it_exit(self, process: CliProcess) -> None:
        """The run is over; give its CLI time to end by itself, and drop what it still says."""
        process.close_input()
        deadline = time.monotonic() + LINGER_SECONDS
        while not process.ended and time.monotonic() < deadline and not self._told_to_stop():
            process.poll(min(TICK_SECONDS, max(0.0, deadline - time.monotonic())))
            self.hold.hear()

    def _told_to_stop(self) -> bool:
        return self.hold.stop is not None or self.parts.draining.is_set()

    def _hand_back(self) -> bool:
        """Give the run to the next worker, where its caller has said that it may be started again."""
        self.log.flush(wait=self._still_ours)
        closing = self.shown.close(partial=True)
        handed = self.parts.database.write(
            lambda db: runs.requeue(db, self.run.id, self.run.attempt, "its worker was told to stop", closing)
        )
        return handed is not None

    def _cost(self) -> float:
        cost = (self.shown.usage or {}).get("cost_usd")
        return float(cost) if isinstance(cost, int | float) else 0.0

    def _timeout(self) -> float:
        return self.run.timeout_seconds or self.parts.settings.run_timeout_seconds
