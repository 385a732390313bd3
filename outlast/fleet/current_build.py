"""
Which build gets the new missions when a fleet starts.

New missions go to the current build. Where none was ever promoted and no worker runs
without a build they would wait for ever: then the first fleet promotes its own. In all
other cases the operator decides, and the log says who gets the new missions.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import NamedTuple

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

# Task queues that a server takes for one build by default; the workers on all
# others poll in vain, and no error says so.
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
    # Where that is not known, a fleet without a build must keep its missions.
    return (
        CurrentBuild.NONE
        if live is not None and not live[""]
        else CurrentBuild.UNVERSIONED
    )


class Step(NamedTuple):
    """
    What one check came to: whether it was the last, and what the log says.
    """

    done: bool
    text: str = ""


async def promote_if_unclaimed(
    connect: Callable[[], Awaitable[Client]], build: str
) -> None:
    """
    Wait until new missions go to some fleet, promoting *build* where they go to none;
    say once in the log when they do not go to this fleet.
    """
    client, logged, step = await connect(), "", Step(False)
    while not step.done:
        step = await _promotion_step(client, build)
        if step.text and step.text != logged:
            logger.info("build.waits: %s", as_called(step.text))
            logged = step.text
        if not step.done:
            await asyncio.sleep(BUILD_CHECK_S)


async def _promotion_step(client: Client, build: str) -> Step:
    try:
        found = await describe_deployment(client)
        if found is None:
            return Step(not build)  # our workers' first poll makes it known
        current = current_of(found)
        live = await fleets_by_build(client, within_s=BUILD_GONE_S)
        match current_build(build, current, live):
            case CurrentBuild.OTHER:
                return Step(True, _other_build_text(build, current, live))
            case CurrentBuild.UNVERSIONED:
                return Step(
                    False,
                    "new missions go to workers without a build; outlast promote "
                    f"{build} brings them here",
                )
            case CurrentBuild.NONE:
                await make_current(client, build, found.conflict_token)
                logger.info("build.promoted %s: it is the first", build)
    except RefusedError as error:
        # Another fleet was faster, or the server does not know all of us yet.
        logger.debug("build.refused: %s", error)
        return Step(False)
    except UnavailableError as error:
        if not build:
            return Step(True)
        return Step(False, f"it cannot be told who gets new missions: {error}")
    return Step(True)


def warn_queue_limit(build: str, roles: int) -> None:
    queues = roles * QUEUES_PER_ROLE + 1
    if build and queues > MAX_QUEUES:
        logger.warning(
            "build.queue_limit: %s roles have %s task queues, and a server takes %s of "
            "one build unless its matching.maxTaskQueuesInDeploymentVersion is higher; "
            "what comes to the others waits for ever",
            *(roles, queues, MAX_QUEUES),
        )


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
