"""
What attempts record of themselves as spans.
"""

from contextlib import AbstractContextManager

from outlast.ledger.claim import Claim
from outlast.telemetry.process import Attributes, telemetry


def span(name: str, attributes: Attributes) -> AbstractContextManager[object]:
    return telemetry.tracer.span(name, attributes)


def describe(attributes: Attributes) -> None:
    telemetry.tracer.describe(attributes)


def event(name: str, attributes: Attributes) -> None:
    telemetry.tracer.event(name, attributes)


def attempt_attributes(
    claim: Claim, role: str, resumed_seq: int = 0
) -> dict[str, str | bool | int | float]:
    """
    Say whose attempt it is and which saved progress it resumes from.
    """
    return {
        "outlast.mission": claim.mission,
        "outlast.tenant": claim.tenant,
        "outlast.task": claim.task,
        "outlast.round": claim.round,
        "outlast.attempt": claim.attempt,
        "outlast.role": role,
        "outlast.resumed_seq": resumed_seq,
    }
