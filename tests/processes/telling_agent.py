"""
A rehearsal that opens a span of its own, as an agent with OpenTelemetry does.
"""

from opentelemetry import trace

from outlast import Context, agent
from outlast.crew.scripted_agent import Script, rehearse

tracer = trace.get_tracer("the agent's own")


@agent("telling", version=1)
async def tell(script: Script, ctx: Context) -> object:
    with tracer.start_as_current_span("thinking"):
        return await rehearse(script, ctx)
