"""
Turn what a user gives into a mission, or into one sentence on what is wrong with it.
"""

import json
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import Mission
from outlast.contracts.text import one_line
from outlast.contracts.validation_faults import faults_of, first_few
from outlast.settings import settings

# JSON parsers stop at 200 levels, some of which our own models take.
MAX_NESTING = 180
# More faults than this are of one cause, and nobody reads them all.
MAX_FILE_FAULTS = 5


def mission_file(path: Path, mission: str | None) -> Mission:
    """
    Read the mission in the YAML file at *path*.

    :raises BadInputError: in one sentence.
    """
    content = parse_mission(_read(path), str(path))
    if mission is not None:
        content["id"] = mission
    elif "id" not in content:
        content["id"] = new_mission_id(path.stem)
    return build_mission(content)


def parse_mission(text: str, name: str) -> dict[str, Any]:
    """
    Parse a mission's YAML: plain data, no aliases, one mapping.

    :raises BadInputError: when it is anything else.
    """
    try:
        content = _json(text) or yaml.load(text, _NoAliasLoader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise BadInputError(
            f"{name} is nested too deeply: give its inputs where they lie"
        ) from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # PyYAML lets the errors of int, float and datetime through as they are.
        told = _yaml_fault(error)
        raise BadInputError(f"{name} is not a mission in YAML: {told}") from None
    if not isinstance(content, dict):
        raise BadInputError(f"{name} is no mapping: it must hold goal and tasks")
    if _deeper_than(content, MAX_NESTING):
        raise BadInputError(
            f"{name} is nested more than {MAX_NESTING} levels deep: give its inputs "
            "where they lie"
        )
    return content


def _json(text: str) -> Any:
    """
    Read what is JSON as such, a hundred times faster than as YAML; None where it is
    none.
    """
    if not text.lstrip().startswith("{"):
        return None
    with suppress(ValueError):
        return json.loads(text, parse_constant=_no_constant)
    return None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def build_mission(content: dict[str, Any]) -> Mission:
    """
    Make a mission of *content*.

    :raises BadInputError: naming the fields that do not fit.
    """
    if "crew" in content:
        raise BadInputError(
            "crew is not for a mission file: the workers decide it; leave it out"
        )
    for filled_in in ("prior_run", "parent", "scope"):
        if filled_in in content:
            raise BadInputError(f"{filled_in} is not for a mission file: leave it out")
    try:
        return Mission.model_validate(content)
    except ValidationError as error:
        # A misspelt key is a second fault, and the one that explains the first.
        faults = first_few(faults_of(error), MAX_FILE_FAULTS)
        raise BadInputError(f"the mission's {faults}") from None


def _yaml_fault(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or problem is None:
        return one_line(str(error), 300)
    where = f"line {mark.line + 1}, column {mark.column + 1}"
    return f"{one_line(problem, 200)} in {where}"


def new_mission_id(stem: str) -> str:
    safe = "".join(c if c.isalnum() and c.isascii() else "-" for c in stem.lower())
    day = time.strftime("%Y%m%d-%H%M%S")
    return f"{safe.strip('-')[:40] or 'mission'}-{day}-{secrets.token_hex(4)}"


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        inner = [each.values() if isinstance(each, dict) else each for each in layer]
        layer = [
            item for each in inner for item in each if isinstance(item, dict | list)
        ]
    return bool(layer)


def _read(path: Path) -> str:
    most = settings().largest_bytes
    try:
        with path.open("rb") as file:
            body = file.read(most + 1)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from None
    if len(body) > most:
        raise BadInputError(
            f"{path} is larger than {most} bytes: raise OUTLAST_LARGEST_MB, or give "
            "its tasks where their input lies"
        )
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadInputError(f"{path} is not a text in UTF-8: save it as one") from None


class _NoAliasLoader(yaml.SafeLoader):
    """
    YAML without aliases: a few of them unfold to more than any memory.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed here")
        return super().compose_node(parent, index)
