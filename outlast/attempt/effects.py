"""
Effects: what an agent does to the world, done once.

Intent, act with an idempotency key, record. A crash between the first and the last
leaves the effect unsure, and `if_unsure` decides.
"""

import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from pydantic import JsonValue, TypeAdapter

from outlast.attempt import spans
from outlast.attempt.effect_ledger import APPLIED, INTENDED, Intent
from outlast.attempt.fence import Claim
from outlast.attempt.ledger import Ledger
from outlast.attempt.threads import in_thread
from outlast.contracts.errors import (
    ApprovalNeededError,
    ExitedError,
    ParkedError,
    ResultError,
)
from outlast.contracts.models import Assignment
from outlast.contracts.texts import CAUSE_CHARS, shorten

IfUnsure = Literal["repeat", "park"]

# Runs a method of the ledger with the claim and what else it takes, if the attempt may
# still write.
Write = Callable[..., Awaitable[Any]]

IN_A_THREAD = "in a thread; make it `async def`, or return a coroutine to await"


def call_plainly(act: Callable[..., Any], *args: Any) -> Any:
    """
    Call *act* in a thread; what no future can carry becomes a failure like any other.
    """
    try:
        return act(*args)
    except (SystemExit, StopIteration) as end:
        raise ExitedError(f"the agent raised {type(end).__name__}({end})") from end


class Effects:
    """
    The effects of one attempt.

    :param write: has the ledger write, under the attempt's claim.
    """

    def __init__(
        self, claim: Claim, assignment: Assignment, ledger: Ledger, write: Write
    ) -> None:
        self._claim = claim
        self._assignment = assignment
        self._ledger = ledger
        self._write = write

    async def once(
        self,
        key: str,
        act: Callable[..., Any],
        content: JsonValue,
        if_unsure: IfUnsure,
    ) -> Any:
        """
        Do *act* once for *key*: see `Context.once`.
        """
        told = {"outlast.task": self._claim.task, "outlast.effect": key}
        with spans.span("ctx.once", told):
            await self._approved(key, content)
            intent: Intent = await self._write(self._ledger.intend, key, content)
            spans.describe({"outlast.effect_found": intent.state or "new"})
            return await self._do_once(key, intent, act, content, if_unsure)

    async def _approved(self, key: str, content: JsonValue) -> None:
        """
        Make sure that the effect may happen, or was begun when it might.
        """
        approval = self._assignment.task.approval
        if approval is None or approval.before != "effect" or self._assignment.approved:
            return
        if await self._write(self._ledger.intended, key):
            return
        about = "" if content is None else f": {json.dumps(content)}"
        raise ApprovalNeededError(shorten(f"effect {key!r}{about}", CAUSE_CHARS))

    async def _do_once(
        self,
        key: str,
        intent: Intent,
        act: Callable[..., Any],
        content: JsonValue,
        if_unsure: IfUnsure,
    ) -> Any:
        if intent.state == APPLIED:
            if not intent.proposed and self._claim.round > intent.round:
                raise ParkedError(f"effect {key!r} stands with other content")
            return intent.result
        if intent.state == INTENDED and if_unsure == "park":
            raise ParkedError(f"effect {key!r} was begun and may have happened")
        stands = () if content is None else (intent.content,)
        result = await self._act(act, f"{self._claim.tenant}:{key}", *stands)
        try:
            kept: JsonValue = json.loads(TypeAdapter(Any).dump_json(result))
        except ValueError:
            # It has happened, whatever it returned: that is what must be known.
            await self._write(self._ledger.applied, key, None)
            raise ResultError(f"effect {key!r} returned what is no JSON") from None
        await self._write(self._ledger.applied, key, kept)
        return result

    async def _act(self, act: Callable[..., Any], *args: Any) -> Any:
        """
        Call *act*: a plain function in a thread, since a slow one must not hold the
        event loop, whose heartbeats are those of all its neighbours.
        """
        if inspect.iscoroutinefunction(act):
            return await act(*args)
        try:
            result = await in_thread(call_plainly, act, *args)
        except RuntimeError as error:
            if "event loop" not in str(error):
                raise
            raise RuntimeError(
                f"{error}: a plain act is called {IN_A_THREAD}"
            ) from error
        return await result if inspect.isawaitable(result) else result
