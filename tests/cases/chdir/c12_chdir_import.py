"""A module that goes to its own folder when it is imported, as scripts do."""

import os

from outlast import Context, agent

os.chdir(os.path.dirname(os.path.abspath(__file__)))


@agent("c12-import")
async def here(given: dict, ctx: Context) -> dict:
    return {"summary": os.getcwd()}
