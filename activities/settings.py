"""
What a user may choose of the crew: environment variables OUTLAST_*, beside those that
the engine has.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from outlast.agents.environment import from_environment

# A model that says nothing for this long has hung: reasoning ones think for half of it.
MODEL_SILENCE_S = 30.0


class CrewSettings(BaseSettings):
    """
    Where the crew reads and writes, and which models it thinks with.
    """

    model_config = SettingsConfigDict(
        env_prefix="OUTLAST_", extra="ignore", env_ignore_empty=True
    )

    # The only folder below which missions may have documents read; where relative paths
    # start, too. Without it: wherever the workers' user may read.
    documents_root: Path | None = None
    # Where the reports of questions are written; without it below the home.
    reports: Path | None = None
    # A model for the crew to think with, as pydantic-ai names it ("openai-chat:gpt-5"),
    # its key and address by the provider's own variables; another one for when that is
    # away. Without one the crew works by search and extraction.
    model: str | None = None
    fallback_model: str | None = None
    # How long a model may say nothing, before its first word and between two.
    model_silence_s: float = Field(default=MODEL_SILENCE_S, gt=0, le=600)
    # How it is asked for an answer of a form: most models know tools; llama.cpp and
    # vLLM can hold any model to a JSON schema, "native"; "prompted" asks in words.
    model_output: Literal["tool", "native", "prompted"] = "tool"

    @model_validator(mode="after")
    def _require_model_extra(self) -> Self:
        if self.fallback_model and not self.model:
            raise ValueError("OUTLAST_FALLBACK_MODEL is for when OUTLAST_MODEL is away")
        if self.model and find_spec("pydantic_ai") is None:
            raise ValueError("OUTLAST_MODEL needs pip install 'outlast[models]'")
        return self

    def reports_below(self, home: Path) -> Path:
        return (self.reports or home / "reports").resolve()


def settings() -> CrewSettings:
    """
    Read the crew's settings.

    :raises BadInputError: naming the variable that does not fit.
    """
    return from_environment(CrewSettings)
