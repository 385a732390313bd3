"""
What every value that crosses a process has in common, and every one that may outlive
the release that wrote it.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from outlast.contracts.errors import NewerStateError

# What this release writes into state, and the highest that it reads. It grows when an
# older release could no longer understand what a newer one has written.
SCHEMA_NUMBER = 1


class WireModel(BaseModel):
    """
    A value that crosses a process: frozen, and strangers are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Whether it travels itself however large: an answer that nobody keeps.
    inline: ClassVar[bool] = False


class VersionedModel(WireModel):
    """
    A value that may outlive the release that wrote it, in a history or on a queue.

    This is the one place that refuses what a newer release has written: the decoding
    fails, so the server keeps the task for a worker that can read it.
    """

    schema_number: int = Field(default=SCHEMA_NUMBER, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _refuse_newer(cls, raw: Any) -> Any:
        # Before any field: a newer release may have changed them all. No ValueError,
        # which would be one fault among others.
        number = raw.get("schema_number") if isinstance(raw, dict) else None
        if isinstance(number, int) and number > SCHEMA_NUMBER:
            name = raw.get("mission") or raw.get("id")
            raise NewerStateError(
                f"{name} was written by a newer release: its state has schema number "
                f"{number}, this release reads up to {SCHEMA_NUMBER}; start workers of "
                "the newer release and stop those of this one"
            )
        return raw
