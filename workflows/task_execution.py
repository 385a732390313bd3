"""
One task on its way to an outcome: asked for, tried on its routes, answered.

Nothing here ends the mission: whatever happens becomes the task's own outcome.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError, TerminatedError

from outlast.contracts.approvals import MOST_APPROVED, Moment, WantedEffect
from outlast.contracts.child_missions import MISSION_ROLE
from outlast.contracts.errors import BadInputError
from outlast.contracts.models import (
    Answer,
    Assignment,
    Checkpoint,
    Mission,
    Redoing,
    Task,
    TaskState,
)
from outlast.contracts.orders import Sighting
from outlast.contracts.plan import ANSWERED, Plan, settle
from outlast.contracts.policies import Policy
from outlast.contracts.reports import Outcome, Running, Status
from outlast.contracts.text import CAUSE_CHARS, shorten
from outlast.workflows.approvals import Desk, Said
from outlast.workflows.child_mission import ENDS, grow
from outlast.workflows.children import Children
from outlast.workflows.failure import Next, Verdict
from outlast.workflows.fan_out import run_fan_out
from outlast.workflows.renewal import Renewal
from outlast.workflows.routes import Routes, unplayed
from outlast.workflows.task_dispatch import (
    DispatchNumbers,
    Pursuit,
    recorded,
    told_to_end,
)


@dataclass(frozen=True)
class Ground:
    """
    What the tasks of a mission have in common.

    :param stopped: why the mission has been stopped, or None while it goes on.
    :param numbers: of its dispatches.
    :param children: missions and batches within it.
    :param renewal: of the run that all this is part of.
    :param carried: checkpoints from which redriven tasks go on.
    :param show: draws the board anew.
    """

    mission: Mission
    plan: Plan
    desk: Desk
    numbers: DispatchNumbers
    children: Children
    renewal: Renewal
    stopped: Callable[[], str | None]
    carried: dict[str, Checkpoint]
    show: Callable[[], None]


class Turn(Enum):
    """
    What a sighting means for a task.
    """

    KEEP = auto()
    MOVE = auto()  # to a route that is played
    WAIT = auto()  # until somebody plays one
    RESUME = auto()  # what it waited for is back
    LEAVE = auto()  # it is optional: the mission goes on without it


class Settling:
    """
    One round of *task* under way.

    :param state: where an earlier run of its mission has left it.
    """

    def __init__(
        self, task: Task, ground: Ground, state: TaskState | None = None
    ) -> None:
        state = state or TaskState()
        self.task = task
        self.wants: Redoing | None = None
        self._ground = ground
        self._routes = Routes(_routes(task, ground.mission), state.failed, state.route)
        self._pursuit: Pursuit | None = None
        # For this round alone.
        self._carried = ground.carried.pop(task.id, None) or state.checkpoint
        self._resumed = state.dispatch
        self._asked = state.asked
        self._answer = state.answer
        self._began = state.began
        self._until = state.until
        self._lacks: list[str] = []
        self._waits = ""
        self._approval = state.approval
        self._approved = [*state.approved]  # effects, by digest
        self._skipped = [*state.skipped]

    @property
    def running(self) -> Running:
        """
        Say where it is, for the board.
        """
        return Running(
            id=self.task.id,
            role=self.task.role,
            route=self._routes.now,
            waits=self._waits or (self._pursuit.waits if self._pursuit else ""),
        )

    @property
    def state(self) -> TaskState:
        """
        Say how far it is, for the next run of its mission.
        """
        desk, pursuit = self._ground.desk, self._pursuit
        return TaskState(
            failed=self._routes.failed,
            route=self._routes.now,
            began=self._began,
            approval=self._approval,
            approved=self._approved,
            skipped=self._skipped,
            until=self._until,
            asked=desk.asked.get(self.task.id),
            asked_until=desk.until.get(self.task.id),
            answer=self._answer,
            checkpoint=self._carried,
            dispatch=pursuit.state if pursuit else self._resumed,
        )

    def hand_back(self) -> None:
        """
        Take its attempt back for the next run.
        """
        if self._pursuit is not None:
            self._pursuit.hand_back()

    async def run(self) -> Outcome:
        """
        Bring the task to its end, whatever that is, within its time.
        """
        limit_s = self.task.budget.time_s
        if limit_s is not None and self._until is None:
            self._until = workflow.time() + limit_s
        left_s = (
            None if self._until is None else max(0.0, self._until - workflow.time())
        )
        try:
            async with asyncio.timeout(left_s) as clock:
                outcome = await self._end()
        except TimeoutError:
            return await self._too_late()
        if clock.expired() and outcome.status not in ANSWERED:
            return await self._too_late()
        return outcome

    async def _too_late(self) -> Outcome:
        """
        Go on without the task, whose time is spent, unless it has finished after all.
        """
        mission, task = self._ground.mission.id, self.task.id
        with self._ground.renewal.busy():
            answer = await recorded(mission, task, self._ground.plan.round(task))
        if answer is not None and answer.spread is None:
            return await self._answered(answer)
        return self._forgone(f"its {self.task.budget.time_s:g} s are spent")

    def turn(self, sighting: Sighting) -> Turn:
        """
        Say what *sighting* means for this task.
        """
        pursuit = self._pursuit
        if pursuit is None or pursuit.attempt_id not in sighting.stranded:
            return Turn.RESUME if self._waits == self._unplayed else Turn.KEEP
        if self._routes.next(sighting.live) is not None:
            return Turn.MOVE
        # Where nobody plays anything the whole fleet is away: that is waited for.
        if not self.task.required and sighting.live:
            return Turn.LEAVE
        return Turn.KEEP if self._waits else Turn.WAIT

    def heed(self, sighting: Sighting) -> None:
        """
        Do what *sighting* means for this task.
        """
        turn = self.turn(sighting)
        if turn in (Turn.MOVE, Turn.LEAVE) and self._pursuit is not None:
            self._routes.pass_by(sighting.live)
            self._pursuit.strand()
        elif turn is Turn.WAIT:
            self._waits = self._unplayed
        elif turn is Turn.RESUME:
            self._waits = ""

    @property
    def _unplayed(self) -> str:
        return unplayed(self._routes.now)

    async def _end(self) -> Outcome:
        if self._answer is not None:
            return await self._answered(self._answer)
        approval = self.task.approval
        asks = approval is not None and approval.before == "start" and not self._began
        # Done in a run before this one, it was approved there.
        if asks and not await self._is_recorded():
            said = await self._ask("start", "")
            if not said.approved:
                return self._settled(Status.SKIPPED, said.told)
        self._began = True
        if self.task.role == MISSION_ROLE:
            return await self._by_a_mission()
        return await self._try_routes()

    async def _is_recorded(self) -> bool:
        """
        Ask the ledger whether this round of the task has been done.
        """
        mission, task = self._ground.mission.id, self.task.id
        with self._ground.renewal.busy():
            answer = await recorded(mission, task, self._ground.plan.round(task))
        if told_to_end():
            raise asyncio.CancelledError
        return answer is not None

    async def _by_a_mission(self) -> Outcome:
        """
        Have a child mission carry the task out.
        """
        parent, assignment = self._ground.mission, self._assignment(MISSION_ROLE)
        try:
            children, numbers = self._ground.children, self._ground.numbers
            report = await grow(assignment, parent, children, numbers)
        except (ActivityError, ChildWorkflowError) as error:
            if stopped := self._ground.stopped():
                return self._settled(Status.SKIPPED, stopped)
            return self._settled(Status.DEAD, f"its mission: {_why(error)}")
        status = ENDS[report.status]
        told = [f"its mission {report.mission} is {report.status}", *report.degraded]
        return self._settled(status, *([] if status is Status.DONE else told))

    async def _try_routes(self) -> Outcome:
        """
        Try the task on each of its routes until one of them answers.
        """
        last: Verdict | None = None
        while (route := self._routes.next()) is not None:
            self._take(route)
            ended = await self._pursue(route)
            if isinstance(ended, Answer):
                return await self._answered(ended)
            last = ended
            if stopped := self._ground.stopped():
                # Whatever it raised while it was being ended, it was ended by us.
                return self._settled(Status.SKIPPED, stopped)
            if last.next is Next.REROUTE:
                continue
            self._routes.fail(last.cause)
            if last.next not in (Next.NEXT_ROUTE, Next.SPENT):
                break
        return self._unanswered(last)

    def _take(self, route: str) -> None:
        moved = route != self._routes.now or self._waits
        self._routes.now, self._waits = route, ""
        if moved:
            self._ground.show()

    async def _pursue(self, route: str) -> Answer | Verdict:
        """
        Pursue the task on *route*, and again whenever a person has approved.
        """
        ground = self._ground
        self._pursuit = Pursuit(
            self._assignment(route),
            route,
            ground.numbers,
            ground.stopped,
            ground.renewal,
            ground.mission.heartbeat_timeout_s,
        )
        resumed, self._resumed = self._resumed, None
        if resumed is not None and resumed.route == route:
            self._pursuit.take_up(resumed)
        while True:
            ended = self._asked_already() or await self._pursuit.run()
            if isinstance(ended, Answer) or ended.next is not Next.ASK:
                return ended
            if len(self._approved) + len(self._skipped) >= MOST_APPROVED:
                why = f"it wants more than {MOST_APPROVED} effects approved"
                return Verdict(Next.NEXT_ROUTE, why, attempts=ended.attempts)
            said = await self._ask("effect", ended.cause, ended.wanted)
            if not said.approved:
                return Verdict(Next.SKIP, said.told, attempts=ended.attempts)
            for each in ended.wanted:
                skips = said.skips and each.recorded
                (self._skipped if skips else self._approved).append(each.digest)
            self._pursuit.approve(self._approved, self._skipped)

    def _asked_already(self) -> Verdict | None:
        """
        Go on with the request that an earlier run has made.
        """
        asked, self._asked = self._asked, None
        if asked is None or asked.before != "effect":
            return None
        return Verdict(Next.ASK, asked.about, wanted=asked.effects)

    def _assignment(self, route: str) -> Assignment:
        mission, plan, task = self._ground.mission, self._ground.plan, self.task
        return Assignment(
            mission=mission.id,
            tenant=mission.tenant,
            task=task,
            store=mission.store,
            round=plan.round(task.id),
            needs=plan.needs_of(task),
            policy=mission.crew[route].policy if route in mission.crew else Policy(),
            limits=mission.limits,
            checkpoint=self._carried,
            redo_reason=plan.reasons.get(task.id),
            scope=mission.logical,
            approved=self._approved,
            skipped=self._skipped,
        )

    async def _ask(
        self, before: Moment, about: str, wanted: Sequence[WantedEffect] = ()
    ) -> Said:
        """
        Wait for a person's word; the board says so meanwhile.
        """
        told = f"approval before its {before}"
        self._waits = f"{told}: {about}" if about else told
        try:
            said = await self._ground.desk.ask(self.task, before, about, wanted)
        finally:
            self._waits = ""
        self._approval = said.told
        return said

    async def _answered(self, answer: Answer) -> Outcome:
        """
        Take the answer; follow-up tasks that do not fit make it a dead letter.
        """
        if answer.spread is not None:
            if told_to_end():
                raise asyncio.CancelledError
            mission, task = self._ground.mission, self.task.id
            scope = mission.logical.within(task, self._ground.plan.round(task))
            self._answer = answer
            children = self._ground.children
            try:
                self._lacks = await run_fan_out(answer.spread, mission, scope, children)
            except (ActivityError, ChildWorkflowError) as error:
                return self._settled(Status.DEAD, f"its batch: {_why(error)}")
        reasons = [*self._routes.lacks, *self._lacks, *answer.degraded]
        status = Status.DEGRADED if reasons else Status.DONE
        try:
            self._ground.plan.extend(answer.follow_ups, author=self.task.id)
        except BadInputError as error:
            status, reasons = Status.DEAD, [*reasons, f"its follow-up tasks: {error}"]
        else:
            self.wants = answer.redo
        told = {"attempts": answer.attempt, "summary": answer.summary}
        return self._settled(status, *reasons).model_copy(update=told)

    def _unanswered(self, last: Verdict | None) -> Outcome:
        """
        End a task that no route has answered: dead, unless it was parked, cancelled,
        left out or forgone.
        """
        if last is None:
            return self._settled(Status.SKIPPED, *self._routes.causes)
        if last.next is Next.SPENT:
            return self._forgone(*self._routes.causes)
        status = {
            Next.PARK: Status.PARKED,
            Next.SKIP: Status.SKIPPED,
            Next.REROUTE: Status.SKIPPED,
        }.get(last.next, Status.DEAD)
        outcome = self._settled(status, *self._routes.causes)
        return outcome.model_copy(update={"attempts": last.attempts})

    def _forgone(self, *reasons: str) -> Outcome:
        outcome = self._settled(Status.SKIPPED, *reasons)
        return outcome.model_copy(update={"forgone": True})

    def _settled(self, status: Status, *reasons: str) -> Outcome:
        told = {
            "route": self._routes.now,
            "round": self._ground.plan.round(self.task.id),
            "approval": self._approval,
        }
        return settle(self.task, status, *reasons).model_copy(update=told)


def _why(error: ActivityError | ChildWorkflowError) -> str:
    """
    Say why a child has no report.
    """
    if isinstance(error.cause, TerminatedError):
        return "terminated in Temporal, by others"
    return shorten(str(error.cause or error), CAUSE_CHARS)


def _routes(task: Task, mission: Mission) -> list[str]:
    if task.role == MISSION_ROLE:
        return [MISSION_ROLE]
    return mission.crew[task.role].routes
