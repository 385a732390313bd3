"""
What a store needs of the database below it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import sqlalchemy as sa

NO_KNOWN_STORES: Mapping[str, str] = {}  # ids by places


class Database(ABC):
    """
    A database that holds a store. Methods block and raise StoreError.

    :ivar place: as messages name it, without a password.
    :ivar threads: how many may use it at once.
    :ivar auto_migrate: whether opening it may change an older schema.
    :ivar clock: the one clock of all that use it: seconds since 1970.
    """

    place: str
    one_host: bool
    threads: int
    auto_migrate: bool
    clock: Callable[[], float]
    _id = ""

    @abstractmethod
    def reading(self, wait_s: float) -> AbstractContextManager[sa.Connection]:
        """
        One consistent view. A server that is away is waited for so long.
        """

    @abstractmethod
    def writing(
        self, durable: bool, wait_s: float
    ) -> AbstractContextManager[sa.Connection]:
        """
        One write transaction; one that is not *durable* may be lost with the power.
        """

    @abstractmethod
    def migrating(self) -> AbstractContextManager[sa.Connection]:
        """
        One write transaction beside which no other changes the schema.
        """

    @abstractmethod
    def check(self) -> None:
        """
        Make sure that the store is there and is the one that is expected.
        """

    @abstractmethod
    def close(self) -> None: ...

    def expect_id(self, id_: str) -> None:
        """
        Refuse from now on any store but the one with this id.
        """
        self._id = id_

    def mark_id(self, id_: str) -> None:  # noqa: B027 - PostgreSQL needs none
        """
        Leave a mark of the id where a store that is written over lacks it.
        """

    def shrink(self) -> None:  # noqa: B027 - a server sees to its files itself
        """
        Take up no more room than the rows do.
        """
