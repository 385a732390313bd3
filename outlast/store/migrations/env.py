"""
Alembic's entry: runs what is asked for within the transaction that it is given.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
