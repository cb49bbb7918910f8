"""The agents that there are, and whether anybody can run them now."""

from fastapi import APIRouter

from longwick.paging import Page
from web.dependencies import TheAgents
from web.openapi import responses
from web.schemas import Agent, AgentList

router = APIRouter(prefix="/agents", tags=["agents"])


@router.get("", responses=responses(503))
def list_agents(agents: TheAgents) -> AgentList:
    """All agents there are; one is available where some living worker can run it."""
    reasons, isolated = agents.unavailable(), agents.isolated()
    found = [
        Agent(
            id=agent,
            name=profile.name or agent,
            description=profile.description,
            available=reasons[agent] is None,
            reason=reasons[agent],
            models=profile.models,
            capabilities=profile.capabilities,
            isolated=isolated[agent],
        )
        for agent, profile in agents.profiles.items()
    ]
    return AgentList.of(Page(found, has_more=False), lambda agent: agent)
