"""
What a person tells a running mission: pause, unpause, cancel, approve, reject, redrive.
"""

from typing import Any

from outlast.cli.session import Session
from outlast.temporal.updates import send_update

UPDATES_PAST_TENSE = {
    "approve": "approved",
    "reject": "rejected",
    "pause": "paused",
    "unpause": "goes on",
    "cancel": "cancelled",
    "redrive": "redriven",
}


async def update(session: Session, mission: str, name: str, *args: Any) -> None:
    """
    Send an update to a running mission and say that it was taken.

    :raises BadInputError: when it is not under way, or refuses, in its own words.
    """
    await send_update(await session.client(), session.store, mission, name, *args)
    print(f"{mission}: {UPDATES_PAST_TENSE[name]}")
