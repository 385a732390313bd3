"""
The modules of the shipped crew, as the entry point in `outlast.agents` names them.
"""

from importlib.util import find_spec

from outlast.contracts.errors import BadInputError
from outlast.crew.settings import settings

CREW_MODULES = [
    "outlast.crew.librarian",
    "outlast.crew.planner",
    "outlast.crew.publisher",
    "outlast.crew.scripted_agent",
    "outlast.crew.researcher",
    "outlast.crew.reviewer",
    "outlast.crew.tickets",
    "outlast.crew.writer",
]

# The same trades, thinking with a model; they go ahead of those above.
LLM_MODULES = [
    "outlast.crew.llm.llm_planner",
    "outlast.crew.llm.llm_researcher",
    "outlast.crew.llm.llm_reviewer",
    "outlast.crew.llm.llm_writer",
]
# What their thoughts need: a second of imports, for those who play them alone.
LLM_PRELOAD = "outlast.crew.llm.preload"

# What `outlast[crew]` brings, by the names that it is imported by.
CREW_EXTRA = ("docx", "lxml", "pypdf", "snowballstemmer")


def modules(for_workers: bool) -> list[str]:
    """
    List the modules that declare the crew's agents; none without its extra.

    :param for_workers: for a process that plays agents and does not only name them.
    :raises BadInputError: when the crew's settings do not fit.
    """
    if missing():
        return []
    chosen = settings()
    root = chosen.documents_root
    if for_workers and root is not None and not root.is_dir():
        raise BadInputError(f"OUTLAST_DOCUMENTS_ROOT={root} is not a folder")
    if not chosen.model:
        return CREW_MODULES
    return [*CREW_MODULES, *LLM_MODULES, *([LLM_PRELOAD] if for_workers else [])]


def missing() -> list[str]:
    """
    List what is not installed of the crew's extra.
    """
    return [name for name in CREW_EXTRA if find_spec(name) is None]
