"""
docker-compose.yml as `docker compose config` would show it, as far as we use it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"

Service = dict[str, Any]

_VARIABLE = re.compile(
    r"\$\{(?P<name>\w+):(?P<how>[-+])(?P<word>[^}]*)\}|\$(?P<other>.)"
)


def variables(text: str) -> set[str]:
    """
    Name what *text* takes from the environment or .env.
    """
    return {found["name"] for found in _VARIABLE.finditer(text) if found["name"]}


def interpolate(text: str, env: Mapping[str, str]) -> str:
    """
    Put *env* into *text*: `:-` is the default, `:+` what stands where it is set.
    """

    def put(found: re.Match[str]) -> str:
        if found["other"] == "$":
            return "$"
        if found["name"] is None:
            raise ValueError(f"{found[0]} has no default")
        said = env.get(found["name"], "")
        if found["how"] == "+":
            return found["word"] if said else ""
        return said or found["word"]

    return _VARIABLE.sub(put, text)


def compose(env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """
    Read the whole file, with nothing set unless *env* says so.
    """
    text = "\n".join(
        line
        for line in COMPOSE.read_text().splitlines()
        if not line.lstrip().startswith("#")
    )
    read: dict[str, Any] = yaml.safe_load(interpolate(text, env or {}))
    return read


def services() -> dict[str, Service]:
    """
    Read the services by name.
    """
    found: dict[str, Service] = compose()["services"]
    return found


def long_running() -> dict[str, Service]:
    """
    Those that are started again whenever they end.
    """
    return {
        name: each
        for name, each in services().items()
        if each["restart"] == "unless-stopped"
    }


def ours() -> dict[str, Service]:
    """
    Those made of the Dockerfile.
    """
    return {name: each for name, each in services().items() if each.get("build") == "."}


def _short(volume: str | dict[str, Any]) -> str:
    """
    Write a mount in its short form; a relative path of the long one needs no `./`.
    """
    if isinstance(volume, str):
        return volume
    source = str(volume["source"])
    here = source if source.startswith((".", "/")) else f"./{source}"
    how = "ro" if volume.get("read_only") else "rw"
    return f"{here}:{volume['target']}:{how}"


def bind_mounts(service: Service) -> list[tuple[str, str]]:
    """
    List what of this folder a service sees: path here, and how it is mounted.
    """
    parts = [_short(each).split(":") for each in service.get("volumes", [])]
    return [(each[0], each[-1]) for each in parts if each[0].startswith((".", "/"))]
