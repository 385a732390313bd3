"""
Submissions that wait for their copies, until those are there or have had their time.
"""

from collections.abc import Callable
from dataclasses import dataclass

from outlast.contracts.mesh_timing import MESH_ACK_S
from outlast.mesh.core.effects import AckSubmission
from outlast.mesh.core.events import Key


@dataclass(frozen=True)
class PendingAck:
    """
    A submission that nobody has been told about yet.
    """

    task: str
    key: Key  # of its event
    copies: int
    due_s: float


class PendingAcks:
    """
    The receipts that are still owed.
    """

    def __init__(self) -> None:
        self._pending: list[PendingAck] = []

    def add(self, task: str, key: Key, copies: int, now_s: float) -> None:
        """
        Remember to acknowledge *task*.
        """
        self._pending.append(PendingAck(task, key, copies, now_s + MESH_ACK_S))

    def ready(
        self, copies: Callable[[str, int], int], now_s: float
    ) -> list[AckSubmission]:
        """
        Take out those that have their *copies* or have waited long enough.
        """
        counted = [(each, copies(*each.key)) for each in self._pending]
        told = [
            (each, count)
            for each, count in counted
            if count >= each.copies or now_s >= each.due_s
        ]
        gone = {id(each) for each, _ in told}
        self._pending = [each for each in self._pending if id(each) not in gone]
        return [AckSubmission(each.task, count) for each, count in told]
