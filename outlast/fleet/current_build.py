"""
Where a fleet stands among the builds when it starts.

New missions go to the current build. Where none was ever promoted and nobody works
without one they would wait for ever: then the first fleet promotes its own. In all
other cases that is the operator's word, and the log says who gets the new missions.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from temporalio.client import Client

from outlast.contracts.errors import RefusedError, UnavailableError
from outlast.process.called import as_called
from outlast.temporal.deployments import current_of, described, fleets, make_current

logger = logging.getLogger("outlast.fleet")

LOOK_S = 1.0
# A fleet without a build that was silent for less is not taken for gone: it may be
# starved, or its host's clock be wrong, and it would lose what it has under way.
GONE_S = 60.0

# Task queues that a server not told otherwise takes for one build; the workers on all
# others poll in vain, and nobody is told.
QUEUES_MOST = 100
QUEUES_OF_A_ROLE = 3


class Whose(Enum):
    """
    Who gets the new missions.
    """

    OURS = auto()
    ANOTHERS = auto()  # another build is current
    UNNAMED = auto()  # workers without a build have them
    NOBODYS = auto()


def whose(build: str, current: str, live: Counter[str] | None) -> Whose:
    """
    Say who gets new missions when *current* is the current build, "" for none.

    :param build: of the asking fleet, "" for none.
    :param live: fleets by build, as far as anybody can tell.
    """
    if build == current:
        return Whose.OURS
    if current:
        return Whose.ANOTHERS
    # Where nobody can tell, a fleet without a build must not lose what it has.
    return Whose.NOBODYS if live is not None and not live[""] else Whose.UNNAMED


async def take_up(connect: Callable[[], Awaitable[Client]], build: str) -> None:
    """
    Stay until new missions are somebody's, promoting *build* where they are nobody's;
    tell once when they are not this fleet's.
    """
    standing = _Standing(await connect(), build)
    while True:
        if await standing.look():
            return
        await asyncio.sleep(LOOK_S)


def warn_of_crowding(build: str, roles: int) -> None:
    """
    Say so when *build* plays more roles than a server may take.
    """
    queues = roles * QUEUES_OF_A_ROLE + 1
    if build and queues > QUEUES_MOST:
        logger.warning(
            "build.crowded: %s roles have %s task queues, and a server takes %s of one "
            "build unless its matching.maxTaskQueuesInDeploymentVersion is higher; "
            "what comes to the others waits for ever",
            *(roles, queues, QUEUES_MOST),
        )


@dataclass
class _Standing:
    """
    What was seen and told so far.
    """

    client: Client
    build: str
    told: str = ""

    async def look(self) -> bool:
        """
        Look once; True when there is nothing left to look for.
        """
        try:
            return await self._look()
        except RefusedError as error:
            # Another fleet was faster, or the server does not know all of us yet.
            logger.debug("build.refused: %s", error)
            return False
        except UnavailableError as error:
            if self.build:
                self._tell(f"it cannot be told who gets new missions: {error}")
            return not self.build

    async def _look(self) -> bool:
        found = await described(self.client)
        if found is None:
            return not self.build  # our workers' first poll makes it known
        current = current_of(found)
        live = await fleets(self.client, within_s=GONE_S)
        match whose(self.build, current, live):
            case Whose.OURS:
                return True
            case Whose.ANOTHERS:
                self._tell(_anothers(self.build, current, live))
                return True
            case Whose.UNNAMED:
                self._tell(
                    "new missions go to workers without a build; outlast promote "
                    f"{self.build} brings them here"
                )
                return False
        await make_current(self.client, self.build, found.conflict_token)
        logger.info("build.promoted %s: it is the first", self.build)
        return True

    def _tell(self, words: str) -> None:
        if words != self.told:
            logger.info("build.waits: %s", as_called(words))
        self.told = words


def _anothers(build: str, current: str, live: Counter[str] | None) -> str:
    away = live is not None and not live[current]
    theirs = f"build {current}" + (", with which nobody polls" if away else "")
    if build:
        return (
            f"new missions go to {theirs}, not to this fleet's {build}; outlast "
            f"promote {build} changes that"
        )
    return (
        f"new missions go to {theirs}, and this fleet has no build: set OUTLAST_BUILD, "
        "or change that with outlast promote --none"
    )
