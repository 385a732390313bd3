"""
Where an effect's key belongs: the logical mission, whatever it runs as at the moment.
"""

from outlast.contracts.state import Contract


class Scope(Contract):
    """
    A logical mission, carried from each mission to what it makes, never read out of an
    id.

    :param path: the root mission and the tasks that lead to a child mission or a
        fan-out, parted by "/", which no name holds.
    :param rounds: the rounds of these tasks, each followed by a dot.
    """

    path: str
    rounds: str = ""

    def within(self, task: str, round_: int) -> "Scope":
        """
        The scope of the child mission or fan-out that a round of *task* makes.
        """
        return Scope(path=f"{self.path}/{task}", rounds=f"{self.rounds}{round_}.")

    def turn(self, round_: int) -> str:
        """
        Name a task's round so that it differs from the same number in another round
        of the mission around it.
        """
        return f"{self.rounds}{round_}"


def batch_scope(batch: str) -> Scope:
    """
    The scope of a batch that no mission has made; no mission's path begins with a '#'.
    """
    return Scope(path=f"#{batch}")
