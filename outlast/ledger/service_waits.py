"""
What waits for an outside service, and how often one has failed a task alone.
"""

import sqlalchemy as sa

from outlast.contracts.failures import FailureType
from outlast.ledger.attempts import close_attempt
from outlast.ledger.claim import Claim
from outlast.ledger.statements import of_attempt, of_round, of_task
from outlast.store.database import Store
from outlast.store.schema import attempts, fences

_WAITS_FOR = sa.select(fences.c.waits_for).where(of_task(fences))
_WAIT = (
    sa.update(fences).where(of_attempt(fences)).values(waits_for=sa.bindparam("who"))
)
_FAILURES = (
    sa.select(sa.func.count())
    .select_from(attempts)
    .where(of_round(attempts), attempts.c.failure_type == FailureType.SERVICE)
)


class ServiceWaits:
    """
    The waits in *store*. Methods block; call them through `Store.run`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def service_of(self, mission: str, task: str) -> str | None:
        """
        Name the service for which the task, or lease, waited at the end of its attempt.
        """
        with self.store.read() as connection:
            of = {"of_mission": mission, "of_task": task}
            found: str | None = connection.scalar(_WAITS_FOR, of)
        return found

    def record(
        self, claim: Claim, service: str, kind: FailureType, cause: str, trace: str
    ) -> None:
        """
        Close the attempt's row: its task waits for *service*, unless a later attempt
        has begun.
        """
        now = self.store.clock()
        with self.store.write(durable=False) as connection:
            close_attempt(connection, claim.params, cause, now, trace, kind)
            connection.execute(_WAIT, {**claim.params, "who": service})

    def failures(self, claim: Claim) -> int:
        """
        Count the attempts of the claim's round that a service failed while it answered
        others.
        """
        with self.store.read() as connection:
            return int(connection.scalar(_FAILURES, claim.params) or 0)
