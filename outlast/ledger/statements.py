"""
Which row a statement is about, for statements that are built once.

Building an expression costs more than running it (0.8 against 0.1 ms a save), and a
task whose process died waits for its next attempt: what every attempt executes is a
constant of its module, with the parameters of `Claim.params`.
"""

import sqlalchemy as sa

OF_MISSION: sa.BindParameter[str] = sa.bindparam("of_mission")
OF_TASK: sa.BindParameter[str] = sa.bindparam("of_task")
OF_ROUND: sa.BindParameter[int] = sa.bindparam("of_round")
OF_FENCE: sa.BindParameter[int] = sa.bindparam("of_fence")


def of_task(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.mission == OF_MISSION, table.c.task == OF_TASK)


def of_round(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(of_task(table), table.c.round == OF_ROUND)


def of_attempt(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(of_task(table), table.c.fence == OF_FENCE)
