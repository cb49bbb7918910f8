"""Threads, and what is in them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query, Response

from longwick import artifacts, cancellation, models, search, threads
from longwick.database import Db
from longwick.text import clean
from web.bodies import NewRun, NewThread, ThreadChange
from web.dependencies import (
    AfterArtifact,
    AfterMessage,
    AfterThread,
    IdempotencyKey,
    Limit,
    TheAgents,
    TheCaller,
    TheDispatcher,
    TheRecord,
    TheSettings,
    ThreadId,
)
from web.openapi import made, responses
from web.routes.runs import accept
from web.schemas import Artifact, ArtifactList, Message, MessageList, Run, Thread, ThreadList

router = APIRouter(prefix="/threads", tags=["threads"])

FOUND = "Only those with this in their title, or with all its words in a message or the name of a file"


def _shown(db: Db, page: Sequence[models.Thread]) -> Callable[..., Thread]:
    """How to show the threads of a page: with what the record says of all of them."""
    active, unread = threads.active_runs(db, page), threads.unread(db, page)
    return lambda thread, excerpt=None: Thread.of(
        thread, active.get(thread.id), unread=thread.id in unread, excerpt=excerpt
    )


@router.post("", status_code=201, responses=made(201) | responses(400, 413, 415, 422, 503))
def create_thread(
    asked: Annotated[NewThread, Body(default_factory=NewThread)],
    caller: TheCaller,
    record: TheRecord,
    agents: TheAgents,
    response: Response,
) -> Thread:
    """Make an empty thread. (A run that is posted to `/runs` makes its own.)"""
    if asked.agent is not None:
        agents.check(asked.agent)
    thread = record.write(
        lambda db: threads.create(db, caller.owner, title=asked.title, agent=asked.agent, extra=asked.metadata)
    )
    response.headers["location"] = f"/api/v1/threads/{thread.id}"
    return Thread.of(thread, None)


@router.get("", responses=responses(400, 422, 503))
def list_threads(
    caller: TheCaller,
    record: TheRecord,
    q: Annotated[str | None, Query(max_length=200, description=FOUND)] = None,
    order: Annotated[
        Literal["created", "updated"], Query(description="What the newest first is the newest by")
    ] = "created",
    limit: Limit = 100,
    after: AfterThread | None = None,
) -> ThreadList:
    """The threads, newest first."""
    query = clean(q) if q else None

    def read(db: Db) -> ThreadList:
        by_update = order == "updated"
        page = threads.list_threads(db, caller.owner, limit=limit, after=after, query=query, by_update=by_update)
        around = search.excerpts(db, [thread.id for thread in page.data], query) if query else {}
        shown = _shown(db, page.data)
        return ThreadList.of(page, lambda thread: shown(thread, around.get(thread.id)))

    return record.read(read)


@router.get("/{thread_id}", responses=responses(404, 503))
def get_thread(thread_id: ThreadId, caller: TheCaller, record: TheRecord) -> Thread:
    """A thread."""

    def read(db: Db) -> Thread:
        thread = threads.get(db, caller.owner, thread_id)
        return _shown(db, [thread])(thread)

    return record.read(read)


@router.patch("/{thread_id}", responses=responses(400, 404, 413, 415, 422, 503))
def change_thread(thread_id: ThreadId, asked: ThreadChange, caller: TheCaller, record: TheRecord) -> Thread:
    """Give a thread another title, or other metadata."""

    def write(db: Db) -> Thread:
        thread = threads.lock(db, caller.owner, thread_id)
        changed = asked.model_fields_set
        threads.change(
            db,
            thread,
            title=asked.title if "title" in changed else None,
            extra=asked.metadata if "metadata" in changed else None,
        )
        return _shown(db, [thread])(thread)

    return record.write(write)


@router.delete("/{thread_id}", status_code=204, response_class=Response, responses=responses(404, 503))
def delete_thread(thread_id: ThreadId, caller: TheCaller, record: TheRecord, dispatcher: TheDispatcher) -> None:
    """Delete a thread, with all that is in it. Nobody finds it from now on; what runs in it is cancelled."""

    def write(db: Db) -> None:
        thread = threads.lock(db, caller.owner, thread_id)
        cancellation.request_all(db, caller.owner, thread.id)
        threads.hide(db, thread)

    record.write(write)
    dispatcher.wake()


@router.post("/{thread_id}/restore", responses=responses(404, 503))
def restore_thread(thread_id: ThreadId, caller: TheCaller, record: TheRecord) -> Thread:
    """Bring a deleted thread back, with all that was in it; what ran in it stays cancelled. May be repeated."""

    def write(db: Db) -> Thread:
        thread = threads.restore(db, caller.owner, thread_id)
        return _shown(db, [thread])(thread)

    return record.write(write)


@router.post("/{thread_id}/read", status_code=204, response_class=Response, responses=responses(404, 503))
def mark_thread_read(thread_id: ThreadId, caller: TheCaller, record: TheRecord) -> None:
    """Note that all that is in a thread was seen: it is not `unread` until something comes to its end in it."""
    record.write(lambda db: threads.mark_read(db, threads.get(db, caller.owner, thread_id)))


@router.get("/{thread_id}/messages", responses=responses(400, 404, 422, 503))
def list_messages(
    thread_id: ThreadId, caller: TheCaller, record: TheRecord, limit: Limit = 100, after: AfterMessage | None = None
) -> MessageList:
    """What was said in a thread, turn by turn, oldest first."""

    def read(db: Db) -> MessageList:
        thread = threads.get(db, caller.owner, thread_id)
        page = threads.list_messages(db, thread.id, limit=limit, after=after)
        return MessageList.of(page, Message.model_validate)

    return record.read(read)


@router.get("/{thread_id}/artifacts", responses=responses(400, 404, 422, 503))
def list_artifacts(
    thread_id: ThreadId, caller: TheCaller, record: TheRecord, limit: Limit = 100, after: AfterArtifact | None = None
) -> ArtifactList:
    """The files of a thread, all versions, newest first."""

    def read(db: Db) -> ArtifactList:
        thread = threads.get(db, caller.owner, thread_id)
        page = artifacts.of_thread(db, thread.id, limit=limit, after=after)
        return ArtifactList.of(page, Artifact.model_validate)

    return record.read(read)


@router.post(
    "/{thread_id}/runs", status_code=202, responses=made(202) | responses(400, 404, 409, 413, 415, 422, 429, 503)
)
def create_run(
    thread_id: ThreadId,
    asked: NewRun,
    caller: TheCaller,
    record: TheRecord,
    agents: TheAgents,
    dispatcher: TheDispatcher,
    settings: TheSettings,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Accept a run on a thread. It has its turn after the runs that the thread has already."""
    run = accept(asked, caller, record, agents, dispatcher, settings, thread_id, idempotency_key)
    response.headers["location"] = f"/api/v1/runs/{run.id}"
    return run
