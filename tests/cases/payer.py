"""
An agent that asks an outside service, guarded as one should be.
"""

import os
from typing import Any

import httpx

from outlast import Context, Policy, agent

URL = os.environ.get("PAYMENTS_URL", "")
TIMEOUT_S = float(os.environ.get("PAYMENTS_TIMEOUT_S", "10"))


async def pay(given: dict[str, Any], ctx: Context) -> Any:
    async with (
        ctx.service("payments"),
        httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client,
    ):
        answer = await client.post(URL, json={"n": given["n"]})
        answer.raise_for_status()
    return {"paid": given["n"]}


@agent("payer")
async def payer(given: dict[str, Any], ctx: Context) -> Any:
    return await pay(given, ctx)


@agent("invoicer")
async def invoicer(given: dict[str, Any], ctx: Context) -> Any:
    return {"invoiced": given["n"]}


@agent("payer_with_route", fallbacks=["invoicer"])
async def payer_with_route(given: dict[str, Any], ctx: Context) -> Any:
    return await pay(given, ctx)


@agent("impatient_payer", policy=Policy(patience_s=1.0))
async def impatient_payer(given: dict[str, Any], ctx: Context) -> Any:
    return await pay(given, ctx)
