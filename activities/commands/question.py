"""
Turn a question into a mission, or into one sentence on what is wrong with it.
"""

import socket
from pathlib import Path

from pydantic import JsonValue

from outlast.cli.mission_file import build_mission, new_mission_id
from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import Mission
from outlast.contracts.tasks import Task
from outlast.contracts.text import one_line
from outlast.crew import settings as crew
from outlast.crew.library.folder import scan
from outlast.crew.library.library import library_id
from outlast.settings import settings

QUESTION_CHARS = 1000


def question_mission(question: str, documents: Path, mission: str | None) -> Mission:
    """
    Make the mission that answers *question* from the folder *documents*.

    :raises BadInputError: when either cannot be used.
    """
    asked = " ".join(question.split())
    if not asked:
        raise BadInputError("the question is empty")
    if len(asked) > QUESTION_CHARS:
        raise BadInputError(
            f"the question is longer than {QUESTION_CHARS} characters: shorten it"
        )
    folder = check_folder(documents)
    name = mission or new_mission_id("ask")
    asking: dict[str, JsonValue] = {"question": asked, "mission": name}
    tasks = _ask_library if settings().database_url is not None else _ask_folder
    return build_mission({"id": name, "goal": asked, "tasks": tasks(folder, asking)})


def _ask_folder(folder: Path, asking: dict[str, JsonValue]) -> list[Task]:
    """
    Have the workers, who are here, read *folder* and write the report.
    """
    where: dict[str, JsonValue] = {"documents": str(folder)}
    plan = {
        **where,
        **asking,
        "reports": str(crew.settings().reports_below(settings().home)),
    }
    return [
        Task(id="shelve", role="shelver", input=dict(where)),
        Task(id="index", role="librarian", input=dict(where), needs=["shelve"]),
        Task(id="plan", role="planner", input=plan, needs=["index"]),
    ]


def _ask_library(folder: Path, asking: dict[str, JsonValue]) -> list[Task]:
    """
    Ask the library that the starter has made of *folder*: the workers may be elsewhere.
    """
    where: dict[str, JsonValue] = {"library": library_of(folder)}
    return [
        Task(id="index", role="librarian", input=dict(where)),
        Task(id="plan", role="planner", input={**where, **asking}, needs=["index"]),
    ]


def library_of(folder: Path) -> str:
    """
    Name the library of *folder* on this host: others have folders of the same path.
    """
    return library_id("default", folder, socket.gethostname())


def check_folder(documents: Path) -> Path:
    """
    Make sure that *documents* is a folder we can read something from.

    :raises BadInputError: when it is not.
    """
    try:
        folder = documents.expanduser().resolve(strict=True)
        found = scan(folder) if folder.is_dir() else None
    except FileNotFoundError:
        raise BadInputError(f"there is no folder {documents}") from None
    except (OSError, RuntimeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise BadInputError(f"the folder {documents} cannot be read: {cause}") from None
    if found is None:
        raise BadInputError(f"{documents} is not a folder")
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        name = one_line(str(folder), 300)
        raise BadInputError(
            f"the folder's name {name} is not valid text: rename it"
        ) from None
    if not found:
        raise BadInputError(
            f"the folder {documents} holds no document that can be read "
            "(txt, md, html, pdf, docx)"
        )
    return folder
