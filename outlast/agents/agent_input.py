"""
What an agent takes as its input: read from a task, and checked before it starts.
"""

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import JsonValue, PydanticUserError, TypeAdapter, ValidationError

from outlast.agents.input_fields import (
    dotted,
    fields_of,
    keys_in,
    members,
    unknown_keys,
    unknown_text,
    without_annotations,
)
from outlast.contracts.validation_faults import faults_of

NEEDS = "needs"
# More faults than this are of one cause, and nobody reads them all.
MAX_INPUT_FAULTS = 3
# Whether a path exists is known to the worker, which may be another host.
WORKER_SIDE_CHECKS = ("path_not_file", "path_not_directory", "path_not_exists")
# No task's input is one of these: it is an object with fields.
NO_OBJECTS = (str, bytes, int, float, bool, list, tuple, set, frozenset, type(None))


class AgentInput:
    """
    The type of an agent's first argument; without one, a dict of whatever it is given.

    :param is_list: the agent takes a list of items at once.
    :raises TypeError: when nothing of this type can be made of a task's input.
    """

    def __init__(self, hint: Any, is_list: bool = False) -> None:
        self._is_list = is_list
        self._hint = dict[str, Any] if hint is inspect.Parameter.empty else hint
        bare = without_annotations(self._hint)
        listed = (get_origin(bare) or bare) is list
        if is_list and not (listed or _is_open(self._hint)):
            raise TypeError(f"with batch_size it takes a list, not {name_of(hint)}")
        if not is_list and (get_origin(self._hint) or self._hint) in NO_OBJECTS:
            raise TypeError(
                f"a task's input is an object with fields, not {name_of(hint)}"
            )
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(self._hint)
            self._adapter.rebuild(raise_errors=True)
        except Exception as error:
            raise TypeError(
                f"{name_of(hint)} cannot be read: {_error_text(error)}"
            ) from error
        self.takes_needs = not is_list and _takes_needs(self._hint)
        # Nothing is to be checked where everything fits.
        self.is_open = _is_open(self._hint)
        self.takes_json = not (is_list or self.is_open or self.takes_needs)

    def read(self, given: Any, needs: dict[str, JsonValue]) -> Any:
        """
        Make the argument of a task's input; results of needed tasks fill its `needs`.

        :raises ValidationError: when it does not fit.
        """
        if self.takes_needs and (needs or not self.is_open):
            given = {**given, NEEDS: needs}
        return self._made(given)

    def read_json(self, body: str) -> Any:
        """
        Make the argument of JSON that holds nothing but the input, where `takes_json`.

        :raises ValidationError: when it does not fit, or has half a surrogate pair.
        """
        return self._adapter.validate_json(body, by_alias=True, by_name=True)

    def _made(self, values: Any, text: str | None = None) -> Any:
        """
        Read *values* as JSON, which is what they are: bytes, dates under strict and
        others come back as they were written. By alias or, as results are, by name.

        :param text: their JSON, where that is there.
        """
        both: dict[str, Any] = {"by_alias": True, "by_name": True}
        if self.is_open:
            return self._adapter.validate_python(values, **both)
        try:
            return self._adapter.validate_json(text or json.dumps(values), **both)
        except ValidationError as error:
            if error.errors()[0]["type"] != "json_invalid":
                raise
        # Half a surrogate pair, which JSON has not.
        return self._adapter.validate_python(values, **both)

    def faults(self, given: Any, text: str | None = None) -> list[str]:
        """
        Say what of a task's or an item's input does not fit, a phrase each. Results of
        needed tasks are not there yet.

        :param text: its JSON, where that is there.
        """
        if self.is_open:
            return []
        lead = 1 if self._is_list else 0
        whole: Any = [given] if self._is_list else given
        if self.takes_needs:
            whole = {**given, NEEDS: {}}
        try:
            value = self._made(whole, text if whole is given else None)
        except ValidationError as error:
            return self._misfits(error, lead)
        except Exception:
            return []  # a validator of the user's; the attempt says how it fails
        unknown = unknown_keys(value, whole, hint=self._hint)
        return [unknown_text(place[lead:], known) for place, known in unknown]

    def _misfits(self, error: ValidationError, lead: int) -> list[str]:
        told = []
        for each in error.errors(include_url=False, include_context=False):
            place = each["loc"][lead:]
            wanted = each["loc"][-1:] == (NEEDS,) or NEEDS in each["loc"][:2]
            if (wanted and self.takes_needs) or each["type"] in WORKER_SIDE_CHECKS:
                continue
            if each["type"] == "extra_forbidden":
                told.append(unknown_text(place, sorted(keys_in(self._hint))))
            else:
                told.append(f"{dotted(place)}: {each['msg']}")
        return told


def first_fault(error: ValidationError) -> str:
    """
    Say the first fault of a validation in one line.
    """
    fault = faults_of(error)[0]
    return f"{fault.place or 'input'}: {fault.message}"


def name_of(hint: Any) -> str:
    """
    Name a type as it is written.
    """
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")


def _error_text(error: Exception) -> str:
    if isinstance(error, NameError):  # as pydantic's own is, for a field's type
        return f"{error.name!r} is not defined where its type is written"
    inner = re.search(r"schema for <class '([^']+)'>", str(error))
    if inner:
        return f"nothing in JSON becomes a {inner[1]}"
    if isinstance(error, PydanticUserError):
        return str(error).splitlines()[0].rstrip(".")
    return f"{type(error).__name__} when its type is read"


def _is_open(hint: Any) -> bool:
    """
    True if every object fits: a dict of anything.
    """
    hint = without_annotations(hint)
    if hint in (Any, object, dict, Mapping):
        return True
    values = get_args(hint)
    is_map = get_origin(hint) in (dict, Mapping)
    return is_map and len(values) == 2 and values[1] in (Any, object, JsonValue)


def _takes_needs(hint: Any) -> bool:
    return any(
        _is_open(each) or NEEDS in (fields := fields_of(each)).keys or fields.extensible
        for each in members(hint)
    )
