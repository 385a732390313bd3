"""
The names that OpenTelemetry gives to what agents and models do.

The conventions are in development and have moved out of the packaged ones, whose
constants are deprecated: these are the specification's words, in this one place.
"""

from outlast.ledger.claim import Claim
from outlast.telemetry.process import Attributes

OPERATION_NAME = "gen_ai.operation.name"
AGENT_NAME = "gen_ai.agent.name"
AGENT_VERSION = "gen_ai.agent.version"

# For an agent that asks a model: on the span around each call.
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"

# Operations; a span is called after its operation and what that is done to.
INVOKE_AGENT = "invoke_agent"
CHAT = "chat"


def invoke_attributes(role: str, version: int) -> Attributes:
    return {
        OPERATION_NAME: INVOKE_AGENT,
        AGENT_NAME: role,
        AGENT_VERSION: str(version),
    }


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
