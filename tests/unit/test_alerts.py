"""
What watches the fleets: Prometheus, its alerts, the collector, and the page on them.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from composed import ROOT, services

from outlast.contracts.timing import DEFAULT_TIMING, STOCK_TIMER_SLACK_S, Timing
from outlast.contracts.timing_validation import predict_recovery
from outlast.fleet.metrics_export import prometheus_page
from outlast.fleet.parent import Fleet
from outlast.settings import Settings

PROMETHEUS = ROOT / "deploy/prometheus"
PAGE = " ".join((ROOT / "docs/operating.md").read_text().split())
RULES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())[
    "groups"
][0]["rules"]
SCRAPED = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
COLLECTOR = yaml.safe_load((ROOT / "deploy/collector/config.yaml").read_text())


@pytest.fixture
def page(tmp_path: Path) -> str:
    """
    What a fleet shows before it runs: every metric, at zero.
    """
    fleet = Fleet(Settings(home=tmp_path), lambda _: None)
    return prometheus_page(fleet.snapshot()).decode()


def families(page: str) -> set[str]:
    """
    Name the metrics, as queries do.
    """
    found = re.findall(r"^# TYPE (\w+) (\w+)", page, re.MULTILINE)
    return {name for name, kind in found if not name.endswith("_created")}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_something_that_a_fleet_shows(
    rule: dict[str, Any], page: str
) -> None:
    """
    A query for a metric or a label value that does not exist is silent for ever.
    """
    for name in re.findall(r"outlast_\w+", rule["expr"]):
        assert name in families(page)
    for label, value in re.findall(r'(\w+)="([^"]+)"', rule["expr"]):
        jobs = {each["job_name"] for each in SCRAPED["scrape_configs"]}
        assert value in jobs if label == "job" else f'{label}="{value}"' in page
    assert 'job="outlast"' in rule["expr"], "else what is pushed is counted twice"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """
    In a sentence that stands in docs/operating.md, beside the metric.
    """
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["runbook"] in PAGE
    assert rule["annotations"]["summary"].endswith(".")


def test_every_metric_is_explained(page: str) -> None:
    """
    One that nobody knows what to do about need not be shown.
    """
    assert {name for name in families(page) if f"`{name}`" not in PAGE} == set()


def test_the_predicted_bounds_are_the_policies() -> None:
    """
    The page shows what the arithmetic says now.
    """
    for tuned, stock in zip(
        predict_recovery(DEFAULT_TIMING),
        predict_recovery(Timing(timer_slack_s=STOCK_TIMER_SLACK_S)),
        strict=True,
    ):
        row = f"| {tuned.fault} | {tuned.worst_s:.2f} s | {stock.worst_s:.2f} s |"
        assert row in PAGE


def test_prometheus_asks_services_that_there_are() -> None:
    """
    By the names and ports of the compose file and of the collector.
    """
    targets = [
        target
        for job in SCRAPED["scrape_configs"]
        for each in job.get("static_configs", [])
        for target in each["targets"]
    ]
    served = {
        f"collector:{COLLECTOR['exporters']['prometheus']['endpoint'].split(':')[1]}",
        "temporal:"
        + services()["temporal"]["environment"]["PROMETHEUS_ENDPOINT"].split(":")[1],
    }
    assert set(targets) == served
    assert [(PROMETHEUS / each).exists() for each in SCRAPED["rule_files"]] == [True]


def test_prometheus_itself_finds_nothing_wrong() -> None:
    """
    Its own checker reads the configuration and every query.
    """
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool is here: install the package prometheus")
    command = [promtool, "check", "config", str(PROMETHEUS / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_collectors_pipelines_are_whole() -> None:
    """
    Each names what is defined, what is defined is used, and both signals get in.
    """
    pipelines = COLLECTOR["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics"}
    for kind in ("receivers", "processors", "exporters"):
        used = {each for pipeline in pipelines.values() for each in pipeline[kind]}
        assert used == set(COLLECTOR[kind])
    assert set(COLLECTOR["service"]["extensions"]) == set(COLLECTOR["extensions"])


def test_workers_and_jaeger_are_where_the_collector_expects_them() -> None:
    """
    Workers send to the port that it listens on; it sends on to a service there is.
    """
    port = COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"].split(":")[1]
    compose = (ROOT / "docker-compose.yml").read_text()
    assert f"${{COMPOSE_PROFILES:+http://collector:{port}}}" in compose
    assert COLLECTOR["exporters"]["otlp_http"]["endpoint"] == "http://jaeger:4318"
    assert "jaeger" in services()
    check = services()["collector"]["healthcheck"]["test"][-1]
    health = COLLECTOR["extensions"]["health_check"]["endpoint"].split(":")[1]
    assert f":{health}/" in check
