"""
Approvals: what a task may have to wait for, and what a person is then asked, bounded in
bytes.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from outlast.contracts.ids import Name
from outlast.contracts.text import one_line, sha256_hex
from outlast.contracts.wire import WireModel

# Approvals of one round of a task: each is in the history of its later dispatches.
MAX_APPROVED_EFFECTS = 500
EFFECT_KEY_CHARS = 120
EFFECT_CONTENT_CHARS = 240
DIGEST_CHARS = 32
# Before which a person may have to approve a task.
Moment = Literal["start", "effect"]


class Approval(WireModel):
    """
    A person's decision that a task needs.

    :param before: "start" of the task, or each "effect" of it.
    :param within_s: seconds to wait for the decision; None: as long as the mission may.
    :param otherwise: the decision when nobody has decided by then.
    """

    before: Moment
    within_s: float | None = Field(default=None, gt=0, le=30 * 86_400)
    otherwise: Literal["approve", "reject"] = "reject"


class WantedEffect(WireModel):
    """
    One effect that an attempt wants approved.

    :param digest: of its key, identity and pinned payload: what an approval holds for.
    :param content: its identity, as JSON and shortened.
    :param before: the identity of the earlier effect under this key, or "".
    :param recorded: whether that one has a result, which can be used for this one.
    """

    digest: str = Field(max_length=DIGEST_CHARS)
    key: str
    content: str
    before: str = ""
    recorded: bool = False

    @property
    def describe(self) -> str:
        changed = ""
        if self.before:
            was = "was done with" if self.recorded else "was asked with"
            changed = f" (it {was} {self.before})"
        content = "" if self.content == "null" else f": {self.content}"
        return f"effect {self.key!r}{content}{changed}"


class ApprovalRequest(WireModel):
    """
    A task that waits for a person.

    :param request: names what is asked, so that a decision is on what was shown.
    """

    id: Name
    before: Moment
    description: str = ""
    effects: list[WantedEffect] = Field(default=[])
    request: str = ""

    def command(self, mission: str) -> str:
        """
        What follows `approve` or `reject` on the command line.
        """
        request = f" --request {self.request}" if self.request else ""
        return f"{mission} {self.id}{request}"


def wanted_effect(
    key: str, identity: str, mark: str, before: str = "", recorded: bool = False
) -> WantedEffect:
    return WantedEffect(
        digest=mark,
        key=one_line(key, EFFECT_KEY_CHARS),
        content=one_line(identity, EFFECT_CONTENT_CHARS),
        before=one_line(before, EFFECT_CONTENT_CHARS),
        recorded=recorded,
    )


def request_id(wanted: Sequence[WantedEffect]) -> str:
    """
    Name a request, so that a person's decision is on what they have seen.
    """
    return sha256_hex("".join(each.digest for each in wanted))[:8] if wanted else ""
