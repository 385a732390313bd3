"""A module that starts a thread when it is imported: forking is not safe."""

import os
import threading

from outlast import Context, agent

threading.Thread(target=threading.Event().wait, daemon=True).start()


@agent("c32-thread")
async def dies(given: dict, ctx: Context) -> dict:
    n = await ctx.resume(int, 0)
    if ctx.attempt < 3:
        await ctx.save(n + 1)
        os.kill(os.getpid(), 9)
    return {"summary": f"attempt {ctx.attempt} resumed {n}"}
