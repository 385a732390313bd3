"""
A real Prometheus scrapes a fleet, and a query finds what happened there.
"""

import json
import os
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mission_driver import Course

from outlast.dev.ports import free_port
from testkit.processes import wait_for

BINARY = shutil.which("prometheus")

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(BINARY is None, reason="no `prometheus` is on the PATH"),
]


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[str]:
    """
    A Prometheus that reads *target* (host:port) every half second; yields its URL.
    """
    config = folder / "prometheus.yml"
    scrape = {"job_name": "outlast", "static_configs": [{"targets": [target]}]}
    every = {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    config.write_text(json.dumps({"global": every, "scrape_configs": [scrape]}))
    address = f"127.0.0.1:{free_port()}"
    command = [
        BINARY or "",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    process = subprocess.Popen(command, cwd=folder)
    try:
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def query(url: str, asked: str) -> float | None:
    """
    Ask for one number; None while there is none, or nobody answers yet.
    """
    page = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': asked})}"
    try:
        with urllib.request.urlopen(page, timeout=5) as answer:
            result = json.load(answer)["data"]["result"]
    except OSError:
        return None
    return float(result[0]["value"][1]) if result else None


def test_a_query_finds_the_recovery(own: Course, tmp_path: Path) -> None:
    """
    A killed process is one recovery by exit report, within the goal's buckets, and
    the page is one that Prometheus reads without complaint.
    """
    fleet = own.home.fleet(processes=2)
    target = urllib.parse.urlsplit(fleet.ready["health"]).netloc
    with scraping(target, tmp_path) as url:
        recoveries = 'outlast_recoveries_total{detector="exit_report"}'
        wait_for(lambda: query(url, recoveries) == 0, "the first scrape")
        own.begin({"t": {"steps": 30}})
        os.kill(own.past(3, "t")["pid"], signal.SIGKILL)
        own.second("t")
        wait_for(lambda: query(url, recoveries) == 1, "the recovery", limit_s=10.0)
        assert query(url, 'up{job="outlast"}') == 1
        within = 'outlast_recovery_seconds_bucket{detector="exit_report",le="1.0"}'
        assert query(url, within) == 1
        assert query(url, "outlast_restarts_total") == 1
        assert query(url, "rate(outlast_heartbeats_total[10s]) > 0")
    assert own.ends() == 0
