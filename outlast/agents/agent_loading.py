"""
Import the modules that declare agents, and resolve who plays which role.
"""

from outlast.agents.agent import Agent
from outlast.agents.agent_check import check_agents
from outlast.agents.importing import import_agents
from outlast.agents.registry import registered_agents
from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import RoleSpec


def load_agents(modules: list[str]) -> dict[str, Agent]:
    """
    Import the modules that declare agents, by dotted name or path to a file.

    :raises BadInputError: when one of them cannot be imported.
    """
    for module in modules:
        import_agents(module)
    found = registered_agents()
    check_agents(found.values())
    return found


def for_roles(agents: dict[str, Agent], roles: list[str]) -> dict[str, Agent]:
    """
    Keep those of *agents* that play *roles*, or go ahead of them; all of them where no
    role is named.

    :raises BadInputError: when no agent plays one of *roles*, with those there are.
    """
    unknown = [repr(role) for role in roles if role not in agents]
    if unknown:
        raise BadInputError(
            f"no agent plays {', '.join(unknown)}; there are "
            f"{', '.join(sorted(agents))}; set OUTLAST_AGENTS to the module that has it"
        )
    return {
        role: each
        for role, each in agents.items()
        if not roles or role in roles or each.before in roles
    }


def resolve_routes(agents: dict[str, Agent]) -> dict[str, RoleSpec]:
    """
    Resolve the routes and policies of *agents*, as a mission carries them.

    :raises BadInputError: when a fallback, or what an agent goes ahead of, is played
        by nobody.
    """
    for each in agents.values():
        for fallback in each.fallbacks:
            if fallback not in agents:
                raise each.input_error(
                    f"it falls back to {fallback!r}, which no agent plays"
                )
        if each.before is not None and each.before not in agents:
            raise each.input_error(
                f"it goes ahead of {each.before!r}, which no agent plays"
            )
    return {
        role: RoleSpec(routes=_routes(each, agents), policy=each.policy)
        for role, each in sorted(agents.items())
    }


def _routes(agent: Agent, agents: dict[str, Agent]) -> list[str]:
    # Those ahead of it in the order of their loading.
    ahead = [role for role, each in agents.items() if each.before == agent.role]
    return [*ahead, agent.role, *agent.fallbacks]
