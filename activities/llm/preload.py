"""
What workers import before they work, so that no thought waits for it: pydantic-ai, and
the client of each model that is set. A model of no sort is refused here, in a sentence.
"""

from outlast import GiveUp
from outlast.contracts.errors import BadInputError
from outlast.crew.llm import conversation
from outlast.crew.llm.model_client import connect_model
from outlast.crew.llm.models import VARIABLES, model_of, present

__all__ = ["conversation"]

for _ending in present():
    try:
        connect_model(model_of(_ending))
    except GiveUp as error:
        raise BadInputError(f"{VARIABLES[_ending]}: {error}") from None
