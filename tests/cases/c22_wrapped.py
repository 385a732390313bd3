"""Async agents that do not look async: wrapped, partial, an object."""

import functools

from outlast import Policy, Context, agent

FEW = Policy(failures=2)


def traced(function):
    """A decorator as tracing and retry libraries have them."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@agent("c22-wrapped", policy=FEW)
@traced
async def wrapped(given: dict, ctx: Context) -> dict:
    await ctx.save(1)
    return {"summary": "wrapped"}


class Crew:
    async def __call__(self, given: dict, ctx: Context) -> dict:
        return {"summary": "object"}


agent("c22-object", policy=FEW)(Crew())


async def with_model(model: str, given: dict, ctx: Context) -> dict:
    return {"summary": model}


agent("c22-partial", policy=FEW)(functools.partial(with_model, "small"))
