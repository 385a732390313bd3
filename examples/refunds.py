"""
An agent of your own: refund an order, line by line, and pay exactly once.

    OUTLAST_AGENTS=examples/refunds.py outlast run \\
        examples/missions/refund.yaml --embedded

Kill its process at any moment: what it judged is not judged again, and the payment,
written to a file here in place of a payment service, is made once.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from outlast import Context, agent


class Line(BaseModel):
    """
    One line of an order.
    """

    article: str
    cents: int
    complaint: str


class Order(BaseModel):
    """
    What the task's input must look like.
    """

    id: str
    lines: list[Line]
    payments: Path  # where payments are written
    judging_s: float = 0.0


class Progress(BaseModel):
    """
    What is saved after each line: the cents that each one is worth.
    """

    refunds: list[int] = []


class Refunded(BaseModel):
    """
    The task's result.
    """

    order: str
    cents: int
    receipt: str


@agent("refunds", version=1)
async def refund(order: Order, ctx: Context) -> Refunded:
    """
    Judge each line, then pay.
    """
    done = await ctx.resume(Progress, Progress())
    for line in order.lines[len(done.refunds) :]:
        ctx.emit(f"judging {line.article}")
        done.refunds.append(await judge(line, order.judging_s))
        await ctx.save(done)
    cents = sum(done.refunds)
    paid = await ctx.once(
        f"refund:{order.id}",  # what it is, not where we are
        lambda key, content: pay(order.payments, key, content),
        content={"order": order.id, "cents": cents},
        if_unsure="repeat",  # pay() honours the key, so asking twice is safe
    )
    return Refunded(order=order.id, **paid)


async def judge(line: Line, seconds: float) -> int:
    """
    Say how many cents a complaint is worth; a model's place, paid for once.
    """
    await asyncio.sleep(seconds)
    return line.cents if "broken" in line.complaint else line.cents // 2


def pay(payments: Path, key: str, content: dict[str, Any]) -> dict[str, Any]:
    """
    Stand for a payment service that honours idempotency keys.
    """
    made = payments.read_text().splitlines() if payments.exists() else []
    if not any(json.loads(each)["key"] == key for each in made):
        payments.parent.mkdir(parents=True, exist_ok=True)
        with payments.open("a") as file:
            file.write(json.dumps({"key": key, **content}) + "\n")
    return {"cents": content["cents"], "receipt": f"receipt for {key}"}
