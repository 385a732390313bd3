"""
One item of a batch, as its agent sees it: a Context that costs nothing until used.

Most items neither save nor act, so an item claims its row in the ledger with its
first write, under the fence of the lease that it came with.
"""

import asyncio
import math

from outlast.agents.agent import Agent
from outlast.agents.context import Context
from outlast.agents.effect_calls import retrieve_error
from outlast.contracts.attempts import AttemptInput, Checkpoint
from outlast.contracts.batches import Batch, pool_task
from outlast.contracts.tasks import Task
from outlast.ledger.claim import Claim
from outlast.ledger.ledger import Ledger

# An item has no limits or approvals: one assignment does for all of them.
NO_LIMITS = AttemptInput(
    mission="item", tenant="item", task=Task(id="item", role="item")
)
NO_CHECKPOINT = Checkpoint()


class ItemContext(Context):
    """
    The run of the item that *claim* names; its attempt counts failures and deaths.
    """

    _can_ask = False  # nobody could approve one item among thousands
    _max_suspended_s = math.inf  # a lease may take days

    has_started = False  # claimed by this lease
    _beginning: "asyncio.Task[None] | None" = None

    def __init__(
        self, agent: Agent, ledger: Ledger, batch: Batch, claim: Claim
    ) -> None:
        super().__init__(agent, claim, ledger, NO_CHECKPOINT, NO_LIMITS)
        self._batch = batch

    async def begin(self, redelivered: bool = False) -> None:
        """
        Claim the item and find what an earlier attempt has saved; *redelivered* when
        this lease has claimed it already.

        :raises StaleAttemptError: when a later lease has it.
        """
        claim, batch = self.claim, self._batch
        if redelivered:
            role = self._agent.role
            saved = await self.ledger.store.run(self.ledger.resume, claim, role)
            self._checkpoint, self.has_started = saved or NO_CHECKPOINT, True
            return
        assignment = AttemptInput(
            mission=batch.id,
            tenant=batch.tenant,
            task=pool_task(claim.task, batch.role),
            round=claim.round,
        )
        found = await self.ledger.store.run(
            self.ledger.begin, assignment, batch.role, claim.fence, []
        )
        self._checkpoint, self.has_started = found.checkpoint, True

    @property
    def is_beginning(self) -> bool:
        return self._beginning is not None and not self._beginning.done()

    async def wait_until_started(self) -> None:
        """
        Wait until a claim under way has been written, or has failed.
        """
        if self._beginning is not None:
            await asyncio.wait([self._beginning])

    async def _require_writable(self) -> None:
        await super()._require_writable()
        if self.has_started:
            return
        # Writes at the same moment need one claim, which goes on when its writer is
        # cancelled: the next write waits for it. One that has failed is made again.
        if self._beginning is None or self._beginning.done():
            self._beginning = asyncio.ensure_future(self.begin())
            self._beginning.add_done_callback(retrieve_error)
        with self._raising_signals():
            await asyncio.shield(self._beginning)
