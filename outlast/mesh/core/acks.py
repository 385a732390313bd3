"""
Submissions that wait for their copies, until those are there or have had their time.
"""

from collections.abc import Callable
from dataclasses import dataclass

from outlast.contracts.policies import MESH_ACK_S
from outlast.mesh.core.effects import Acknowledge
from outlast.mesh.core.events import Key


@dataclass(frozen=True)
class Receipt:
    """
    A submission that nobody has been told about yet.
    """

    task: str
    key: Key  # of its event
    asked: int
    due_s: float


class Receipts:
    """
    The receipts that are still owed.
    """

    def __init__(self) -> None:
        self._owed: list[Receipt] = []

    def owe(self, task: str, key: Key, asked: int, now_s: float) -> None:
        """
        Remember to acknowledge *task*.
        """
        self._owed.append(Receipt(task, key, asked, now_s + MESH_ACK_S))

    def ready(
        self, copies: Callable[[str, int], int], now_s: float
    ) -> list[Acknowledge]:
        """
        Take out those that have their *copies* or have waited long enough.
        """
        counted = [(each, copies(*each.key)) for each in self._owed]
        told = [
            (each, count)
            for each, count in counted
            if count >= each.asked or now_s >= each.due_s
        ]
        gone = {id(each) for each, _ in told}
        self._owed = [each for each in self._owed if id(each) not in gone]
        return [Acknowledge(each.task, count) for each, count in told]
