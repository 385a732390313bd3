"""
The circuits of outside services: a row for each tenant and service, shared by the crew.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

import sqlalchemy as sa

from outlast.ledger.circuit_decision import CLOSED, Circuit, CircuitState
from outlast.store.database import Store
from outlast.store.schema import circuits
from outlast.store.upsert import insert_if_absent

T = TypeVar("T")

_OF = sa.and_(
    circuits.c.tenant == sa.bindparam("of_tenant"),
    circuits.c.service == sa.bindparam("of_service"),
)
_FIND = sa.select(circuits.c.circuit).where(_OF)
_LOCK = _FIND.with_for_update()
_SET = sa.update(circuits).where(_OF).values(circuit=sa.bindparam("changed"))
_ALL = sa.select(circuits).order_by(circuits.c.tenant, circuits.c.service)


class CircuitRecords:
    """
    The circuits in *store*. Methods block; call them through `Store.run`.
    """

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        self.store = store
        self._clock = clock or store.clock

    def now(self) -> float:
        """
        Read the clock by which circuits are decided.
        """
        return self._clock()

    def find(self, tenant: str, service: str) -> Circuit:
        """
        Read one circuit; it is closed where nobody has had trouble with the service.
        """
        with self.store.read() as connection:
            row = {"of_tenant": tenant, "of_service": service}
            return _read(connection.scalar(_FIND, row))

    def change(
        self,
        tenant: str,
        service: str,
        decide: Callable[[Circuit, float], tuple[Circuit, T]],
    ) -> tuple[Circuit, T]:
        """
        Replace a circuit by what *decide* makes of it and of the time, alone.

        :returns: the new circuit, and the rest of what *decide* has decided.
        """
        row = {"tenant": tenant, "service": service}
        of = {"of_tenant": tenant, "of_service": service}
        with self.store.write(durable=False) as connection:
            insert_if_absent(connection, circuits, {**row, "circuit": _written(CLOSED)})
            before = _read(connection.scalar(_LOCK, of))
            after, decision = decide(before, self._clock())
            if after != before:
                connection.execute(_SET, {**of, "changed": _written(after)})
        return after, decision

    def away(self) -> list[tuple[str, str, Circuit]]:
        """
        List the services that do not answer now, each after its tenant.
        """
        with self.store.read() as connection:
            rows = connection.execute(_ALL).all()
        every = [(row.tenant, row.service, _read(row.circuit)) for row in rows]
        return [each for each in every if each[2].state is not CircuitState.CLOSED]


def _read(text: str | None) -> Circuit:
    if text is None:
        return CLOSED
    row = json.loads(text)
    told = {"state": CircuitState(row["state"]), "failed_at": tuple(row["failed_at"])}
    return Circuit(**{**row, **told})


def _written(circuit: Circuit) -> str:
    return json.dumps(asdict(circuit))
