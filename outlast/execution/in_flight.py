"""
Where an attempt says what it has in hand. The fleet's flight recorder overrides this;
in a test, or without a fleet, it does nothing.
"""


class InFlightSlot:
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


class InFlightRegistry:
    """
    The places of one worker.
    """

    def start(
        self, token: bytes, mission: str, task: str, route: str, attempt: int
    ) -> InFlightSlot:
        """
        Note that an attempt is in hand.
        """
        return NULL_SLOT


NULL_SLOT = InFlightSlot()
NULL_REGISTRY = InFlightRegistry()
