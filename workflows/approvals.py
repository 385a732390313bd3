"""
Approvals: tasks that wait for a person's decision, and the decision that the deadline
makes when nobody has answered.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow

from outlast.contracts.approvals import (
    Approval,
    ApprovalRequest,
    Moment,
    WantedEffect,
    request_id,
)
from outlast.contracts.tasks import Task
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.contracts.updates import DecisionInput

PAST_TENSE = {"approve": "approved", "reject": "rejected"}


@dataclass(frozen=True)
class ApprovalDecision:
    """
    What happens to a task, and who decided it.
    """

    approved: bool
    reason: str
    skips: bool = False  # keep the results of earlier effects under the same keys


class Approvals:
    """
    The approval requests of a mission; *show* redraws the status board.

    :param until: the deadlines of requests that an earlier run has made, by task.
    """

    def __init__(
        self, show: Callable[[], None], until: Mapping[str, float] | None = None
    ) -> None:
        self.pending: dict[str, ApprovalRequest] = {}
        self.until = dict(until or {})  # in seconds since 1970
        self._publish = show
        self._decided: dict[str, ApprovalDecision] = {}

    async def request(
        self,
        task: Task,
        before: Moment,
        about: str,
        wanted: Sequence[WantedEffect] = (),
    ) -> ApprovalDecision:
        """
        Wait for a person's decision on *task*, at most as long as its approval says.
        """
        terms = task.approval or Approval(before=before)
        # A decision on an earlier request does not answer this one.
        self._decided.pop(task.id, None)
        self.pending[task.id] = ApprovalRequest(
            id=task.id,
            before=before,
            description=about,
            effects=list(wanted),
            request=request_id(wanted),
        )
        self._publish()
        with suppress(TimeoutError):
            try:
                await workflow.wait_condition(
                    lambda: task.id in self._decided,
                    timeout=self._limit(task.id, terms.within_s),
                    timeout_summary=f"approval of {task.id}",
                )
            finally:
                del self.pending[task.id]
                self.until.pop(task.id, None)
                self._publish()
        # One may also be accepted in the last moment.
        return self._decided.pop(task.id, None) or _by_default(terms)

    def _limit(self, task: str, within_s: float | None) -> timedelta | None:
        if within_s is None:
            return None
        until = self.until.setdefault(task, workflow.time() + within_s)
        return timedelta(seconds=max(0.0, until - workflow.time()))

    @property
    def at_rest(self) -> bool:
        return not self._decided

    def require_pending(self, decision: DecisionInput) -> None:
        """
        Require that *decision* answers a pending request.

        :raises ValueError: when it does not; the message lists the tasks that wait.
        """
        task = decision.task
        waiting = sorted(set(self.pending) - set(self._decided))
        if task not in waiting:
            others = ", ".join(waiting) or "none"
            raise ValueError(
                f"task {task!r} waits for no approval; those that do: {others}"
            )
        asked = self.pending[task]
        if decision.request not in ("", asked.request):
            raise ValueError(
                f"task {task!r} wants other effects approved now than you have seen: "
                "look at them again"
            )
        if decision.skip and not any(each.recorded for each in asked.effects):
            raise ValueError(
                f"task {task!r} wants no effect that has an earlier one: approve or "
                "reject it"
            )

    def decide(self, decision: DecisionInput, approved: bool) -> None:
        """
        Record a person's decision; `request` returns it to the task.
        """
        word = PAST_TENSE["approve" if approved else "reject"]
        if decision.skip:
            word = "approved without the changed effects"
        reason = one_line(decision.reason, CAUSE_CHARS)
        told = f"{word}: {reason}" if reason else word
        self._decided[decision.task] = ApprovalDecision(approved, told, decision.skip)


def _by_default(terms: Approval) -> ApprovalDecision:
    waited = f"{terms.within_s or 0:g} s"
    told = f"{PAST_TENSE[terms.otherwise]} by default: nobody answered within {waited}"
    return ApprovalDecision(terms.otherwise == "approve", told)
