"""Tickets: for whoever can open a stream, and can send no header and no cookie with that."""

from fastapi import APIRouter

from longwick import passes, runs
from longwick.database import Db
from longwick.passes import Given
from web.admission import Ticket, TicketWanted
from web.dependencies import TheCaller, TheRecord
from web.openapi import responses

router = APIRouter(prefix="/tickets", tags=["tickets"])


@router.post("", status_code=201, responses=responses(400, 404, 413, 415, 422, 503))
def create_ticket(wanted: TicketWanted, caller: TheCaller, record: TheRecord) -> Ticket:
    """A ticket for the stream of a run's events, or for the feed: to be used once, within a minute, as `?ticket=`."""
    path = f"/api/v1/runs/{wanted.run_id}/events" if wanted.run_id is not None else "/api/v1/feed"

    def write(db: Db) -> Given:
        if wanted.run_id is not None:
            runs.get(db, caller.owner, wanted.run_id)
        return passes.ticket(db, caller.owner, path, caller.hold)

    given = record.write(write)
    return Ticket(url=f"{path}?ticket={given.token}", ticket=given.token, expires_at=given.expires_at)
