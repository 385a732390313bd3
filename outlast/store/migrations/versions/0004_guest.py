"""
What agents' code may do: effects with an identity, and what was seen of a failure.
"""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    _add_tracebacks()


def _add_tracebacks() -> None:
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    for table in ("attempts", "item_troubles"):
        op.add_column(table, sa.Column("traceback", text))
