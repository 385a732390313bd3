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
from outlast.temporal.deployments import (
    current_of,
    describe_deployment,
    fleets_by_build,
    make_current,
)

logger = logging.getLogger("outlast.fleet")

BUILD_CHECK_S = 1.0
# A fleet without a build that was silent for less is not taken for gone: it may be
# starved, or its host's clock be wrong, and it would lose what it has under way.
BUILD_GONE_S = 60.0

# Task queues that a server not told otherwise takes for one build; the workers on all
# others poll in vain, and nobody is told.
MAX_QUEUES = 100
QUEUES_PER_ROLE = 3


class CurrentBuild(Enum):
    """
    Who gets the new missions.
    """

    THIS = auto()
    OTHER = auto()  # another build is current
    UNVERSIONED = auto()  # workers without a build have them
    NONE = auto()


def current_build(build: str, current: str, live: Counter[str] | None) -> CurrentBuild:
    """
    Decide who gets new missions when *current* is the current build, "" for none.

    :param build: of the asking fleet, "" for none.
    :param live: fleets by build; None where that is not known.
    """
    if build == current:
        return CurrentBuild.THIS
    if current:
        return CurrentBuild.OTHER
    # Where nobody can tell, a fleet without a build must not lose what it has.
    return (
        CurrentBuild.NONE
        if live is not None and not live[""]
        else CurrentBuild.UNVERSIONED
    )


async def promote_if_unclaimed(
    connect: Callable[[], Awaitable[Client]], build: str
) -> None:
    """
    Wait until new missions go to some fleet, promoting *build* where they go to none;
    say once in the log when they do not go to this fleet.
    """
    promotion = _Promotion(await connect(), build)
    while True:
        if await promotion.check():
            return
        await asyncio.sleep(BUILD_CHECK_S)


def warn_queue_limit(build: str, roles: int) -> None:
    queues = roles * QUEUES_PER_ROLE + 1
    if build and queues > MAX_QUEUES:
        logger.warning(
            "build.queue_limit: %s roles have %s task queues, and a server takes %s of "
            "one build unless its matching.maxTaskQueuesInDeploymentVersion is higher; "
            "what comes to the others waits for ever",
            *(roles, queues, MAX_QUEUES),
        )


@dataclass
class _Promotion:
    """
    What was seen and told so far.
    """

    client: Client
    build: str
    logged: str = ""

    async def check(self) -> bool:
        """
        Look once; True when there is nothing left to look for.
        """
        try:
            return await self._check()
        except RefusedError as error:
            # Another fleet was faster, or the server does not know all of us yet.
            logger.debug("build.refused: %s", error)
            return False
        except UnavailableError as error:
            if self.build:
                self._log_once(f"it cannot be told who gets new missions: {error}")
            return not self.build

    async def _check(self) -> bool:
        found = await describe_deployment(self.client)
        if found is None:
            return not self.build  # our workers' first poll makes it known
        current = current_of(found)
        live = await fleets_by_build(self.client, within_s=BUILD_GONE_S)
        match current_build(self.build, current, live):
            case CurrentBuild.THIS:
                return True
            case CurrentBuild.OTHER:
                self._log_once(_other_build_text(self.build, current, live))
                return True
            case CurrentBuild.UNVERSIONED:
                self._log_once(
                    "new missions go to workers without a build; outlast promote "
                    f"{self.build} brings them here"
                )
                return False
        await make_current(self.client, self.build, found.conflict_token)
        logger.info("build.promoted %s: it is the first", self.build)
        return True

    def _log_once(self, words: str) -> None:
        if words != self.logged:
            logger.info("build.waits: %s", as_called(words))
        self.logged = words


def _other_build_text(build: str, current: str, live: Counter[str] | None) -> str:
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
