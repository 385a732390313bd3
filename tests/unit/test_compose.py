"""
docker-compose.yml by the rules that matter; tests/containers run it.
"""

import json
import re
from pathlib import Path

import pytest
import typer.main
import yaml
from composed import (
    COMPOSE,
    ROOT,
    bind_mounts,
    compose,
    interpolate,
    long_running,
    ours,
    services,
    variables,
)
from jsonschema import Draft202012Validator

from outlast.cli import app
from outlast.crew.settings import CrewSettings
from outlast.dev.server_command import DYNAMIC_CONFIG, SEARCH_ATTRIBUTES
from outlast.fleet import deaths, drain
from outlast.process.called import CALLED
from outlast.settings import Settings

SCHEMA = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text())


def test_it_is_a_compose_file() -> None:
    """
    The Compose Specification's own schema finds nothing, and would.
    """
    valid = Draft202012Validator(SCHEMA)
    assert [each.message for each in valid.iter_errors(compose())] == []
    wrong = compose()
    wrong["services"]["worker"]["depends_on"]["postgres"] = {"condition": "well"}
    assert not valid.is_valid(wrong)


@pytest.mark.parametrize("name", services())
def test_ports_are_on_loopback_only(name: str) -> None:
    """
    Nobody outside this machine reaches anything.
    """
    ports = services()[name].get("ports", [])
    assert [each for each in ports if not each.startswith("127.0.0.1:")] == []
    assert services()[name].get("network_mode") != "host"


def test_the_workers_page_is_not_published() -> None:
    """
    /metrics and /health are for the other containers.
    """
    assert [name for name in ours() if services()[name].get("ports")] == []


@pytest.mark.parametrize("name", long_running())
def test_every_long_running_service_has_a_health_check(name: str) -> None:
    """
    Its own, or, for our image, the one in the Dockerfile.
    """
    check = services()[name].get("healthcheck", {})
    by_image = name in ours() and "\nHEALTHCHECK" in (ROOT / "Dockerfile").read_text()
    assert check.get("test") or (by_image and not check.get("disable"))


@pytest.mark.parametrize("name", services())
def test_every_dependency_names_what_it_waits_for(name: str) -> None:
    """
    A job is waited for until it has ended well, a server until it is healthy.
    """
    needs = services()[name].get("depends_on", {})
    for need, how in needs.items():
        job = need not in long_running()
        wanted = "service_completed_successfully" if job else "service_healthy"
        assert how == {"condition": wanted}, need


def test_workers_start_last() -> None:
    """
    Schema, namespace, server and database are there before the first poll.
    """
    needs = services()["worker"]["depends_on"]
    jobs = {name for name in services() if name not in long_running()} - {"starter"}
    assert set(needs) == (jobs | {"postgres", "temporal"}) - {"temporal-schema"}
    assert "temporal-schema" in services()["temporal"]["depends_on"]


