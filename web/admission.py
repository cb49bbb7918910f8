"""What is sent and answered where somebody comes in."""

from pydantic import Field

from longwick.kinds import Scope
from web.bodies import Body
from web.callers import How
from web.schemas import Answer, Moment


class KeyShown(Body):
    """A sign-in."""

    key: str = Field(min_length=1, max_length=200)


class Session(Answer):
    """Who asks."""

    owner: str
    scopes: list[Scope]
    """What they may do."""
    how: How
    """What let them in: a key, the page's sign-in, a proxy's word, or that nobody has to show anything here."""


class TicketWanted(Body):
    """What a ticket is for."""

    run_id: str | None = Field(None, max_length=40)
    """For the events of this run; without it, for the feed."""


class Ticket(Answer):
    """Lets somebody open one stream, once."""

    ticket: str
    url: str
    """The path of the stream, with the ticket in it."""
    expires_at: Moment
