"""
A conversation with a model that continues where it was when its process was killed.

The history is saved after each step: the model's decision before its tools act, then
what the tools said. The next attempt begins with the step in hand, so that no answer is
paid for twice, and what was paid for is counted with it.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_ai import (
    Agent,
    AgentRun,
    CallToolsNode,
    ModelRequestNode,
    ModelRetry,
    NativeOutput,
    PromptedOutput,
    ToolOutput,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    ToolReturnPart,
)
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage, RunUsage, UsageLimits
from pydantic_graph import End

from outlast import Context
from outlast.contracts.errors import CheckpointError
from outlast.contracts.validation_faults import faults_of
from outlast.crew.llm.model_client import (
    connect_model,
    request_model,
    translated_errors,
)
from outlast.crew.llm.models import model_of, output
from outlast.crew.llm.prompt import Prompt

T = TypeVar("T")

# How often an answer of the wrong form is sent back to be mended.
MAX_REPAIRS = 2
# How an answer of a form is asked for.
OUTPUT_MODES: dict[str, Callable[[Any], Any]] = {
    "tool": ToolOutput,
    "native": NativeOutput,
    "prompted": PromptedOutput,
}
# Questions to the model in one conversation; one that needs more is lost in it.
MAX_REQUESTS = 20


class SavedConversation(BaseModel):
    """
    What is saved: the messages so far, as pydantic-ai writes them.
    """

    messages: JsonValue = []


async def converse(thought: Prompt[T], ctx: Context) -> T:
    """
    Answer *thought* with the model of this route, going on with what was saved.

    :raises CheckpointError: when what was saved is no conversation to this release.
    :raises BudgetExceededError: when the mission's tokens or cost are spent.
    :raises TaskError: what the model's service made of it.
    """
    name = model_of(ctx.route)
    history = _history(await ctx.resume(SavedConversation, SavedConversation()))
    await ctx.check_budget()  # where all is spent already, nothing more is asked
    with translated_errors(name):
        agent = _agent(thought, name, _repaired(history))
        asked = sum(isinstance(each, ModelResponse) for each in history)
        async with agent.iter(
            None if history else thought.prompt,
            message_history=history,
            usage=RunUsage(requests=asked),
            usage_limits=UsageLimits(request_limit=MAX_REQUESTS),
        ) as thread:
            await _follow(thread, name, ctx)
    assert thread.result is not None
    answer: T = thread.result.output
    return answer


def _history(saved: SavedConversation) -> list[ModelMessage]:
    try:
        return ModelMessagesTypeAdapter.validate_python(saved.messages)
    except ValidationError as error:
        fault = faults_of(error)[0].message
        raise CheckpointError(
            f"the saved conversation cannot be read: {fault}"
        ) from None


async def _follow(thread: AgentRun[Any, Any], name: str, ctx: Context) -> None:
    """
    Take step after step to the end, and save after each.
    """
    node = thread.next_node
    while not isinstance(node, End):
        if isinstance(node, ModelRequestNode):
            await request_model(node, thread.ctx, name, ctx)
        asked, node = node, await thread.next(node)
        if isinstance(asked, ModelRequestNode):
            await _save(thread.all_messages(), ctx, thread.all_messages()[-1])
        elif isinstance(asked, CallToolsNode) and isinstance(node, ModelRequestNode):
            await _save([*thread.all_messages(), node.request], ctx)


async def _save(
    messages: Sequence[ModelMessage], ctx: Context, answer: ModelMessage | None = None
) -> None:
    """
    Save *messages*, and count what the *answer* that ends them has used.
    """
    written = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
    usage = answer.usage if isinstance(answer, ModelResponse) else RequestUsage()
    cost = float(usage.cost or 0)
    await ctx.save(
        SavedConversation(messages=written), tokens=usage.total_tokens, cost=cost
    )


def _agent(thought: Prompt[T], name: str, repaired: int) -> Agent[None, T]:
    agent: Agent[None, T] = Agent(
        connect_model(name),
        output_type=OUTPUT_MODES[output()](thought.output_type),
        instructions=thought.instructions,
        tools=thought.tools,
        retries=max(0, MAX_REPAIRS - repaired),
        # One layer retries, and it is not the client library.
        model_settings=ModelSettings(max_retries=0),
    )

    @agent.output_validator
    def check(answer: T) -> T:
        if wrong := thought.check(answer):
            raise ModelRetry(wrong)
        return answer

    return agent


def _repaired(history: Sequence[ModelMessage]) -> int:
    """
    How often the model was asked to mend an answer, by earlier attempts too.
    """
    said = [each.parts for each in history if isinstance(each, ModelRequest)]
    return sum(_sent_back(part) for parts in said for part in parts)


def _sent_back(part: Any) -> bool:
    if isinstance(part, ToolReturnPart):
        return part.outcome == "retried"
    return isinstance(part, RetryFeedbackPart)
