"""
The one settings class: environment variables OUTLAST_*, or the nearest .env file from
the current folder upwards; agents may be named in the project's pyproject.toml, too.

Where Temporal is, is not among them: that is the SDK's own configuration
(TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS_*, TEMPORAL_PROFILE, ...).
"""

import os
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Literal

from dotenv import load_dotenv
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from outlast.agents.environment import from_environment
from outlast.agents.project import Project, project_of, upwards
from outlast.contracts.sizes import MAX_RESULT_BYTES, MIB
from outlast.contracts.timing import DEFAULT_TIMING, Timing, timing_of
from outlast.process.home import require_private, require_short
from outlast.process.installed import agent_modules


class Settings(BaseSettings):
    """
    What a user may choose.
    """

    # A variable that is empty, as compose files leave them, is one that is not set.
    model_config = SettingsConfigDict(
        env_prefix="OUTLAST_", extra="ignore", env_ignore_empty=True
    )

    # Where state, reports and the embedded server live.
    home: Path = Path(".outlast")
    # A PostgreSQL database as the store, where workers run on several hosts:
    # postgresql://USER:PASSWORD@HOST/DATABASE. Without it the store is a file.
    database_url: SecretStr | None = None
    # A store in a file serves one host, so a Temporal elsewhere is refused, unless all
    # starters and workers are on this host all the same.
    single_host: bool = False
    # The only folder, beside the home, below which missions may have files written, as
    # an outbox; where such paths start that are relative. Without it: the home alone.
    output_root: Path | None = None
    # The only roles that this fleet plays, separated by commas; empty for all.
    roles: str = ""
    # Agent processes of a fleet. One is enough to work, two to survive one.
    processes: int = Field(default=2, ge=1, le=64)
    # Attempts that one agent process plays at once, for each role.
    slots: int = Field(default=4, ge=1, le=100)
    # Leases of a batch that one agent process works through at once, for each role.
    lease_slots: int = Field(default=1, ge=1, le=16)
    # Missions and batches that may be open at once; past it nothing new is taken.
    max_open: int = Field(default=1000, ge=1)
    # Your own agents: modules or paths to .py files, separated by commas. Without it
    # those that the project's pyproject.toml names.
    agents: str = ""
    # The name of the workers' build, where several run side by side for an upgrade:
    # missions stay on the build that began them. Empty where one is enough.
    build: str = Field(
        default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=100
    )
    # The key of the peer mesh, the same for all peers: 32 bytes in base64, as
    # `outlast mesh key` makes one. Without it peers meet on loopback only.
    mesh_key: SecretStr | None = None
    # From which level on the log has what agents log; of libraries it has warnings.
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    # Off only to see in a test or drill what fencing prevents.
    fencing: bool = True
    # Off only to see in a test or drill what the watchdog prevents.
    watchdog: bool = True
    # How long a stopped worker process is left before it is killed.
    unresponsive_s: float = Field(default=DEFAULT_TIMING.stopped_limit_s, gt=0, le=60)
    # Memory of one worker process above which it is killed; 0 for no cap. Above three
    # quarters of it the process is replaced once it has nothing in hand.
    memory_mb: int = Field(default=2048, ge=0)
    # The largest result, item, input of a task or saved progress, in MiB. It lies in
    # the store, and a process holds a few of them in memory at once.
    largest_mb: int = Field(default=MAX_RESULT_BYTES // MIB, ge=1, le=256)
    # How long an attempt may last that a stopping worker lets finish; the others are
    # handed on at once. Longer finishes more of them here.
    drain_grace_s: float = Field(default=0.05, ge=0, le=600)

    @property
    def memory_cap(self) -> int:
        return self.memory_mb * MIB

    @property
    def largest_bytes(self) -> int:
        return self.largest_mb * MIB

    @property
    def timing(self) -> Timing:
        """
        The clocks that the store and the user's patience ask for.
        """
        shipped = timing_of(one_host=self.database_url is None)
        return shipped.model_copy(update={"stopped_limit_s": self.unresponsive_s})

    @property
    def store(self) -> Path | str:
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return self.home.resolve() / "store.db"

    @property
    def output_roots(self) -> list[Path]:
        """
        Where missions may have files written, the home last; relative paths start at
        the first.
        """
        return [self.output_root or self.home, self.home]

    @property
    def workers_output(self) -> list[Path] | None:
        """
        The same of the workers, as far as it is known here; None where they may be on
        other hosts.
        """
        return self.output_roots if self.database_url is None else None

    @property
    def modules(self) -> list[str]:
        return [*agent_modules(for_workers=False), *self.users_modules]

    @property
    def users_modules(self) -> list[str]:
        return _parts(self.agents)

    @property
    def worker_modules(self) -> list[str]:
        """
        What workers import, who play the agents and do not only name them.
        """
        return [*agent_modules(for_workers=True), *self.users_modules]

    @property
    def role_names(self) -> list[str]:
        return _parts(self.roles)


def _parts(listed: str) -> list[str]:
    return [part for each in listed.split(",") if (part := each.strip())]


@cache
def settings() -> Settings:
    """
    Read the settings of this process, once.

    :raises BadInputError: naming the variable that does not fit, or a home that others
        can write or that is too far down.
    """
    for file in islice(upwards(Path.cwd(), ".env"), 1):
        load_dotenv(file)
    chosen = _of_project(from_environment(Settings), project_of(Path.cwd()))
    require_private(chosen.home)
    if chosen.database_url is None:
        require_short(chosen.home)
    return chosen


def _of_project(chosen: Settings, found: Project | None) -> Settings:
    """
    Take what the environment does not say from the user's project.
    """
    if found is None:
        return chosen
    told: dict[str, object] = {}
    if not chosen.agents:
        told["agents"] = ",".join(found.modules)
    if "home" not in chosen.model_fields_set and found.root != Path.cwd():
        told["home"] = found.root / chosen.home
    return chosen.model_copy(update=told)


def has_configured_temporal() -> bool:
    """
    True if the user's environment names a Temporal of their own.
    """
    return any(
        os.environ.get(name)
        for name in ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE")
    )
