"""
What the attempts of one process share.
"""

import asyncio
from dataclasses import dataclass, field
from functools import cached_property

from outlast.contracts.errors import GiveUp
from outlast.contracts.timing import DEFAULT_TIMING
from outlast.execution.agent_call import AgentCall
from outlast.execution.in_flight import NULL_REGISTRY, InFlightRegistry
from outlast.execution.service_waits import AttemptWaits
from outlast.execution.services import Services
from outlast.ledger.circuits import CircuitRecords
from outlast.ledger.ledger import Ledger


@dataclass(frozen=True)
class WorkerContext:
    """
    Where attempts run: the ledger, and what the attempts of one process share.

    :param drain_s: how long an attempt may last in all once its worker drains.
    :param leaked: the calls of agents that could not be ended and still run.
    :param closing: writes of ends that nobody waits for.
    """

    ledger: Ledger
    heartbeat_s: float = DEFAULT_TIMING.heartbeat_s
    in_flight: InFlightRegistry = NULL_REGISTRY
    drain_s: float = 0.0
    leaked: set[AgentCall] = field(default_factory=set)
    closing: set[asyncio.Future[None]] = field(default_factory=set)

    @cached_property
    def services(self) -> Services:
        """
        The outside services, as the crew knows them.
        """
        return Services(CircuitRecords(self.ledger.store))

    @cached_property
    def service_waits(self) -> AttemptWaits:
        """
        How attempts wait for services that are away.
        """
        return AttemptWaits(self.ledger.store, self.services)

    def require_same_store(self, store: str) -> None:
        """
        Make sure that the store with the id *store* is ours: played into another,
        effects could happen twice.

        :raises GiveUp: when it is not.
        """
        ours = self.ledger.store
        if store not in ("", ours.id):
            raise GiveUp(
                f"the mission is recorded in another store than {ours.place}: give "
                "each store a Temporal namespace of its own"
            )
