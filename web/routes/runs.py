"""Runs: accepted, looked at, cancelled."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BeforeValidator

from longwick import artifacts, cancellation, models, runs, threads
from longwick.database import Database, Db
from longwick.models import RunKind, RunStatus
from longwick.queue import Dispatcher
from web.agents import Agents
from web.bodies import NewRun
from web.dependencies import (
    AfterArtifact,
    AfterRun,
    Caller,
    Limit,
    OfThread,
    RunId,
    TheAgents,
    TheCaller,
    TheDispatcher,
    TheRecord,
)
from web.openapi import made, responses
from web.schemas import Artifact, ArtifactList, Run, RunList

router = APIRouter(prefix="/runs", tags=["runs"])


def accept(
    asked: NewRun, caller: Caller, record: Database, agents: Agents, dispatcher: Dispatcher, thread_id: str | None
) -> Run:
    """Put a run into the record, on a thread or on one of its own; once that is certain, have it hinted at.

    Raises:
        NotFound: there is no such thread.
        Invalid: there is no such agent, or nobody can run it.
        Unavailable: the record does not answer. The broker may be gone; a run is accepted all the same.
    """
    of_thread = record.read(lambda db: threads.get(db, caller.owner, thread_id).agent) if thread_id else None
    agent = agents.choose(asked.agent, of_thread)

    def write(db: Db) -> Run:
        if thread_id:
            thread = threads.get(db, caller.owner, thread_id)
        else:
            thread = threads.create(db, caller.owner, agent=asked.agent)
        created = runs.create(
            db,
            thread,
            runs.NewRun(
                asked.input,
                agent,
                model=asked.model,
                kind=asked.kind,
                artifact_generation=asked.artifact_generation,
                timeout_seconds=asked.timeout_seconds,
                idle_timeout_seconds=asked.idle_timeout_seconds,
                extra=asked.metadata,
            ),
        )
        return _shown(db, created)

    run = record.write(write)
    dispatcher.wake()
    return run


def _shown(db: Db, run: models.Run) -> Run:
    return Run.of(run, runs.queue_positions(db, [run]).get(run.id))


@router.post("", status_code=202, responses=made(202) | responses(400, 413, 415, 422, 503))
def create_run(
    asked: NewRun,
    caller: TheCaller,
    record: TheRecord,
    agents: TheAgents,
    dispatcher: TheDispatcher,
    response: Response,
) -> Run:
    """Accept a run, on a thread that is made for it."""
    run = accept(asked, caller, record, agents, dispatcher, None)
    response.headers["location"] = f"/api/v1/runs/{run.id}"
    return run


def _split(given: object) -> object:
    return [name for part in given for name in str(part).split(",")] if isinstance(given, list) else given


Statuses = Annotated[
    list[RunStatus],
    BeforeValidator(_split),
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
        positions = runs.queue_positions(db, page.data)
        return RunList.of(page, lambda run: Run.of(run, positions.get(run.id)))

    return record.read(read)


@router.get("/{run_id}", responses=responses(404, 503))
def get_run(run_id: RunId, caller: TheCaller, record: TheRecord) -> Run:
    """A run."""
    return record.read(lambda db: _shown(db, runs.get(db, caller.owner, run_id)))


@router.post("/{run_id}/cancel", status_code=202, responses=responses(404, 409, 503))
def cancel_run(run_id: RunId, caller: TheCaller, record: TheRecord, dispatcher: TheDispatcher) -> Run:
    """Cancel a run: at once where it waits, and as soon as its agent has stopped where it runs. May be repeated."""
    run = record.write(lambda db: _shown(db, cancellation.request(db, caller.owner, run_id)))
    dispatcher.wake()
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
