"""What the caller may have, and how much of it is used."""

from fastapi import APIRouter

from longwick import backlog, limits, room, spending
from longwick.database import Db, record_now
from longwick.limits import Limits
from web.dependencies import TheCaller, TheRecord, TheSettings, TheTraffic
from web.openapi import responses
from web.schemas import Answer, Moment

router = APIRouter(prefix="/usage", tags=["usage"])

MOST_COUNTED = 100_000
"""Queued runs; more are told as so many."""


class Counted(Answer):
    """How much of something is used."""

    used: int
    limit: int | None
    """The most that may be; null where nothing limits it."""


class Measured(Answer):
    """How much of something is used, where it is no whole number."""

    used: float
    limit: float | None
    """The most that may be; null where nothing limits it."""


class Tokens(Answer):
    """What agents have said that they used."""

    input: int
    output: int


class Usage(Answer):
    """What the caller may have, and how much of it is used."""

    running: Counted
    """Runs at work; more wait until one has ended."""
    queued: Counted
    """Runs that wait."""
    artifacts: Counted
    """Versions of files, in all threads."""
    artifact_bytes: Counted
    """Of these, and of the folders that follow threads."""
    spend_usd_today: Measured
    """Of the runs that ended today, and of those at work, up to the last beat."""
    tokens_today: Tokens
    """Of the runs that ended today."""
    requests_per_second: Measured
    """At the web process that was asked, over the last ten seconds."""
    streams: Counted
    """Open at the web process that was asked."""
    resets_at: Moment
    """When the next day begins, in UTC."""


@router.get("", responses=responses(503))
def get_usage(caller: TheCaller, record: TheRecord, settings: TheSettings, traffic: TheTraffic) -> Usage:
    """What the caller may have, and how much of it is used."""
    requests, streams = traffic.seen(caller.owner)

    def read(db: Db) -> Usage:
        most = limits.of_owner(db, caller.owner, Limits.usual(settings))
        kept, today = room.kept(db, caller.owner), spending.today(db, caller.owner)
        return Usage(
            running=_counted(limits.count_running(db, caller.owner), most.running),
            queued=_counted(backlog.count(db, caller.owner, MOST_COUNTED), most.queued),
            artifacts=_counted(kept.artifacts, most.artifacts),
            artifact_bytes=_counted(kept.size, most.artifact_bytes),
            spend_usd_today=Measured(used=today.cost_usd, limit=most.spend_usd_per_day or None),
            tokens_today=Tokens(input=today.input_tokens, output=today.output_tokens),
            requests_per_second=Measured(used=requests, limit=traffic.requests_per_second or None),
            streams=_counted(streams, traffic.streams),
            resets_at=spending.tomorrow(record_now(db)),
        )

    return record.read(read)


def _counted(used: int, limit: int) -> Counted:
    return Counted(used=used, limit=limit or None)
