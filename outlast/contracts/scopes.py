"""
Where an effect's key belongs: the logical mission, in whatever workflow it runs.
"""

from pydantic import ValidationInfo, field_validator

from outlast.contracts.ids import BatchScopePath, ScopePath, require_name
from outlast.contracts.versioned import VersionedModel
from outlast.contracts.wire import WireModel


class Scope(WireModel):
    """
    A logical mission, carried from each mission to what it makes, never read out of an
    id.

    :param path: the root mission, or a `ScopePath` or `BatchScopePath`.
    :param rounds: the rounds of these tasks, each followed by a dot.
    """

    path: str
    rounds: str = ""

    def within(self, task: str, round_: int) -> "Scope":
        path = str(ScopePath(self.path, task))
        return Scope(path=path, rounds=f"{self.rounds}{round_}.")

    def turn(self, round_: int) -> str:
        """
        Name a task's round so that it differs from the same number in another round
        of the mission around it.
        """
        return f"{self.rounds}{round_}"


class ScopedModel(VersionedModel):
    """
    A mission or a batch. Without a scope its id is a name that a user has chosen.
    """

    scope: Scope | None = None  # where its effects' keys belong
    id: str

    @field_validator("id")
    @classmethod
    def _refuse_composed(cls, id_: str, others: ValidationInfo) -> str:
        require_name(id_, is_users=others.data.get("scope") is None)
        return id_


def batch_scope(batch: str) -> Scope:
    return Scope(path=str(BatchScopePath(batch)))
