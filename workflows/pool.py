"""
The pool: dispatch the items of a batch in leases, redispatch a lease after every crash,
dead-letter a poison item.

Here is what others may ask of it; `batch_loop` does the work.
"""

import asyncio

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from outlast.contracts.batches import BatchReport, PoolProgress
    from outlast.contracts.errors import BadInputError
    from outlast.contracts.text import CAUSE_CHARS, one_line
    from outlast.workflows.batch_loop import BatchLoop
    from outlast.workflows.bookkeeping import failure_of
    from outlast.workflows.entry import NOTHING, nothing_to_do, read_state, refusal
    from outlast.workflows.faults import FAULTS, cause_of


@workflow.defn(name="Pool", failure_exception_types=FAULTS)
class PoolWorkflow:
    """
    One batch, until none of its items is left to do.
    """

    @workflow.init
    def __init__(self, given: RawValue = NOTHING) -> None:
        self.refused: BadInputError | None = None
        try:
            state = read_state(given)
        except BadInputError as error:
            self.refused = error
            state = nothing_to_do()
        self.loop = BatchLoop(state)

    @workflow.run
    async def run(self, given: RawValue = NOTHING) -> BatchReport:
        if self.refused is not None:
            raise refusal(self.refused)
        try:
            report = await self.loop.run()
        except asyncio.CancelledError:
            # Cancelled from outside: the results so far are kept and counted all the
            # same.
            self.loop.context.stopped = "cancelled"
            report = await self.loop.end()
        except (FailureError, workflow.NondeterminismError):
            raise
        except Exception as error:
            self.loop.context.failed = cause_of(error)
            report = await self.loop.end()
        if report.failed:
            raise failure_of(report)
        return report

    @workflow.query
    def progress(self) -> PoolProgress:
        return self.loop.progress

    @workflow.signal
    def wake(self) -> None:
        """
        Read the batch again: items were added, or no more will come.
        """
        self.loop.woken = True

    @workflow.update
    async def cancel(self, reason: str) -> None:
        """
        End the batch: cancel in-flight leases, keep the results so far.
        """
        self.loop.context.stopped = one_line(reason, CAUSE_CHARS) or "cancelled"

    @cancel.validator
    def _may_cancel(self, reason: str) -> None:
        if self.loop.context.stopped:
            raise ValueError("the batch is being cancelled already")
