"""
The builds side by side: which one has the new missions, which fleet may stop.
"""

import json
from dataclasses import asdict

from outlast.cli.session import Session
from outlast.temporal.deployments import (
    BUILD_CURRENT,
    BUILD_DRAINED,
    Build,
    list_builds,
    promote,
)


async def show_builds(session: Session, as_json: bool) -> None:
    found = await list_builds(await session.client())
    if as_json:
        print(json.dumps([asdict(each) for each in found]))
        return
    if not found:
        print("no builds: no worker has polled with an OUTLAST_BUILD yet")
        return
    print(f"{'build':<24}{'status':<10}{'fleets':>7}{'under way':>11}")
    for each in found:
        counts = f"{_shown(each.fleets):>7}{_shown(each.open_workflows):>11}"
        print(f"{each.build:<24}{each.status:<10}{counts}{_action_text(each)}")


async def promote_build(session: Session, build: str, as_json: bool) -> None:
    before = await promote(await session.client(), build)
    if as_json:
        print(json.dumps({"current": build, "before": before}))
        return
    print(f"new missions begin on {_build_name(build)}; before: {_build_name(before)}")


def _build_name(build: str) -> str:
    return f"build {build}" if build else "workers without a build"


def _shown(count: int | None) -> str:
    return "?" if count is None else str(count)


def _action_text(build: Build) -> str:
    if build.status == BUILD_DRAINED and build.fleets:
        return "  its fleets may stop"
    return f"  {missing}" if (missing := action_needed(build)) else ""


def action_needed(build: Build) -> str:
    """
    Say what to do where missions wait for *build* and nobody polls with it.
    """
    if build.fleets == 0 and (build.open_workflows or build.status == BUILD_CURRENT):
        return f"nobody polls: start a fleet with OUTLAST_BUILD={build.build}"
    return ""
