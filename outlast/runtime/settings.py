"""
The one settings class: environment variables OUTLAST_*, or a .env file beside you.

Where Temporal is, is not among them: that is the SDK's own configuration
(TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS_*, TEMPORAL_PROFILE, ...).
"""

import os
from functools import cache
from pathlib import Path

from dotenv import load_dotenv
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from outlast.contracts.errors import BadInputError

SHIPPED_CREW = [
    "activities.librarian",
    "activities.planner",
    "activities.publisher",
    "activities.rehearsal",
    "activities.researcher",
    "activities.reviewer",
    "activities.support",
    "activities.writer",
]


class Settings(BaseSettings):
    """
    What a user may choose.
    """

    model_config = SettingsConfigDict(env_prefix="OUTLAST_", extra="ignore")

    # Where state, reports and the embedded server live.
    home: Path = Path(".outlast")
    # Agent processes of a fleet. One is enough to work, two to survive one.
    processes: int = Field(default=2, ge=1, le=64)
    # Attempts that one agent process plays at once, for each role.
    slots: int = Field(default=4, ge=1, le=100)
    # Leases of a batch that one agent process works through at once, for each role.
    leases: int = Field(default=1, ge=1, le=16)
    # Missions and batches that may be open at once; past it nothing new is taken.
    open_most: int = Field(default=1000, ge=1)
    # Your own agents: modules or paths to .py files, separated by commas.
    agents: str = ""
    # Off only to see in a test or drill what fencing prevents.
    fencing: bool = True
    # Off only to see in a test or drill what the watchdog prevents.
    watchdog: bool = True
    # How long a worker process may give no sign and use no CPU before it is killed.
    freeze_s: float = Field(default=1.0, gt=0, le=60)
    # Memory of one worker process above which it is killed; 0 for no cap. Above three
    # quarters of it the process is replaced once it has nothing in hand.
    memory_mb: int = Field(default=2048, ge=0)
    # How long a stopping worker lets short attempts finish before it hands the others
    # on. Longer finishes more of them here, shorter moves the long ones sooner.
    drain_s: float = Field(default=0.05, ge=0, le=600)

    @property
    def memory_cap(self) -> int:
        return self.memory_mb * 2**20

    @property
    def store_path(self) -> Path:
        return self.home.resolve() / "store.db"

    @property
    def reports(self) -> Path:
        return self.home.resolve() / "reports"

    @property
    def modules(self) -> list[str]:
        own = [each.strip() for each in self.agents.split(",")]
        return [*SHIPPED_CREW, *(each for each in own if each)]


@cache
def settings() -> Settings:
    """
    Read the settings of this process, once.

    :raises BadInputError: naming the variable that does not fit.
    """
    load_dotenv(Path.cwd() / ".env")
    try:
        return Settings()
    except ValidationError as error:
        fault = error.errors()[0]
        name = "OUTLAST_" + "_".join(str(part) for part in fault["loc"]).upper()
        raise BadInputError(f"{name}: {fault['msg']}") from None


def temporal_is_named() -> bool:
    """
    Say whether the user's environment names a Temporal of their own.
    """
    return any(
        name in os.environ
        for name in ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE")
    )
