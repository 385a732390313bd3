"""
Values that may outlive the release that wrote them.
"""

from typing import Any

from pydantic import Field, model_validator

from outlast.contracts.errors import NewerStateError
from outlast.contracts.wire import WireModel

# What this release writes into state, and the highest that it reads. It grows when an
# older release could no longer understand what a newer one has written.
SCHEMA_NUMBER = 1


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
