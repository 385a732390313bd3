"""
One item of a batch, as its agent sees it: a Context that costs nothing until used.

Most items neither save nor act, so an item claims its line in the ledger with its
first write, under the fence of the lease that it came with.
"""

import asyncio
import math

from outlast.attempt.agent import Agent
from outlast.attempt.context import Context
from outlast.attempt.fence import Claim
from outlast.attempt.ledger import Ledger
from outlast.contracts.models import Assignment, Checkpoint, Task
from outlast.contracts.pool import Batch

# An item has no limits or approvals: one assignment does for all of them.
PLAIN = Assignment(mission="item", tenant="item", task=Task(id="item", role="item"))
NOTHING = Checkpoint()


class ItemContext(Context):
    """
    The run of the item that *claim* names; its attempt counts failures and deaths.
    """

    _can_ask = False  # nobody could approve one item among thousands

    def __init__(
        self, agent: Agent, ledger: Ledger, batch: Batch, claim: Claim
    ) -> None:
        super().__init__(agent, claim, ledger, NOTHING, PLAIN)
        self._held_s = math.inf  # nothing presses: a lease may take days
        self.begun = False
        self._beginning = asyncio.Lock()
        self._batch = batch

    @property
    def claim(self) -> Claim:
        return self._claim

    async def begin(self, again: bool = False) -> None:
        """
        Claim the item and find what an earlier attempt has saved; *again* when this
        lease has claimed it already.

        :raises StaleAttemptError: when a later lease has it.
        """
        self.begun = True
        claim, batch = self._claim, self._batch
        if again:
            role = self._agent.role
            saved = await self._ledger.store.run(self._ledger.resume, claim, role)
            self._checkpoint = saved or NOTHING
            return
        assignment = Assignment(
            mission=batch.id,
            tenant=batch.tenant,
            task=Task(id=claim.task, role=batch.role),
            round=claim.round,
        )
        found = await self._ledger.store.run(
            self._ledger.begin, assignment, batch.role, claim.fence, []
        )
        self._checkpoint = found.checkpoint

    async def _may_write(self) -> None:
        await super()._may_write()
        if not self.begun or self._beginning.locked():
            async with self._beginning:  # writes at the same moment need one claim
                if not self.begun:
                    with self._signals():
                        await self.begin()
