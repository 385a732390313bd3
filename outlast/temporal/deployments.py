"""
Builds: several versions of the workers' code side by side, each with what it began.

An operator names a fleet's build (OUTLAST_BUILD). Temporal gives new missions and
batches to the current build and keeps each of them on the build that began it. Which
build is current the operator decides with `outlast promote`.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from outlast.contracts.errors import BadInputError, RefusedError, UnavailableError
from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.temporal.worker_list import WORKER_SILENT_S, workers_alive

DEPLOYMENT = "outlast"

BUILD_CURRENT = "current"
BUILD_WAITING = "waiting"  # for its promotion
BUILD_DRAINING = "draining"
BUILD_DRAINED = "drained"
_Status = WorkerDeploymentVersionStatus
BUILD_STATUS = {
    _Status.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: BUILD_CURRENT,
    _Status.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: "ramping",
    _Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: BUILD_DRAINING,
    _Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: BUILD_DRAINED,
}

# A fleet that was started just before its promotion is listed after a sign or two, and
# the server knows all its queues only after a while: until then it refuses the build
# where those that it misses are in use.
DEPLOYMENT_LIMIT_S = 6.0
PROMOTE_LIMIT_S = 30.0
DEPLOYMENT_CHECK_S = 0.3
# While the workers of a new build make their queues known, the server answers that it
# is asked too much; it says itself that this passes.
RATE_LIMITED_S = 10.0

Found = WorkerDeploymentInfo.WorkerDeploymentVersionSummary


@dataclass(frozen=True)
class Build:
    """
    One build that the server knows.

    :param fleets: live ones, by their workflow processes; None when nobody can tell.
    :param open_workflows: missions and batches that are pinned to it; None likewise.
    """

    build: str
    status: str
    fleets: int | None
    open_workflows: int | None


async def list_builds(client: Client) -> list[Build]:
    """
    List the builds, the newest first.

    :raises UnavailableError: when the server cannot tell.
    """
    found = await describe_deployment(client)
    if found is None:
        return []
    live = await fleets_by_build(client)
    known = sorted(
        found.worker_deployment_info.version_summaries,
        key=lambda each: each.create_time.ToNanoseconds(),
        reverse=True,
    )
    return [await _build_of_summary(client, each, live) for each in known]


async def promote(client: Client, build: str) -> str:
    """
    Have new missions and batches begin on *build*, or with "" on workers without one;
    returns the build that was current before.

    :raises BadInputError: when no worker polls with it.
    :raises RefusedError: when the server refuses, in its words.
    """
    began = time.monotonic()
    while True:
        try:
            return await _promote_now(client, build)
        except (BadInputError, RefusedError) as error:
            patience_s = (
                PROMOTE_LIMIT_S
                if isinstance(error, RefusedError)
                else DEPLOYMENT_LIMIT_S
            )
            if time.monotonic() - began > patience_s:
                raise
        await asyncio.sleep(DEPLOYMENT_CHECK_S)


async def _promote_now(client: Client, build: str) -> str:
    live = await fleets_by_build(client)
    found = await describe_deployment(client)
    polled = live is None or live[build]
    if polled and found is None and not build:
        return ""  # they have them already
    if not polled or found is None or build not in {"", *_ids(found)}:
        raise BadInputError(_no_fleet_text(build, live))
    return await make_current(client, build, found.conflict_token)


async def make_current(client: Client, build: str, token: bytes) -> str:
    """
    Make *build* the current one, unless somebody has changed it since *token* was
    given; returns the one before.

    :raises RefusedError: when the server refuses, in its words.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=DEPLOYMENT,
        build_id=build,
        conflict_token=token,
        identity=client.identity,
    )
    try:
        service = client.workflow_service
        done = await service.set_worker_deployment_current_version(request)
    except RPCError as error:
        named = f"build {build}" if build else "workers without a build"
        raise RefusedError(
            f"the server refuses {named}: {error.message}; see outlast builds"
        ) from error
    return done.previous_deployment_version.build_id


async def describe_deployment(
    client: Client,
) -> DescribeWorkerDeploymentResponse | None:
    """
    Ask for our builds; None when no worker with a build has ever polled.

    :raises UnavailableError: when the server cannot tell.
    """
    request = DescribeWorkerDeploymentRequest(
        namespace=client.namespace, deployment_name=DEPLOYMENT
    )
    until = time.monotonic() + RATE_LIMITED_S
    while True:
        try:
            return await client.workflow_service.describe_worker_deployment(request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            crowded = error.status is RPCStatusCode.RESOURCE_EXHAUSTED
            if not crowded or time.monotonic() > until:
                raise UnavailableError(
                    f"this server cannot tell of builds: {error.message}"
                ) from error
        await asyncio.sleep(DEPLOYMENT_CHECK_S)


def current_of(found: DescribeWorkerDeploymentResponse) -> str:
    """
    Name the current build, or "" where workers without one have the new missions.
    """
    routing = found.worker_deployment_info.routing_config
    return routing.current_deployment_version.build_id


async def fleets_by_build(
    client: Client, within_s: float = WORKER_SILENT_S
) -> Counter[str] | None:
    """
    Count the fleets that gave a sign lately by build, those without one under ""; None
    when the server lists no workers.
    """
    try:
        signs = await workers_alive(client, f"TaskQueue = '{MISSIONS_QUEUE}'", within_s)
    except UnavailableError:
        return None
    return Counter(map(build_of, signs))


def build_of(heartbeat: WorkerHeartbeat) -> str:
    version = heartbeat.deployment_version
    # Without a deployment the id is the one that the SDK wants in any case.
    return version.build_id if version.deployment_name == DEPLOYMENT else ""


async def _build_of_summary(
    client: Client, found: Found, live: Counter[str] | None
) -> Build:
    return Build(
        build=_id(found),
        status=BUILD_STATUS.get(found.status, BUILD_WAITING),
        fleets=None if live is None else live[_id(found)],
        open_workflows=await _count_open(client, _id(found)),
    )


async def _count_open(client: Client, build: str) -> int | None:
    version = f"TemporalWorkerDeploymentVersion = '{DEPLOYMENT}:{build}'"
    try:
        query = f"{version} AND ExecutionStatus = 'Running'"
        return (await client.count_workflows(query)).count
    except RPCError:
        return None


def _ids(found: DescribeWorkerDeploymentResponse) -> set[str]:
    return {_id(each) for each in found.worker_deployment_info.version_summaries}


def _id(found: Found) -> str:
    return found.deployment_version.build_id


def _no_fleet_text(build: str, live: Counter[str] | None) -> str:
    if not build:
        return "no worker polls without a build: start a fleet without OUTLAST_BUILD"
    others = ", ".join(sorted(filter(None, live or ()))) or "none"
    return (
        f"no worker polls with build {build!r}: start a fleet with "
        f"OUTLAST_BUILD={build} first; live builds: {others}"
    )
