"""Runs: accepted, looked at, cancelled, accepted again."""

import asyncio
import json
import time
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool

from longwick import artifacts, backlog, cancellation, editing, models, runs, seams, steering, submission, threads
from longwick.database import Database, Db
from longwick.editing import Edit
from longwick.errors import Conflict
from longwick.kinds import RunKind, RunStatus
from longwick.limits import Limits
from longwick.queue import Dispatcher
from longwick.settings import Settings
from longwick.submission import Once
from web.agents import Agents
from web.bodies import MoreInput, NewRun, RunChange
from web.callers import Caller
from web.dependencies import (
    AfterArtifact,
    AfterRun,
    IdempotencyKey,
    Limit,
    OfThread,
    RunId,
    TheAgents,
    TheCaller,
    TheDispatcher,
    TheRecord,
    TheSettings,
    split_at_commas,
)
from web.openapi import made, responses
from web.schemas import Artifact, ArtifactList, Delivery, Run, RunList

router = APIRouter(prefix="/runs", tags=["runs"])

DELIVERY_SECONDS = 1.5
"""How long a caller waits to hear whether its words have reached the agent."""
LOOK_AGAIN_SECONDS = 0.05
MOST_PAUSE_SECONDS = 0.4


def accept(
    asked: NewRun,
    caller: Caller,
    record: Database,
    agents: Agents,
    dispatcher: Dispatcher,
    settings: Settings,
    thread_id: str | None,
    key: str | None,
) -> Run:
    """Put a run into the record, on a thread or on one of its own; once that is certain, have it hinted at.

    Raises:
        NotFound: there is no such thread.
        Invalid: there is no such agent, nobody can run it, or the key was used for something else.
        Conflict: the thread is busy, and the caller wants to be told.
        TooMany: as many of the caller's runs wait as may, or the caller's day is spent.
        Unavailable: the record does not answer. The broker may be gone; a run is accepted all the same.
    """
    once = Once(key, _canonical(asked, thread_id)) if key else None

    def look(db: Db) -> tuple[str | None, Run | None]:
        of_thread = threads.get(db, caller.owner, thread_id).agent if thread_id else None
        before = submission.find_accepted(db, caller.owner, once) if once else None
        return of_thread, _shown(db, before) if before else None

    # Before the agent is looked at: whether it can run now is no matter to a run that was accepted when it could.
    of_thread, before = record.read(look) if thread_id or once else (None, None)
    if before is not None:
        return before
    agent = agents.choose(asked.agent, of_thread, asked.model)
    new = runs.NewRun(
        asked.input,
        agent,
        model=asked.model,
        kind=asked.kind,
        artifact_generation=asked.artifact_generation,
        timeout_seconds=asked.timeout_seconds,
        idle_timeout_seconds=asked.idle_timeout_seconds,
        max_cost_usd=asked.max_cost_usd,
        on_worker_lost=asked.on_worker_lost,
        extra=asked.metadata,
        follows=asked.follows,
    )

    def write(db: Db) -> Run:
        accepted = submission.submit(
            db,
            caller.owner,
            new,
            thread_id=thread_id,
            agent_of_thread=asked.agent,
            if_busy=asked.if_busy,
            once=once,
            usual=Limits.usual(settings),
            can_steer=agents.can_steer,
        )
        return _shown(db, accepted)

    run = record.write(write)
    seams.passed("accepted")
    dispatcher.wake()
    return run


def _canonical(asked: NewRun, thread_id: str | None) -> bytes:
    """All that a request says, the same for requests that mean the same, also after an upgrade that knows more."""
    body = asked.model_dump(mode="json", exclude_defaults=True)
    return json.dumps([thread_id, body], sort_keys=True).encode()


def _shown(db: Db, run: models.Run) -> Run:
    return Run.of(run, backlog.positions(db, [run]).get(run.id))


