"""
Types that the agents of the tests import only where types are checked.
"""

from pydantic import BaseModel


class Errand(BaseModel):
    what: str
