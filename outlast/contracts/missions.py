"""
Missions, their crew, and what is filled in when they start.
"""

import json

from pydantic import Field

from outlast.contracts.ids import MissionId, Name
from outlast.contracts.prior_run import PriorRun
from outlast.contracts.retries import Policy
from outlast.contracts.scopes import Scope, ScopedModel
from outlast.contracts.tasks import Limits, Task
from outlast.contracts.text import sha256_hex
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.contracts.wire import WireModel


class RoleSpec(WireModel):
    """
    A role in the crew: where its tasks may run, in order, and its policy.
    """

    routes: list[Name] = Field(min_length=1)
    policy: Policy = Policy()


class Mission(ScopedModel):
    """
    One goal, its tasks and their limits.

    The fields that are not described here are filled in when it starts.

    :param id: used once; the same id with the same content joins the mission.
    :param goal: what it is for; shown, and not interpreted.
    :param tasks: the graph, without cycles.
    :param limits: what it may use.
    :param tenant: whose mission it is; batches of other tenants cannot be read.
    """

    id: MissionId
    goal: str = Field(min_length=1, max_length=2000)
    tasks: list[Task] = Field(min_length=1)
    limits: Limits = Limits()
    tenant: Name = "default"
    crew: dict[Name, RoleSpec] = Field(default={})
    store: str = ""
    # Of its attempts, by how many hosts the store serves: see `timing_of`.
    heartbeat_timeout_s: float = DEFAULT_TIMING.heartbeat_timeout_s
    prior_run: "PriorRun | None" = None
    parent: str = ""  # the mission within which it lies

    @property
    def logical(self) -> Scope:
        return self.scope or Scope(path=self.id)

    def digest(self) -> str:
        """
        Identify what was asked: everything but the id and who is there to do it.
        """
        # By any release: what it calls its state is not what was asked.
        untold = {
            "id",
            "crew",
            "store",
            "schema_number",
            "prior_run",
            "parent",
            "scope",
        }
        untold |= {"heartbeat_timeout_s"}
        # Without defaults: a field that a later release adds was not asked for.
        asked = self.model_dump(mode="json", exclude=untold, exclude_defaults=True)
        return sha256_hex(json.dumps(asked, sort_keys=True))


class Opening(WireModel):
    """
    What the first activity fills in where Temporal alone has started a mission, and
    whether the server knows our search attributes.
    """

    crew: dict[Name, RoleSpec] = Field(default={})
    store: str = ""
    heartbeat_timeout_s: float = DEFAULT_TIMING.heartbeat_timeout_s
    has_search_attributes: bool = False


def filled_in(mission: Mission, opening: Opening) -> Mission:
    """
    Fill in the fields of a *mission* that Temporal alone has started.
    """
    found = {"store": opening.store, "heartbeat_timeout_s": opening.heartbeat_timeout_s}
    return mission.model_copy(update={**found, "crew": opening.crew})