@router.post("", status_code=202, responses=made(202) | responses(400, 409, 413, 415, 422, 429, 503))
def create_run(
    asked: NewRun,
    caller: TheCaller,
    record: TheRecord,
    agents: TheAgents,
    dispatcher: TheDispatcher,
    settings: TheSettings,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Accept a run, on a thread that is made for it."""
    run = accept(asked, caller, record, agents, dispatcher, settings, None, idempotency_key)
    response.headers["location"] = f"/api/v1/runs/{run.id}"
    return run


Statuses = Annotated[
    list[RunStatus],
    BeforeValidator(split_at_commas),
    Query(default_factory=list, description="Only of these statuses; repeated, or with commas between them"),
]


@router.get("", responses=responses(400, 422, 503))
def list_runs(
    caller: TheCaller,
    record: TheRecord,
    status: Statuses,
    kind: RunKind | None = None,
    thread_id: OfThread | None = None,
    limit: Limit = 100,
    after: AfterRun | None = None,
) -> RunList:
    """The runs, newest first."""

    def read(db: Db) -> RunList:
        page = runs.list_runs(
            db, caller.owner, statuses=status, kind=kind, thread_id=thread_id, limit=limit, after=after
        )
        positions = backlog.positions(db, page.data)
        return RunList.of(page, lambda run: Run.of(run, positions.get(run.id)))

    return record.read(read)


@router.get("/{run_id}", responses=responses(404, 503))
def get_run(run_id: RunId, caller: TheCaller, record: TheRecord) -> Run:
    """A run."""
    return record.read(lambda db: _shown(db, runs.get(db, caller.owner, run_id)))


@router.patch("/{run_id}", responses=responses(400, 404, 409, 413, 415, 422, 503))
def edit_run(run_id: RunId, asked: RunChange, caller: TheCaller, record: TheRecord, dispatcher: TheDispatcher) -> Run:
    """Give a run that waits another text, or another place among those of its thread; until it is started."""
    changed = asked.model_fields_set
    wanted = Edit(asked.input if "input" in changed else None, "before" in changed, asked.before)
    run = record.write(lambda db: _shown(db, editing.edit(db, caller.owner, run_id, wanted)))
    dispatcher.wake()
    return run


@router.post("/{run_id}/cancel", status_code=202, responses=responses(404, 409, 503))
def cancel_run(run_id: RunId, caller: TheCaller, record: TheRecord, dispatcher: TheDispatcher) -> Run:
    """Cancel a run: at once where it waits, and as soon as its agent has stopped where it runs. May be repeated."""
    run = record.write(lambda db: _shown(db, cancellation.request(db, caller.owner, run_id)))
    dispatcher.wake()
    return run


@router.post("/{run_id}/input", status_code=202, responses=responses(400, 404, 409, 413, 415, 422, 429, 503))
async def steer_run(
    run_id: RunId, more: MoreInput, caller: TheCaller, record: TheRecord, agents: TheAgents
) -> Delivery:
    """Say more to a run at work: into its turn where its agent can take it, else as the thread's next run."""

    def steer() -> str:
        run = record.read(lambda db: runs.get(db, caller.owner, run_id))
        if not agents.can_steer(run.agent):
            raise Conflict(f"the agent {run.agent!r} takes nothing more until its turn is over", code="not_steerable")
        return record.write(lambda db: steering.steer(db, runs.get(db, caller.owner, run_id), more.input))

    message_id = await run_in_threadpool(steer)
    give_up, pause = time.monotonic() + DELIVERY_SECONDS, LOOK_AGAIN_SECONDS
    # Threads are few, and everybody's: none is held while the agent takes its time.
    while not (delivered := await run_in_threadpool(record.read, lambda db: steering.is_delivered(db, message_id))):
        if time.monotonic() > give_up:
            break
        await asyncio.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE_SECONDS)
    return Delivery(delivered=delivered, message_id=message_id)


@router.post("/{run_id}/retry", status_code=202, responses=made(202) | responses(404, 409, 422, 429, 503))
def retry_run(
    run_id: RunId,
    caller: TheCaller,
    record: TheRecord,
    agents: TheAgents,
    dispatcher: TheDispatcher,
    settings: TheSettings,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Accept the same again as a new run, in the same thread, once a run is over."""
    once = Once(idempotency_key, json.dumps(["retry", run_id]).encode()) if idempotency_key else None
    agents.choose(record.read(lambda db: runs.get(db, caller.owner, run_id)).agent, None)
    usual = Limits.usual(settings)
    run = record.write(lambda db: _shown(db, submission.retry(db, caller.owner, run_id, once, usual)))
    dispatcher.wake()
    response.headers["location"] = f"/api/v1/runs/{run.id}"
    return run


@router.get("/{run_id}/artifacts", responses=responses(400, 404, 422, 503))
def list_artifacts(
    run_id: RunId, caller: TheCaller, record: TheRecord, limit: Limit = 100, after: AfterArtifact | None = None
) -> ArtifactList:
    """The files that a run saved, newest first."""

    def read(db: Db) -> ArtifactList:
        page = artifacts.of_run(db, runs.get(db, caller.owner, run_id), limit=limit, after=after)
        return ArtifactList.of(page, Artifact.model_validate)

    return record.read(read)
