"""What a shell completes: the agents, runs and approvals of the server. None of it may ever fail."""

from longwick.client import Client
from longwick.errors import LongwickError
from longwick.wording import brief


def agents(incomplete: str) -> list[str]:
    """Those that are called so."""
    try:
        with Client() as client:
            return [agent.id for agent in client.list_agents() if agent.id.startswith(incomplete)]
    except LongwickError:
        return []


def runs(incomplete: str) -> list[tuple[str, str]]:
    """The newest of them, with what they are for."""
    try:
        with Client() as client:
            found = client.list_runs(limit=50)
    except LongwickError:
        return []
    return [(run.id, f"{run.status}: {brief(run.input, 40)}") for run in found if run.id.startswith(incomplete)]


def pending(incomplete: str) -> list[tuple[str, str]]:
    """The approvals that wait for somebody, with what is asked."""
    try:
        with Client() as client:
            found = client.list_approvals()
    except LongwickError:
        return []
    return [(each.id, f"{each.tool}({brief(each.input, 40)})") for each in found if each.id.startswith(incomplete)]
