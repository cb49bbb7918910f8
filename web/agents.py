"""The agents that a run can be for: those of this process's settings, as far as some living worker can run them."""

from collections.abc import Sequence

from longwick.agents import Roster
from longwick.errors import Invalid
from longwick.models import Worker
from longwick.profiles import Profile
from longwick.settings import Settings
from web.lookout import Lookout


class Agents:
    """The known agents, and who can run them now.

    Raises:
        BadSetting: the agents file or the default agent cannot be used.
    """

    def __init__(self, settings: Settings, lookout: Lookout) -> None:
        self.profiles = Roster(settings)
        self._lookout = lookout

    def check(self, agent: str) -> None:
        """Raise Invalid (`unknown_agent`) for a name that is no agent's."""
        if agent not in self.profiles:
            known = ", ".join(self.profiles)
            raise Invalid(f"agent: there is no agent {agent!r}, only {known}", code="unknown_agent", param="agent")

    def choose(self, wanted: str | None, of_thread: str | None, model: str | None = None) -> str:
        """The agent of a new run: the one that it names, else its thread's, else the default one.

        Raises:
            Invalid: there is no such agent (`unknown_agent`), nobody can run it now (`agent_unavailable`), or it does
                not have the `model` (`unknown_model`).
        """
        agent = wanted or of_thread or self.profiles.default
        self.check(agent)
        reason = self.unavailable()[agent]
        if reason is not None:
            raise Invalid(f"agent: {agent!r} cannot run now: {reason}", code="agent_unavailable", param="agent")
        profile = self.profiles[agent]
        if model is not None and not profile.allows(model):
            known = f"only {', '.join(profile.models)}" if profile.models else "and chooses its model itself"
            raise Invalid(f"model: {agent!r} has no model {model!r}, {known}", code="unknown_model", param="model")
        return agent

    def can_steer(self, agent: str) -> bool:
        """Whether more can be said to it while it works."""
        profile = self.profiles.get(agent)
        return profile is not None and "steer" in profile.capabilities

    def unavailable(self) -> dict[str, str | None]:
        """Agent id -> why no living worker can run it, in words; None where one can.

        With no worker to ask, it is this host that is looked at.
        """
        workers = self._lookout.look()
        return {agent: _reason(agent, profile, workers) for agent, profile in self.profiles.items()}

    def isolated(self) -> dict[str, bool | None]:
        """Agent id -> whether every living worker that can run it keeps it in a sandbox; None where none can."""
        workers = self._lookout.look()
        return {agent: _isolated(agent, workers) for agent in self.profiles}


def _isolated(agent: str, workers: Sequence[Worker]) -> bool | None:
    told = [about for worker in workers if (about := worker.agents.get(agent)) and about["unavailable"] is None]
    return all(about.get("isolation") == "bwrap" for about in told) if told else None


def _reason(agent: str, profile: Profile, workers: Sequence[Worker]) -> str | None:
    if not workers:
        return profile.unavailable()
    unknown = {"unavailable": "the workers do not know this agent"}
    reasons: list[str | None] = [worker.agents.get(agent, unknown)["unavailable"] for worker in workers]
    return None if None in reasons else reasons[0]
