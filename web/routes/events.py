"""The log of a run: a page at a time, as a stream that goes on, and its values that are too large for it."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field, ValidationError

from longwick import events, runs
from longwick.database import Db
from longwick.errors import Conflict, NotFound
from longwick.models import Run
from web.content import content
from web.dependencies import (
    Limit,
    Position,
    RunId,
    Seq,
    TheCaller,
    TheHub,
    ThePresence,
    TheRecord,
    TheStorage,
    TheTraffic,
)
from web.openapi import Responses, responses, stored
from web.schemas import EventList
from web.stream import EventStream, frames

router = APIRouter(prefix="/runs/{run_id}/events", tags=["events"])

BATCHES = 50
PAGE_CHARACTERS = 8 * 2**20


class Reference(BaseModel, extra="forbid", strict=True):
    """What longwick/values.py puts into an event. An agent has a say in events, too: no other form is followed."""

    field: Literal["text", "output", "input"]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    media_type: Literal["text/plain; charset=utf-8", "application/json"]


_PAGE_OR_STREAM: Responses = {
    200: {
        "model": EventList,
        "content": {"text/event-stream": {"schema": {"type": "string", "contentMediaType": "application/json"}}},
        "description": "A page of events; or, where text/event-stream is accepted, all of them and those to come: "
        "frames of `id: SEQ` and `data: EVENT`, until the one that ends the run.",
    },
    204: {"description": "For a stream: the run is over and nothing follows the cursor."},
}
_VALUE = stored({"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": {}}})


@router.get("", response_class=Response, responses=_PAGE_OR_STREAM | responses(400, 404, 409, 422, 503))
def list_events(
    request: Request,
    run_id: RunId,
    caller: TheCaller,
    record: TheRecord,
    hub: TheHub,
    presence: ThePresence,
    traffic: TheTraffic,
    limit: Limit = 100,
    after: Position | None = None,
    last_event_id: Annotated[Position | None, Header(description="Like `after`; the larger one wins")] = None,
) -> Response:
    """The events of a run past a position."""
    cursor = max(after or 0, last_event_id or 0)
    streams = "text/event-stream" in request.headers.get("accept", "")

    def read(db: Db) -> tuple[Run, Response | None]:
        run = runs.get(db, caller.owner, run_id)
        if cursor > run.last_seq:
            raise Conflict(
                f"after: the run's newest event is {run.last_seq}, not yet {cursor}", code="cursor_ahead", param="after"
            )
        return run, None if streams else _page(db, run, cursor, limit)

    run, page = record.read(read)
    if page is not None:
        return page
    if run.status.terminal and cursor >= run.last_seq:
        return Response(status_code=204)
    close = traffic.open_stream(caller.owner)
    return EventStream(frames(hub, record, caller.owner, run_id, cursor), presence, caller.hold, close)


def _page(db: Db, run: Run, after: int, limit: int) -> Response:
    """A page of events, made of their text as the record has it."""
    found: list[tuple[int, str]] = []
    size, last = 0, after
    while len(found) < limit and size < PAGE_CHARACTERS:
        batches = events.read(db, run.id, last, BATCHES, PAGE_CHARACTERS - size)
        if not batches:
            break
        for batch in batches:
            fresh = batch.after(last)
            found += fresh
            size += sum(len(line) for _, line in fresh)
            last = batch.last_seq
    found = found[:limit]
    ids = {
        "first_id": found[0][0] if found else None,
        "last_id": found[-1][0] if found else None,
        "has_more": bool(found) and found[-1][0] < run.last_seq,
    }
    data, rest = ",".join(line for _, line in found), json.dumps(ids, separators=(",", ":"))[1:]
    return Response(f'{{"object":"list","data":[{data}],{rest}', media_type="application/json")


@router.get("/{seq}/value", response_class=Response, responses=_VALUE | responses(404, 416, 503))
def get_value(
    request: Request, run_id: RunId, seq: Seq, caller: TheCaller, record: TheRecord, storage: TheStorage
) -> Response:
    """The value that an event is too small for: where a field of its `data` is null and `value` tells of it."""

    def read(db: Db) -> dict[str, Any]:
        run = runs.get(db, caller.owner, run_id)
        batches = events.read(db, run.id, seq - 1, 1) if 0 < seq <= run.last_seq else []
        found = dict(batches[0].after(seq - 1)) if batches else {}
        return dict(json.loads(found[seq])["data"]) if seq in found else {}

    data = record.read(read)
    try:
        reference = Reference.model_validate(data.get("value"))
    except ValidationError as error:
        raise NotFound(f"event {seq} of {run_id} holds all it has itself") from error
    return content(
        request,
        storage,
        sha256=reference.sha256,
        size=reference.size,
        media_type=reference.media_type,
        name=f"{run_id}-{seq}-{reference.field}",
    )
