"""
What agents' code may do: effects with an identity, and what was seen of a failure.
"""

revision = "4"
down_revision = "3"


def upgrade() -> None:
    pass
