"""Half a surrogate pair, as in file names, scraped pages and models' escapes; and NUL."""

from outlast import Policy, Context, agent

BAD = "caf\udce9 \ud83d"
NUL = "a\x00b"
FEW = Policy(failures=2)


@agent("c20-result", policy=FEW)
async def result(given: dict, ctx: Context) -> dict:
    return {"summary": BAD, "text": BAD}


@agent("c20-save", policy=FEW)
async def save(given: dict, ctx: Context) -> dict:
    await ctx.save({"page": BAD})
    return {"summary": "saved"}


@agent("c20-emit", policy=FEW)
async def emit(given: dict, ctx: Context) -> dict:
    ctx.emit(BAD)
    import asyncio

    await asyncio.sleep(1.2)
    return {"summary": "said"}


@agent("c20-raise", policy=FEW)
async def raises(given: dict, ctx: Context) -> dict:
    raise ValueError(BAD)


@agent("c20-content", policy=FEW)
async def content(given: dict, ctx: Context) -> dict:
    sent = await ctx.once("c20:" + BAD, lambda key, c: "sent", content={"text": BAD})
    return {"summary": str(sent)[:50]}


@agent("c20-once-result", policy=FEW)
async def once_result(given: dict, ctx: Context) -> dict:
    got = await ctx.once("c20:once-result", lambda key: {"page": BAD}, content=None)
    return {"summary": "got it", "got": repr(got)}


@agent("c20-nul-result", policy=FEW)
async def nul_result(given: dict, ctx: Context) -> dict:
    await ctx.save({"page": NUL})
    return {"summary": NUL, "text": NUL}


@agent("c20-nul-raise", policy=FEW)
async def nul_raise(given: dict, ctx: Context) -> dict:
    raise ValueError(NUL)


@agent("c20-nul-content", policy=FEW)
async def nul_content(given: dict, ctx: Context) -> dict:
    sent = await ctx.once("c20:nul", lambda key, c: NUL, content={"text": NUL})
    return {"summary": str(sent)}


@agent("c20-nul-key", policy=FEW)
async def nul_key(given: dict, ctx: Context) -> dict:
    sent = await ctx.once("c20:" + NUL, lambda key: "sent", content=None)
    return {"summary": str(sent)}


@agent("c20-bytes", policy=FEW)
async def raw(given: dict, ctx: Context) -> dict:
    return {"summary": "png", "png": b"\x89PNG\xff"}


@agent("c20-escape", policy=FEW)
async def escape(given: dict, ctx: Context) -> dict:
    return {"summary": "\x1b[2J\x1b[31mred\x1b[0m \u202egnp.exe"}
