"""The feed: how all runs and files are, as a stream that goes on."""

from fastapi import APIRouter, Response

from web.dependencies import TheCaller, TheFeed, ThePresence, TheRecord, TheTraffic
from web.openapi import Responses, responses
from web.stream import EventStream

router = APIRouter(prefix="/feed", tags=["feed"])

_STREAM: Responses = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string", "contentMediaType": "application/json"}}},
        "description": "Frames of `data: {type, ...}` without an `id:`. First, and whenever something was deleted or "
        "missed, `snapshot`: its `runs` are all that are not over and the newest of the others, newest first, and "
        "replace whatever was told before. Then `run` and `artifact`, each with the whole of what is new or different.",
    },
}


@router.get("", response_class=Response, responses=_STREAM | responses(503))
def follow(caller: TheCaller, record: TheRecord, feed: TheFeed, presence: ThePresence, traffic: TheTraffic) -> Response:
    """How all runs are, and how that changes. It never ends by itself."""
    # A record that does not answer is told now, while there is a status to tell it by.
    record.read(lambda db: None)
    return EventStream(feed.frames(caller.owner), presence, caller.hold, traffic.open_stream(caller.owner))
