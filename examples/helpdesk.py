"""
A pydantic-ai agent of your own, whose tool has an effect, made to outlast its process.

    OUTLAST_AGENTS=examples/helpdesk.py outlast run \\
        examples/missions/helpdesk.yaml --embedded

The conversation is saved after each step, the model's decision before its tools act:
kill it at any moment, and no answer is asked for twice and no refund paid twice. The
model here is a stand-in that needs no key; put the name of yours.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue
from pydantic_ai import Agent, AgentRun, ModelRequestNode, RunContext
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_graph import End

from outlast import Context, agent


class Ticket(BaseModel):
    """
    What the task's input must look like.
    """

    order: str
    text: str
    payments: Path  # where payments are written, in place of a payment service


class Reply(BaseModel):
    """
    The task's result, and the shape of the model's last answer.
    """

    text: str


class Talk(BaseModel):
    """
    What is saved after each step: the messages so far.
    """

    messages: JsonValue = []


def stand_in(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """
    Decide as a model would: first a refund, then an answer that tells of it.
    """
    told = [p for m in messages for p in m.parts if isinstance(p, ToolReturnPart)]
    if not told:
        return ModelResponse([ToolCallPart("refund", {"cents": 1250})])
    reply = {"text": f"We are sorry, and have refunded you: {told[-1].content}."}
    return ModelResponse([ToolCallPart(info.output_tools[0].name, reply)])


clerk = Agent(
    FunctionModel(stand_in),  # "openai:gpt-5", say
    deps_type=tuple[Ticket, Context],
    output_type=Reply,
    instructions="Answer the customer. Refund what arrived broken.",
)


@clerk.tool
async def refund(context: RunContext[tuple[Ticket, Context]], cents: int) -> str:
    """
    Pay cents back for the order.
    """
    ticket, ctx = context.deps
    receipt: str = await ctx.once(
        f"refund:{ticket.order}",  # what it is: no model can pay an order twice
        lambda key, content: pay(ticket.payments, key, content),
        content={"order": ticket.order, "cents": cents},
        if_unsure="repeat",  # pay() honours the key
    )
    return receipt


@agent("helpdesk", version=1)
async def helpdesk(ticket: Ticket, ctx: Context) -> Reply:
    """
    Converse to the end, going on with what was saved.
    """
    talk = await ctx.resume(Talk, Talk())
    history = ModelMessagesTypeAdapter.validate_python(talk.messages)
    prompt = None if history else ticket.text
    async with clerk.iter(
        prompt, message_history=history, deps=(ticket, ctx)
    ) as thread:
        async for node in thread:
            # Not at the end: a history that is whole reads like one more question.
            if thread.all_messages() and not isinstance(node, End):
                await ctx.save(so_far(thread, node))
    assert thread.result is not None
    return thread.result.output


def so_far(thread: AgentRun[Any, Reply], node: Any) -> Talk:
    """
    All messages, with the request that *node* is about to send.
    """
    next_one = [node.request] if isinstance(node, ModelRequestNode) else []
    messages = [*thread.all_messages(), *next_one]
    written = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    return Talk(messages=written)


def pay(payments: Path, key: str, content: dict[str, Any]) -> str:
    """
    Stand for a payment service that honours idempotency keys.
    """
    made = payments.read_text().splitlines() if payments.exists() else []
    if not any(json.loads(each)["key"] == key for each in made):
        payments.parent.mkdir(parents=True, exist_ok=True)
        with payments.open("a") as file:
            file.write(json.dumps({"key": key, **content}) + "\n")
    return f"receipt for {content['cents']} cents"
