"""
The images that a registry would bring, made of Debian's packages under their names.

What they prove is that our own image and the compose file work on a docker engine. What
they cannot prove is what the released images of PostgreSQL 17, Temporal's server, its
admin tools and its Web UI do by themselves.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from engine import ROOT, Engine

IMAGES = Path(__file__).with_name("images")
PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates", "wget")
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
# Whose place each folder of images/ takes in docker-compose.yml.
STAND_INS = {
    "postgres": "postgres:",
    "server": "temporalio/server:",
    "admin-tools": "temporalio/admin-tools:",
    "ui": "temporalio/ui:",
}


def make(engine: Engine) -> None:
    """
    Make the base of our Dockerfile and every image that the compose file names.
    """
    base = engine.top / "base"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    with (engine.top / "debootstrap.log").open("wb") as log:
        subprocess.run(
            [*command, "bookworm", str(base)],
            check=True,
            stdout=log,
            stderr=log,
        )
    # What this machine trusts, so that pip works behind a proxy of its own here too.
    shutil.copy(TRUSTED, base / TRUSTED.relative_to("/"))
    (base / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    engine.bring_image("outlast-base", base)
    shutil.rmtree(base)
    engine.docker("tag", "outlast-base", python_image())
    for folder, start in STAND_INS.items():
        build(engine, IMAGES / folder, named(start))


def build(engine: Engine, folder: Path, name: str) -> None:
    """
    Build one stand-in; those that need Temporal's CLI get the one that is installed.
    """
    context = engine.top / "context" / folder.name
    shutil.copytree(folder, context)
    if "COPY temporal" in (folder / "Dockerfile").read_text():
        shutil.copy(Path(sys.executable).parent / "temporal", context)
    engine.docker("build", "--tag", name, str(context))


def python_image() -> str:
    [line] = [
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("ARG PYTHON=")
    ]
    return f"python:{line.removeprefix('ARG PYTHON=')}"


def named(start: str) -> str:
    """
    Find the one image of the compose file whose name begins with *start*.
    """
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    [name] = {
        each["image"]
        for each in services.values()
        if each.get("image", "").startswith(start)
    }
    return str(name)
