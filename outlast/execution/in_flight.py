"""
Where an attempt says what it has in hand. The fleet's flight recorder listens; in a
test, or without a fleet, nobody does.
"""

from typing import Protocol


class InFlightSlot(Protocol):
    """
    One attempt's place.
    """

    def save(self, encoded: bytes) -> None:
        """
        Note a checkpoint, as JSON.
        """

    def finish(self) -> None:
        """
        Note that the attempt is over, though the server may not know it yet.
        """

    def leak(self) -> None:
        """
        Note that the attempt is over for its mission, while its code, which could not
        be ended, still runs here.
        """

    def leak_ended(self) -> None:
        """
        Note that the leaked code has ended after all.
        """


class InFlightRegistry(Protocol):
    """
    The places of one worker.
    """

    def start(
        self, token: bytes, mission: str, task: str, route: str, attempt: int
    ) -> InFlightSlot:
        """
        Note that an attempt is in hand.
        """


class NullRegistry:
    """
    Listens to nothing.
    """

    def start(
        self,
        token: bytes,
        mission: str,
        task: str,
        route: str,
        attempt: int,
    ) -> InFlightSlot:
        return self

    def save(self, encoded: bytes) -> None:
        pass

    def finish(self) -> None:
        pass

    def leak(self) -> None:
        pass

    def leak_ended(self) -> None:
        pass


NULL_REGISTRY = NullRegistry()
