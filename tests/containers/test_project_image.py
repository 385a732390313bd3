"""
A project's own image on top of ours, with its dependencies and its agents.
"""

import json
from pathlib import Path

import pytest
from engine import ROOT, Engine, Project

pytestmark = pytest.mark.containers

IMAGE = "words:local"


def test_a_projects_image_serves_its_agents(
    engine: Engine, stack: Project, tmp_path: Path
) -> None:
    """
    Built by the Dockerfile that `outlast new` writes, named in an override file.
    """
    engine.docker("build", "--tag", IMAGE, str(ROOT / "examples/words"))
    override = tmp_path / "docker-compose.override.yml"
    services = {each: {"image": IMAGE} for each in ("worker", "starter")}
    override.write_text(json.dumps({"services": services}))
    project = Project(engine, override)
    try:
        project.compose("up", "--detach", "--wait", "worker")
        said = project.starter("run", "/project/mission.yaml")
        assert "completed in" in said
    finally:
        stack.compose("up", "--detach", "--wait", "worker")
