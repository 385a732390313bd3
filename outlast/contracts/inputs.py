"""
Inputs of tasks that are too large to travel with a plan: they go into the store, and
the task has a reference.
"""

from collections.abc import Iterable

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from outlast.contracts.child_missions import MISSION_ROLE, ChildMissionSpec
from outlast.contracts.errors import BadInputError
from outlast.contracts.sizes import INPUT_BYTES, MAX_RESULT_BYTES
from outlast.contracts.tasks import Stored, Task
from outlast.contracts.text import sha256_hex_of_bytes

# With inf and nan, as in Temporal's payloads.
INPUT = TypeAdapter(
    dict[str, JsonValue], config=ConfigDict(ser_json_inf_nan="constants")
)


class InputStorage:
    """
    Takes large inputs out of the tasks of the mission *owner*. The store must have
    *bodies* before the tasks travel.
    """

    def __init__(self, owner: str, largest: int = MAX_RESULT_BYTES) -> None:
        self.bodies: list[bytes] = []
        self._owner = owner
        self._largest = largest

    def stored(self, tasks: Iterable[Task]) -> list[Task]:
        """
        Return *tasks* as they travel.

        :raises BadInputError: naming the task whose input cannot be kept.
        """
        return [self._store(task) for task in tasks]

    def _store(self, task: Task) -> Task:
        try:
            body = INPUT.dump_json(task.input)
        except ValueError:
            raise BadInputError(
                f"task {task.id!r} holds text that is no UTF-8 and cannot travel"
            ) from None
        if len(body) <= INPUT_BYTES:
            return task
        if task.role == MISSION_ROLE:
            return self._store_nested(task)
        if len(body) > self._largest:
            raise BadInputError(
                f"task {task.id!r} has {len(body)} bytes of input, over the cap of "
                f"{self._largest} (OUTLAST_LARGEST_MB): give where the rest lies"
            )
        self.bodies.append(body)
        stored = Stored(
            owner=self._owner, digest=sha256_hex_of_bytes(body), size=len(body)
        )
        return task.model_copy(update={"input": {}, "stored": stored})

    def _store_nested(self, task: Task) -> Task:
        try:
            part = ChildMissionSpec.model_validate(task.input)
        except ValidationError:
            return task  # `validate_tasks` refuses it
        told = part.model_copy(update={"tasks": self.stored(part.tasks)})
        lean = told.model_dump(mode="json", exclude_defaults=True)
        return task.model_copy(update={"input": lean})
