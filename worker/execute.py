"""The story of one attempt, from claimed to settled."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from longwick import approvals, artifacts, limits, metrics, runs, seams, sessions, threads, traces, transcript
from longwick.database import Db
from longwick.errors import Fenced, NotFound, StorageFull, StorageUnavailable, Unavailable
from longwick.events import Event
from longwick.kinds import RunStatus
from longwick.logs import bound
from longwick.models import Artifact, Run
from longwick.outcomes import Outcome
from longwick.profiles import Profile
from longwick.recorder import RunLog
from longwick.text import clean
from longwick.transcript import Block
from worker.agents import Adapter, Picture, Said, Turn, adapter_for
from worker.cli import Cli
from worker.conversation import Conversation, Parked
from worker.ending import failure, let_it_exit
from worker.keeper import Hold, Stop
from worker.left_files import save_left_files
from worker.parts import Parts
from worker.passes import Pass
from worker.spares import Spare
from worker.strays import kill_adopted
from worker.thread_folder import ThreadFolder
from worker.workspace import Workspace, workspace

log = logging.getLogger(__name__)

MOST_PICTURE_BYTES = 4 * 2**20
"""Larger images are refused by providers; the agent finds them in its folder."""


def execute(parts: Parts, run_id: str) -> Run | None:
    """Claim a run, run its agent, settle it. None when the run was not to be had, or was taken away meanwhile."""
    claimed_at = time.monotonic()
    started = {name: profile.started for name, profile in parts.agents.items()}
    usual = parts.limits
    with traces.span("claim"):
        run = parts.database.write(
            lambda db: limits.capped(db, runs.claim(db, run_id, parts.worker_id, started, usual), usual)
        )
    if run is None:
        return None
    seams.passed("claimed")
    if run.attempt == 1 and run.started_at:
        traces.passed("queued", run.created_at, parent=run.traceparent, hints=run.hints)
        metrics.QUEUE_SECONDS.labels(run.kind).observe(max(0, (run.started_at - run.created_at).total_seconds()))
    hold = parts.keeper.hold(run.id, run.attempt, claimed_at)

    def refused() -> None:
        hold.ask_to_stop(Stop.FENCED if isinstance(run_log.error, Fenced) else Stop.REFUSED)

    first = partial(metrics.observe_first_event, run, "committed")
    run_log = parts.recorder.open(run.id, run.attempt, on_fenced=refused, on_first=first)
    attempt = Attempt(parts, run, hold, run_log)
    with bound(run_id=run.id, attempt=run.attempt), traces.span("attempt", **about(run)):
        hold.traceparent = traces.current()
        try:
            attempt.run_agent()
        except Fenced:
            log.warning("the attempt is over, by somebody else's hand")
        except (StorageFull, StorageUnavailable) as error:
            attempt.settle(failure(error.code, f"What the agent makes cannot be kept: {error.detail}."))
        except Exception:
            # No bug of ours may leave a run beating for ever.
            log.exception("the attempt failed")
            attempt.settle(failure("internal_error", "Longwick itself failed; its log says how."))
        finally:
            parts.keeper.release(hold)
            parts.recorder.close(run_log)
            hold.close()
    return attempt.settled


def about(run: Run) -> dict[str, Any]:
    """What a trace tells of a run."""
    ended = {"status": run.status.value, "failed": run.error_code, "cost_usd": run.cost_usd}
    same = {"run_id": run.id, "thread_id": run.thread_id, "agent": run.agent, "model": run.model}
    return {**same, "kind": run.kind.value, "attempt": run.attempt, **(ended if run.status.terminal else {})}


class Attempt:
    """What one attempt knows while it lasts."""

    def __init__(self, parts: Parts, run: Run, hold: Hold, run_log: RunLog) -> None:
        self.parts = parts
        self.run = run
        self.hold = hold
        self.log = run_log
        self.conversation = Conversation(parts, run, hold, run_log)
        self.settled: Run | None = None
        self.session_id: str | None = None
        self.given: Pass

    def run_agent(self) -> None:
        """The main flow. Ends with the run settled, unless somebody else was first (`Fenced`)."""
        profile = self.parts.agents.get(self.run.agent)
        reason = "no worker knows it" if profile is None else self.parts.housing.reason_against(profile)
        if profile is None or reason:
            self.settle(failure("agent_unavailable", f"The agent {self.run.agent!r} cannot run here: {reason}."))
            return
        self.conversation.profile = profile
        spare = self.parts.spares.take(profile, self.run)
        with ExitStack() as stack:
            folder = stack.enter_context(
                spare or workspace(self.parts.settings.data_dir, self.run.id, self.run.attempt)
            )
            self.given = spare.given if spare else stack.enter_context(self.parts.gateway.issued(profile))
            self.conversation.given = self.given
            follows = profile.workspace == "thread"
            thread_folder = ThreadFolder(self.parts, self.run, folder, self.conversation, follows=follows)
            try:
                thread_folder.restore()
                turn = self._prepare(spare.token if spare else None)
            except Unavailable as error:
                log.warning("what is needed went away before the agent was started: %s", error)
                if not self._give_back("the record or its files went away before the agent was started"):
                    words = "The record or its files went away each time before the agent could start."
                    self.settle(failure("lost_too_often", words))
                return
            except (NotFound, OSError) as error:
                self.settle(failure("spawn_failed", f"The thread's folder could not be restored: {clean(str(error))}."))
                return
            adapter = adapter_for(profile, turn)
            try:
                process = self._spawn(profile, turn, adapter, folder, spare)
            except OSError as error:
                self.settle(failure("spawn_failed", f"The agent could not be started: {error.strerror or error}."))
                return
            try:
                with process:
                    outcome = self.conversation.follow(process, adapter)
                    # From now on nobody would write down what it uses.
                    self.parts.gateway.revoke(self.given)
                    seams.passed("cli ended")
                    thread_folder.store(self._until_done)
                    if outcome.error_code == "worker_shutdown" and self._give_back("its worker was told to stop"):
                        return
                    if self.session_id:
                        save_left_files(self.parts, self.conversation, self.session_id, folder)
                    self.settle(outcome)
                    let_it_exit(process, self.hold, self.parts.draining)
            except Parked:
                thread_folder.store(self._until_done)
                self._park()
            finally:
                kill_adopted(self.run.id)

    @traces.traced("prepare")
    def _prepare(self, token: str | None) -> Turn:
        """Register the session, note that the CLI is about to start, and gather what it is told; in one transaction."""
        run, wants_files = self.run, self.run.artifact_generation

        def prepare(db: Db) -> tuple[list[Said], sessions.Opened | None]:
            lifetime = self.conversation.timeout_seconds + 60
            opened = sessions.open_session(db, run, lifetime, token, self.hold.traceparent) if wants_files else None
            runs.mark_spawned(db, run)
            if run.attempt > 1:
                self.conversation.shown = transcript.of_run(db, run.id)
                self.conversation.exchange.decided = approvals.of_parked(db, run)
                done[:] = transcript.blocks(db, run.id)
            attached[:] = artifacts.pictures_of_turn(db, run, MOST_PICTURE_BYTES)
            return [Said(role.value, text) for role, text in threads.history(db, run)], opened

        done: list[Block] = []
        attached: list[Artifact] = []
        history, session = self.parts.database.write(prepare)
        seams.passed("spawn marked")
        self.session_id = session.id if session else None
        shown = self.conversation.shown
        self.given.traceparent = self.hold.traceparent
        self.given.bind(
            run.id,
            run.attempt,
            max_cost_usd=self.conversation.most_usd,
            used=shown.usage,
            cost_usd=shown.cost_usd,
            wake=self.hold.nudge,
        )
        return Turn(
            run.id,
            run.thread_id,
            run.attempt,
            run.input,
            history,
            run.model,
            self.conversation.shown.text,
            done,
            list(self.conversation.exchange.decided),
            [self._picture(file) for file in attached],
            max_cost_usd=run.max_cost_usd,
            mcp_url=self.parts.housing.mcp_url if session else None,
            mcp_near=self.parts.settings.mcp_url,
            mcp_token=session.token if session else None,
            gateway_url=self.parts.housing.gateway_url,
            gateway_token=self.given.token,
        )

    def _picture(self, file: Artifact) -> Picture:
        with self.parts.storage.open(file.sha256) as stored:
            return Picture(file.name, file.media_type, stored.read())

    @traces.traced("spawn")
    def _spawn(self, profile: Profile, turn: Turn, adapter: Adapter, folder: Workspace, spare: Spare | None) -> Cli:
        launch = adapter.launch(folder.work, folder.home)
        given = [turn.mcp_token or "", turn.gateway_token, *profile.environ.values()]
        self.conversation.secrets = given
        env = folder.environ(profile, turn, launch.env)
        process: Cli
        if launch.shared:
            process = self.parts.shared.join(profile, launch, adapter.interrupt, self.hold.wake)
        elif spare:
            process = spare.process
            spare.process.wake_by(self.hold.wake)
            process.write(launch.opening)
        else:
            process = self.parts.housing.start(
                profile, launch.argv, env, folder.folder, folder.work, given=self.given, wake=self.hold.wake
            )
            process.write(launch.opening)
        seams.passed("spawned")
        self.hold.kill = process.kill
        return process

    @traces.traced("settle")
    def settle(self, outcome: Outcome) -> None:
        """Write the end into the record: the log first, then the terminal status with its event. Until it is done."""
        if self.settled is not None:
            return
        shown = self.conversation.shown
        text = outcome.text if outcome.status is RunStatus.SUCCEEDED else outcome.text or shown.text
        whole = Outcome(
            outcome.status,
            text,
            outcome.partial,
            outcome.error_code,
            outcome.error_message,
            shown.usage,
            shown.cost_usd,
        )
        closing = self.conversation.closing(partial=outcome.partial)
        try:
            self.log.flush(wait=self.conversation.still_ours)
        except Fenced:
            raise
        except Exception:
            log.exception("some events were refused by the record")
            refused = failure("internal_error", "The record refused some of the agent's output; the log says why.")
            whole = replace(refused, usage=shown.usage, cost_usd=shown.cost_usd)

        def settle() -> None:
            self.settled = self.parts.database.write(
                lambda db: runs.settle(db, self.run.id, self.run.attempt, whole, closing)
            )

        seams.passed("settling")
        self._until_done(settle)
        seams.passed("settled")
        self.parts.keeper.release(self.hold)
        self.parts.dispatcher.wake()

    def _until_done(self, write: Callable[[], object]) -> None:
        """Write to the record, as soon as it takes it; not at all once the run is no longer ours."""
        while self.hold.stop is not Stop.FENCED:
            self.hold.tick()
            try:
                write()
                break
            except Unavailable as error:
                log.warning("the record does not take the end of the run yet: %s", error)
                time.sleep(0.2)

    def _give_back(self, reason: str) -> bool:
        """Give the run to the next worker, where it was not started yet or may be started again."""
        return self._hand_on(lambda db, closing: runs.requeue(db, self.run.id, self.run.attempt, reason, closing))

    def _park(self) -> None:
        """Let the run wait for a decision without a worker."""
        if not self._hand_on(lambda db, closing: approvals.park(db, self.run.id, self.run.attempt, closing)):
            self.settle(Outcome(RunStatus.CANCELLED, partial=True))

    def _hand_on(self, write: Callable[[Db, list[Event]], Run | None]) -> bool:
        """End the attempt so that the run can go on with another; whether it was still to be had."""
        self.log.flush(wait=self.conversation.still_ours)
        closing = self.conversation.closing(partial=True)
        handed: list[Run | None] = []
        self._until_done(lambda: handed.append(self.parts.database.write(lambda db: write(db, closing))))
        self.parts.dispatcher.wake()
        return handed != [None]
