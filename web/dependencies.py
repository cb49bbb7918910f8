"""What a route may ask for: the parts of the process, the caller, and the parameters that many routes share."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from pydantic import AfterValidator, BeforeValidator, Field

from longwick.database import Database
from longwick.errors import BadCursor, Invalid, LongwickError, NotFound
from longwick.ids import ALPHABET
from longwick.queue import Dispatcher
from longwick.settings import Settings
from longwick.storage import Storage
from web.agents import Agents
from web.callers import Caller
from web.checks import Checks
from web.feed import Feed
from web.hub import Hub
from web.presence import Presence
from web.traffic import Traffic


# All of these are async, or each would cost a trip to a thread.
async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


async def _agents(request: Request) -> Agents:
    agents: Agents = request.app.state.agents
    return agents


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _storage(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


async def _dispatcher(request: Request) -> Dispatcher:
    dispatcher: Dispatcher = request.app.state.dispatcher
    return dispatcher


async def _checks(request: Request) -> Checks:
    checks: Checks = request.app.state.checks
    return checks


async def _hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


async def _presence(request: Request) -> Presence:
    presence: Presence = request.app.state.presence
    return presence


async def _traffic(request: Request) -> Traffic:
    traffic: Traffic = request.app.state.traffic
    return traffic


TheCaller = Annotated[Caller, Depends(_caller)]
TheAgents = Annotated[Agents, Depends(_agents)]
TheRecord = Annotated[Database, Depends(_database)]
TheStorage = Annotated[Storage, Depends(_storage)]
TheDispatcher = Annotated[Dispatcher, Depends(_dispatcher)]
TheChecks = Annotated[Checks, Depends(_checks)]
ThePresence = Annotated[Presence, Depends(_presence)]
TheHub = Annotated[Hub, Depends(_hub)]
TheSettings = Annotated[Settings, Depends(_settings)]
TheFeed = Annotated[Feed, Depends(_feed)]
TheTraffic = Annotated[Traffic, Depends(_traffic)]


def _form(prefix: str) -> str:
    """What ids look like, as longwick/ids.py makes them."""
    return f"^{prefix}_[{ALPHABET}]{{26}}$"


def _shaped(prefix: str, otherwise: Callable[[str], LongwickError]) -> AfterValidator:
    """Lets ids pass that could be some; whatever else never reaches the record."""
    form = re.compile(_form(prefix))

    def check(given: str) -> str:
        if not form.fullmatch(given):
            # Not a ValueError, which pydantic would collect: this goes straight to the caller.
            raise otherwise(given)
        return given

    return AfterValidator(check)


def _in_path(prefix: str, what: str) -> tuple[Any, Any]:
    shown = {"pattern": _form(prefix), "examples": [f"{prefix}_01kmw3zrd2v8q4j6t1x5y7b9ac"]}
    return Path(json_schema_extra=shown), _shaped(prefix, lambda given: NotFound(f"no {what} {given}"))


ThreadId = Annotated[str, *_in_path("thr", "thread")]
RunId = Annotated[str, *_in_path("run", "run")]
ArtifactId = Annotated[str, *_in_path("art", "artifact")]
ApprovalId = Annotated[str, *_in_path("apr", "approval")]


def bad_cursor(given: str, wanted: str) -> BadCursor:
    """The refusal of a cursor."""
    return BadCursor(f"after: {given!r} is not {wanted}", param="after")


def _in_query(prefix: str, description: str, otherwise: Callable[[str], LongwickError]) -> tuple[Any, Any]:
    shown = {"pattern": _form(prefix)}
    return Query(description=description, json_schema_extra=shown), _shaped(prefix, otherwise)


def _after(prefix: str, what: str) -> tuple[Any, Any]:
    return _in_query(prefix, "The `last_id` of the page before", lambda given: bad_cursor(given, f"the id of {what}"))


def _no_thread(given: str) -> Invalid:
    return Invalid(f"thread_id: {given!r} is not the id of a thread", param="thread_id")


OfThread = Annotated[str, *_in_query("thr", "Only of this thread", _no_thread)]
AfterThread = Annotated[str, *_after("thr", "a thread")]
AfterMessage = Annotated[str, *_after("msg", "a message")]
AfterRun = Annotated[str, *_after("run", "a run")]
AfterApproval = Annotated[str, *_after("apr", "an approval")]
AfterArtifact = Annotated[str, *_after("art", "an artifact")]
Limit = Annotated[int, Query(ge=1, le=1000, description="The most that a page may hold")]


def split_at_commas(given: object) -> object:
    """A query parameter that may be repeated, or name several with commas between them."""
    return [name for part in given for name in str(part).split(",")] if isinstance(given, list) else given


def _whole_number(otherwise: Callable[[str], LongwickError]) -> BeforeValidator:
    def check(given: object) -> int:
        if not re.fullmatch("[0-9]{1,100}", str(given)):
            raise otherwise(str(given))
        return int(str(given))

    return BeforeValidator(check)


Position = Annotated[int, Field(ge=0), _whole_number(lambda given: bad_cursor(given, "a whole number from 0 up"))]
Seq = Annotated[int, Path(ge=0), _whole_number(lambda given: NotFound(f"no event {given}"))]

# Printable ASCII: the record compares it byte by byte, and it stands in logs.
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="For 24 hours, a request with the same key and the same body gets the run of the first one",
    ),
]
