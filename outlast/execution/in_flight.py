"""
Where an attempt says what it has in hand. The fleet's flight recorder overrides this;
in a test, or without a fleet, it does nothing.
"""

from collections.abc import Iterable
from itertools import islice

# As many numbers as a slot of the flight recorder and a heartbeat hold.
MAX_RECORDED_ITEMS = 400


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


class ItemsInFlight:
    """
    The items that a lease has in flight, by number, noted in its *slot* so that a death
    is charged to those and to no other.
    """

    def __init__(self, slot: InFlightSlot) -> None:
        self._slot = slot
        self._numbers: dict[int, None] = {}  # in the order in which they began

    @property
    def numbers(self) -> list[int]:
        return list(islice(self._numbers, MAX_RECORDED_ITEMS))

    def add(self, numbers: Iterable[int]) -> None:
        self._numbers.update(dict.fromkeys(numbers))
        self.record()

    def discard(self, numbers: Iterable[int]) -> None:
        """
        Forget these; that is recorded with the next that begin.
        """
        for number in numbers:
            self._numbers.pop(number, None)

    def record(self) -> None:
        numbers = ",".join(map(str, islice(self._numbers, MAX_RECORDED_ITEMS)))
        self._slot.save(b'{"value":[%s]}' % numbers.encode())


NULL_SLOT = InFlightSlot()
NULL_REGISTRY = InFlightRegistry()
