"""
The Dockerfile by the rules that matter; tests/containers build it and run it.
"""

import json
import re

import pytest
import typer.main
import yaml
from composed import ROOT, services
from dockerfile import instructions, let_through

from outlast.cli import worker_command

STEPS: list[tuple[str, str]] = list(instructions((ROOT / "Dockerfile").read_text()))
LAST = STEPS[max(at for at, (name, _) in enumerate(STEPS) if name == "FROM") :]


def only(name: str) -> str:
    """
    Read the one instruction of that name in the last stage.
    """
    [rest] = [rest for each, rest in LAST if each == name]
    return rest


def test_the_image_runs_as_a_numbered_user() -> None:
    """
    By number, so that whoever forbids root can see that it is none.
    """
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", only("USER"))


def test_nothing_is_installed_in_the_last_stage() -> None:
    """
    What builds stays behind; every package comes from the lock file, by hash.
    """
    built = " ".join(rest for name, rest in STEPS if name == "RUN")
    assert "--require-hashes" in built
    assert "--only-binary :all:" in built
    last = " ".join(rest for name, rest in LAST if name == "RUN")
    assert not re.search(r"\b(pip|apt|apt-get|gcc|make)\b", last)
    assert "--without-pip" in built


def test_the_python_is_pinned_and_one() -> None:
    """
    Both stages use the version that stands on top, which the package allows.
    """
    [version] = [rest for name, rest in STEPS if name == "ARG"]
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", version)
    bases = [rest.split()[0] for name, rest in STEPS if name == "FROM"]
    assert bases == ["python:${PYTHON}"] * 2


def test_the_command_is_one_that_the_worker_knows() -> None:
    """
    An option that was renamed would end every container at its start.
    """
    program, *options = json.loads(only("CMD"))
    assert program == "outlast-worker"
    command = typer.main.get_command(worker_command.app)
    known = {each for option in command.params for each in option.opts}
    assert {each for each in options if each.startswith("--")} <= known


def test_everybody_asks_the_port_that_the_worker_listens_on() -> None:
    """
    Health check and Prometheus find the page that the command serves, which binds to
    more than its own loopback.
    """
    command = json.loads(only("CMD"))
    port = command[command.index("--health-port") + 1]
    assert command[command.index("--health-host") + 1] == "0.0.0.0"
    assert f"http://127.0.0.1:{port}/ready" in only("HEALTHCHECK")
    assert only("EXPOSE") == port
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    [job] = [
        each for each in scraped["scrape_configs"] if each["job_name"] == "outlast"
    ]
    [found] = job["dns_sd_configs"]
    assert str(found["port"]) == port
    assert all(name in services() for name in found["names"])


@pytest.mark.parametrize(
    ("path", "through"),
    [
        ("pyproject.toml", True),
        ("requirements-build.lock", True),
        ("workflows/pool.py", True),
        ("worker.py", False),
        ("requirements-dev.lock", False),
        ("outlast/cli/app.py", True),
        ("outlast/py.typed", True),
        ("outlast/cli/__pycache__/app.cpython-311.pyc", False),
        (".env", False),
        (".git/config", False),
        (".venv/bin/python", False),
        ("tests/unit/test_image.py", False),
        ("outlast.toml", False),
    ],
)
def test_the_context_holds_what_the_image_is_made_of(path: str, through: bool) -> None:
    """
    Above all no secrets, and no state.
    """
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [each for each in lines if each and not each.startswith("#")]
    assert let_through(path, patterns) is through


def test_what_is_copied_is_there() -> None:
    """
    A folder that was renamed is noticed before anything is built.
    """
    copied = [
        word
        for name, rest in STEPS
        if name == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    ]
    assert [each for each in copied if not (ROOT / each).exists()] == []