@pytest.mark.parametrize("name", services())
def test_every_service_is_confined(name: str) -> None:
    """
    No new privileges, no capabilities, a root that is read only.
    """
    service = services()[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    # The Web UI writes its configuration into its image's folder.
    assert service["read_only"] is (name != "temporal-ui")


def images() -> dict[str, str]:
    """
    All images, also those that others are built from.
    """
    found = {name: each["image"] for name, each in services().items()}
    inline = services()["collector"]["build"]["dockerfile_inline"]
    built = re.findall(r"FROM (\S+)", inline)
    return {**found, **{each: each for each in built}}


@pytest.mark.parametrize("image", sorted(set(images().values())))
def test_images_are_pinned(image: str) -> None:
    """
    By a whole version, or built here; never the latest, nor the retired auto-setup.
    """
    name, _, tag = image.partition(":")
    assert re.fullmatch(r"v?\d+(\.\d+)+(-\w+)?|local", tag)
    assert "auto-setup" not in name


def test_temporal_and_its_tools_are_of_one_release() -> None:
    """
    The schema that is set up is the one that the server knows.
    """
    tags = {
        name: image.partition(":")[2]
        for name, image in images().items()
        if image.startswith(("temporalio/server", "temporalio/admin-tools"))
    }
    assert set(tags) == {"temporal-schema", "temporal", "temporal-namespace"}
    assert len(set(tags.values())) == 1


@pytest.mark.parametrize("name", services())
def test_what_is_mounted_is_there_and_read_only(name: str) -> None:
    """
    A bind mount of a missing file would become an empty folder.
    """
    for path, how in bind_mounts(services()[name]):
        assert (ROOT / path).exists(), path
        assert how == "ro", path


def test_the_dynamic_configuration_is_the_embedded_servers() -> None:
    """
    Recovery is as fast here as on the server that we start ourselves.
    """
    path = services()["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"]
    [(folder, _)] = bind_mounts(services()["temporal"])
    read = yaml.safe_load((ROOT / folder / Path(path).name).read_text())
    ours = dict(each.split("=", 1) for each in DYNAMIC_CONFIG)
    expected = {name: [{"value": json.loads(value)}] for name, value in ours.items()}
    assert read == expected


def test_the_search_attributes_are_the_embedded_servers() -> None:
    """
    The Web UI shows the same columns.
    """
    script = (ROOT / "deploy/temporal/namespace.sh").read_text()
    made = re.findall(r"^patiently tagged (\w+) (\w+)$", script, re.MULTILINE)
    assert [f"{name}={kind}" for name, kind in made] == list(SEARCH_ATTRIBUTES)


def test_our_variables_are_settings() -> None:
    """
    A misspelt OUTLAST_ variable would be ignored in silence.
    """
    names = Settings.model_fields | CrewSettings.model_fields
    fields = {f"OUTLAST_{name.upper()}" for name in names}
    for name, service in ours().items():
        used = {each for each in service["environment"] if each.startswith("OUTLAST_")}
        assert "OUTLAST_DATABASE_URL" in used, name
        assert used - {CALLED} <= fields, name


def test_the_documents_root_is_where_the_documents_are() -> None:
    """
    Starter and workers see the same folder under the same name.
    """
    for service in ours().values():
        root = service["environment"]["OUTLAST_DOCUMENTS_ROOT"]
        documents = {"type": "bind", "source": "./examples/documents"}
        mounted = {**documents, "target": root, "read_only": True}
        assert mounted in service["volumes"]


def test_every_variable_is_explained() -> None:
    """
    .env.example names what the compose file reads.
    """
    read = variables(COMPOSE.read_text())
    named = re.findall(r"^# (\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(read - set(named)) == []


def test_telemetry_is_asked_for_by_its_profile() -> None:
    """
    Without the profile nobody listens, so nobody is told.
    """

    def endpoint(env: dict[str, str]) -> str:
        worker = compose(env)["services"]["worker"]
        return str(worker["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] or "")

    assert endpoint({}) == ""
    assert endpoint({"COMPOSE_PROFILES": "telemetry"}) == "http://collector:4318"


def test_commands_are_ours() -> None:
    """
    The schema job's verb is one of the starter's.
    """
    verbs = typer.main.get_command(app.app).commands
    program, verb = services()["outlast-schema"]["command"]
    assert program == "outlast"
    assert verb in verbs


def test_the_grace_fits_the_drain() -> None:
    """
    A stopped fleet hands on what it has before docker kills it: the others drain
    first, then the workflows, then the last reports are made.
    """
    drain_s = Settings.model_fields["drain_grace_s"].default
    others = drain_s + drain.WORKFLOW_GRACE_S
    workflows = drain_s + drain.DRAIN_KILL_S
    needed_s = others + workflows + deaths.FINAL_REPORT_LIMIT_S
    grace = services()["worker"]["stop_grace_period"]
    assert needed_s < int(grace.removesuffix("s")) < 3 * needed_s
    assert "OUTLAST_DRAIN_GRACE_S" not in services()["worker"]["environment"]


def test_interpolation_is_dockers() -> None:
    """
    What has no default is refused, since an unset variable would be empty in silence.
    """
    assert interpolate("${A:-b} $$ ${C:+d}", {}) == "b $ "
    assert interpolate("${A:-b}${C:+d}", {"A": "a", "C": "c"}) == "ad"
    with pytest.raises(ValueError, match="no default"):
        interpolate("$A", {})
