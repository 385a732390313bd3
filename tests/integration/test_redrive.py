"""
Tasks that were given up are done again, each from where it was.
"""

import pytest
from small_crew import Crew, ended, task
from test_supervisor import Input, for_ever, outcome, well

from outlast import Context, FollowUps, GiveUp
from outlast.contracts.errors import BadInputError, RefusedError
from outlast.contracts.reports import MissionStatus, Report, TaskStatus
from outlast.ledger.audit import audit_ledger
from outlast.ledger.missions import MissionRecords
from outlast.temporal.redrive import restart_mission, select_redrive


class Patient:
    """
    An agent that saves two steps and cannot take the third before it is *well*.
    """

    def __init__(self, crew: Crew) -> None:
        self.well = False
        self.steps: list[int] = []
        crew.plays("patient", self.play)
        crew.plays("well", well)

    async def play(self, given: Input, ctx: Context) -> str:
        done = await ctx.resume(int, 0)
        for step in range(done + 1, 4):
            if step == 3 and not self.well:
                raise GiveUp("the source is away")
            self.steps.append(step)
            await ctx.save(step)
        return f"after {ctx.round}"


async def again(crew: Crew, report: Report, name: str | None = None) -> Report:
    """
    Redrive the mission that has ended with *report*.
    """
    books = MissionRecords(crew.store)
    redrive = select_redrive(books, "m", report.tasks, name)
    await restart_mission(crew.client, books, report, redrive)
    handle = crew.client.get_workflow_handle("m", result_type=Report)
    return await ended(handle)


async def test_a_mission_that_has_ended_goes_on(small_crew: Crew) -> None:
    """
    What was given up goes on from its last checkpoint in a new round, what had waited
    for it is done, what was done stays; and the books are closed anew.
    """
    patient = Patient(small_crew)
    tasks = [
        task("a", "well"),
        task("t", "patient", needs=["a"]),
        task("after", "well", needs=["t"]),
    ]
    async with small_crew.at_work():
        report = await ended(await small_crew.start(small_crew.mission(*tasks)))
        assert report.status is MissionStatus.FAILED
        patient.well = True
        report = await again(small_crew, report)

    assert report.status is MissionStatus.COMPLETED
    assert patient.steps == [1, 2, 3]
    assert outcome(report, "t").round == 2
    assert outcome(report, "a").round == 1
    books = MissionRecords(small_crew.store)
    assert books.results("m") == {"a": "well", "t": "after 2", "after": "well"}
    entry = books.find("m")
    assert entry is not None
    assert entry.report == report
    assert audit_ledger(books.store).violations == []


async def test_a_redriven_mission_may_fail_again(small_crew: Crew) -> None:
    """
    And be redriven once more: nothing is lost by trying.
    """
    patient = Patient(small_crew)
    async with small_crew.at_work():
        mission = small_crew.mission(task("t", "patient"))
        report = await ended(await small_crew.start(mission))
        report = await again(small_crew, report)
        assert report.status is MissionStatus.FAILED
        patient.well = True
        report = await again(small_crew, report, "t")

    assert report.status is MissionStatus.COMPLETED
    assert outcome(report, "t").round == 3
    assert patient.steps == [1, 2, 3]


async def test_what_agents_had_asked_for_is_still_in_the_plan(small_crew: Crew) -> None:
    """
    The plan of a redriven mission is that of its end, follow-up tasks included.
    """
    patient = Patient(small_crew)

    async def plan(given: Input, ctx: Context) -> FollowUps:
        return FollowUps(tasks=[task("t", "patient"), task("u", "well", needs=["t"])])

    small_crew.plays("plan", plan)
    async with small_crew.at_work():
        mission = small_crew.mission(task("p", "plan"))
        report = await ended(await small_crew.start(mission))
        patient.well = True
        report = await again(small_crew, report)

    assert report.status is MissionStatus.COMPLETED
    assert {each.id for each in report.tasks} == {"p", "t", "u"}


async def test_an_open_mission_takes_a_redrive_as_an_update(small_crew: Crew) -> None:
    """
    The others go on meanwhile.
    """
    patient = Patient(small_crew)
    small_crew.plays("for_ever", for_ever)
    async with small_crew.at_work():
        tasks = [task("t", "patient"), task("long", "for_ever", required=False)]
        handle = await small_crew.start(small_crew.mission(*tasks))
        seen = await small_crew.until(handle, lambda progress: progress.settled)
        patient.well = True
        redrive = select_redrive(
            MissionRecords(small_crew.store), "m", seen.settled, None
        )
        await handle.execute_update("redrive", redrive)
        await small_crew.until(
            handle,
            lambda progress: any(
                each.status is TaskStatus.DONE for each in progress.settled
            ),
        )
        await handle.execute_update("cancel", "enough")
        report = await ended(handle)

    assert outcome(report, "t").status is TaskStatus.DONE
    assert patient.steps == [1, 2, 3]


async def test_only_what_was_given_up_is_redriven(small_crew: Crew) -> None:
    """
    Done work is left alone, and a mission that the server has forgotten is refused.
    """
    Patient(small_crew)
    async with small_crew.at_work():
        mission = small_crew.mission(task("a", "well"), task("t", "patient"))
        report = await ended(await small_crew.start(mission))
        books = MissionRecords(small_crew.store)
        with pytest.raises(BadInputError, match="task a has not been given up"):
            select_redrive(books, "m", report.tasks, "a")
        unknown = report.model_copy(update={"mission": "unknown"})
        redrive = select_redrive(books, "m", report.tasks, None)
        with pytest.raises(RefusedError, match="another id"):
            await restart_mission(small_crew.client, books, unknown, redrive)
