"""
What a task's agent is given: the task's input, and the results that it needs.
"""

from pydantic import JsonValue
from pydantic_core import from_json

from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import GiveUp
from outlast.contracts.sizes import NEEDS_FACTOR
from outlast.contracts.tasks import Task
from outlast.execution.floats import parsed
from outlast.ledger.ledger import Ledger
from outlast.ledger.results import TaskResults


async def read_input(ledger: Ledger, task: Task) -> dict[str, JsonValue]:
    """
    Return the input of *task*, from the store where it was too large to travel.

    :raises GiveUp: when it is not there.
    """
    if task.stored is None:
        return task.input
    body = await ledger.store.run(ledger.load_stored, task.stored)
    if body is None:
        raise GiveUp("its input is not in the store any more")
    given: dict[str, JsonValue] = from_json(body)
    return given


async def read_needs(ledger: Ledger, assignment: AttemptInput) -> dict[str, JsonValue]:
    """
    Return the results of the tasks that this one needs, by task id.

    :raises GiveUp: when one is not there, or all of them are more than one attempt
        may be given.
    """
    store, mission, needs = ledger.store, assignment.mission, assignment.needs
    size = await store.run(_size_of, ledger, mission, needs) if needs else 0
    if size > (most := NEEDS_FACTOR * store.largest):
        raise GiveUp(
            f"the {len(needs)} results that it needs have {size} bytes together, "
            f"over the cap of {most} (see OUTLAST_LARGEST_MB): have tasks between "
            "them sum them up"
        )
    results = TaskResults(store, mission)
    return {need: parsed(await store.run(results.text, need)) for need in needs}


def _size_of(ledger: Ledger, mission: str, needs: list[str]) -> int:
    size = 0
    for need in needs:
        answer = ledger.answer(mission, need)
        if answer is None:
            raise GiveUp(f"the result of {need!r} is not in the ledger")
        size += answer.size
    return size
