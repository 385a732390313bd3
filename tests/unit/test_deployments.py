"""
Builds: who gets the new missions, and what an operator is told.
"""

from collections import Counter

import pytest
from pydantic import ValidationError
from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.worker.v1 import WorkerHeartbeat

from outlast.cli.builds import _action_text
from outlast.fleet.current_build import (
    CurrentBuild,
    _other_build_text,
    current_build,
    warn_queue_limit,
)
from outlast.fleet.workers import DEFAULT_BUILD_ID, _named
from outlast.settings import Settings
from outlast.temporal.deployments import (
    BUILD_CURRENT,
    BUILD_DRAINED,
    BUILD_DRAINING,
    BUILD_WAITING,
    DEPLOYMENT,
    Build,
    build_of,
)


@pytest.mark.parametrize(
    ("build", "current", "live", "expected"),
    [
        ("", "", {"": 1}, CurrentBuild.THIS),
        ("b2", "b2", {"b2": 1}, CurrentBuild.THIS),
        ("b2", "b1", {"b1": 1, "b2": 1}, CurrentBuild.OTHER),
        (
            "b2",
            "b1",
            {"b2": 1},
            CurrentBuild.OTHER,
        ),  # its fleet may be back in a moment
        ("", "b1", {"": 1, "b1": 1}, CurrentBuild.OTHER),
        ("b1", "", {"": 1, "b1": 1}, CurrentBuild.UNVERSIONED),
        ("b1", "", {"b1": 1}, CurrentBuild.NONE),
        ("b1", "", {"b1": 1, "b2": 1}, CurrentBuild.NONE),
        ("b1", "", None, CurrentBuild.UNVERSIONED),
    ],
)
def test_new_missions_are_always_somebodys(
    build: str, current: str, live: dict[str, int] | None, expected: CurrentBuild
) -> None:
    """
    A build is taken up by itself only where none is current and nobody who works
    without one could lose by it.
    """
    counted = None if live is None else Counter(live)
    assert current_build(build, current, counted) is expected


def test_the_log_says_when_nobody_polls_with_the_current_build() -> None:
    """
    Then new missions wait, which looks like silence.
    """
    assert "with which nobody polls" in _other_build_text("b2", "b1", Counter(b2=1))
    assert "with which nobody polls" not in _other_build_text("b2", "b1", Counter(b1=1))
    assert "outlast promote b2" in _other_build_text("b2", "b1", None)
    assert "OUTLAST_BUILD" in _other_build_text("", "b1", None)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Build("b", BUILD_DRAINED, 1, 0), "its fleets may stop"),
        (Build("b", BUILD_DRAINED, 0, 0), ""),
        (Build("b", BUILD_DRAINING, 1, 3), ""),
        (Build("b", BUILD_DRAINING, 0, 3), "start a fleet with OUTLAST_BUILD=b"),
        (Build("b", BUILD_CURRENT, 0, 0), "start a fleet with OUTLAST_BUILD=b"),
        (Build("b", BUILD_CURRENT, 1, 0), ""),
        (Build("b", BUILD_WAITING, 0, 0), ""),
        (Build("b", BUILD_CURRENT, None, None), ""),
    ],
)
def test_an_operator_is_told_what_to_do(build: Build, words: str) -> None:
    """
    Which fleet may stop, and which one is missing; never more than is known.
    """
    hint = _action_text(build)
    assert words in hint
    assert bool(words) == bool(hint)


@pytest.mark.parametrize("name", ["2025.1", "a", "v1.2-rc_3", ""])
def test_a_build_has_a_plain_name(name: str) -> None:
    """
    It stands in queries and in the Web UI.
    """
    assert Settings(build=name).build == name


@pytest.mark.parametrize("name", [" ", "a b", "b'", "b:1", "-b", ".b", "b" * 101])
def test_a_build_with_another_name_is_refused(name: str) -> None:
    """
    What could end a query's text, or reads as an option, is no name.
    """
    with pytest.raises(ValidationError, match="build"):
        Settings(build=name)


def test_a_sign_tells_the_build_of_its_worker() -> None:
    """
    The id that the SDK wants of every worker is no build of an operator's.
    """

    def sign(deployment: str, build: str) -> WorkerHeartbeat:
        version = WorkerDeploymentVersion(deployment_name=deployment, build_id=build)
        return WorkerHeartbeat(deployment_version=version)

    assert build_of(sign(DEPLOYMENT, "b1")) == "b1"
    assert build_of(sign("", DEFAULT_BUILD_ID)) == ""
    assert build_of(sign("somebody-else", "b1")) == ""


@pytest.mark.parametrize(
    ("build", "roles", "warned"), [("b1", 33, 0), ("b1", 34, 1), ("", 99, 0)]
)
def test_roles_past_the_servers_limit_are_not_lost_in_silence(
    build: str, roles: int, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The server would let their workers poll for nothing.
    """
    warn_queue_limit(build, roles)
    assert len(caplog.records) == warned


def test_a_worker_without_a_build_is_as_it_was() -> None:
    """
    No deployment, and the one id that saves the hashing of all modules.
    """
    assert _named("") == {"build_id": DEFAULT_BUILD_ID}
    assert "build_id" not in _named("b1"), "the SDK takes one or the other"
