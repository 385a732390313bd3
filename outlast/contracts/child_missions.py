"""
Missions within missions: a task of the role `mission` is a mission of its own.
"""

from pydantic import Field, ValidationError

from outlast.contracts.errors import BadInputError
from outlast.contracts.ids import MISSION_ID_CHARS, ChildMissionId, is_too_long
from outlast.contracts.missions import Mission
from outlast.contracts.tasks import Limits, Task
from outlast.contracts.validation_faults import faults_of
from outlast.contracts.wire import WireModel

MISSION_ROLE = "mission"


class ChildMissionSpec(WireModel):
    """
    The input of such a task.
    """

    goal: str = Field(min_length=1, max_length=2000)
    tasks: list[Task] = Field(min_length=1)
    limits: Limits = Limits()


def child_mission(mission: Mission, task: Task, round_: int = 1) -> Mission:
    """
    Make the child mission of *task* of *mission*.

    :raises BadInputError: in one sentence, naming the task.
    """
    if mission.limits.generations == 0:
        raise BadInputError(f"task {task.id!r}: missions may not lie any deeper")
    name = str(ChildMissionId(mission.id, task.id, round_))
    if is_too_long(name):
        raise BadInputError(
            f"task {task.id!r}: the id of its mission may grow longer than "
            f"{MISSION_ID_CHARS} characters, as it holds the names of all missions and "
            "tasks around it: choose shorter names"
        )
    try:
        part = ChildMissionSpec.model_validate(task.input)
        deeper = min(part.limits.generations, mission.limits.generations - 1)
        return Mission(
            id=name,
            goal=part.goal,
            tasks=part.tasks,
            limits=part.limits.model_copy(update={"generations": deeper}),
            tenant=mission.tenant,
            crew=mission.crew,
            store=mission.store,
            heartbeat_timeout_s=mission.heartbeat_timeout_s,
            parent=mission.id,
            scope=mission.logical.within(task.id, round_),
        )
    except ValidationError as error:
        raise BadInputError(
            f"task {task.id!r}: its mission's {faults_of(error)[0]}"
        ) from None
