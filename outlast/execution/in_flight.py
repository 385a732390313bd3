"""
Where an attempt says what it has in hand. The fleet's flight recorder listens; in a
test, or without a fleet, nobody does.
"""

from typing import Protocol


class Hand(Protocol):
    """
    One attempt's place.
    """

    def save(self, encoded: bytes) -> None:
        """
        Note a checkpoint, as JSON.
        """

    def returned(self) -> None:
        """
        Note that the attempt is over, though the server may not know it yet.
        """

    def leaked(self) -> None:
        """
        Note that the attempt is over for its mission, while its code, which could not
        be ended, still runs here.
        """

    def unleaked(self) -> None:
        """
        Note that the leaked code has ended after all.
        """


class Hands(Protocol):
    """
    The places of one worker.
    """

    def take(
        self, token: bytes, mission: str, task: str, route: str, attempt: int
    ) -> Hand:
        """
        Note that an attempt is in hand.
        """


class Nobody:
    """
    Listens to nothing.
    """

    def take(
        self,
        token: bytes,
        mission: str,
        task: str,
        route: str,
        attempt: int,
    ) -> Hand:
        return self

    def save(self, encoded: bytes) -> None:
        pass

    def returned(self) -> None:
        pass

    def leaked(self) -> None:
        pass

    def unleaked(self) -> None:
        pass


NOBODY = Nobody()
