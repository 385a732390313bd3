"""
Who plays which role.
"""

from outlast import Context, agent
from pydantic import BaseModel

from .counting import count_words


class Texts(BaseModel):
    texts: list[str]


class Counts(BaseModel):
    counts: list[int] = []


@agent("count")
async def count(given: Texts, ctx: Context) -> Counts:
    """
    Count the words of each text.
    """
    done = await ctx.resume(Counts, Counts())
    for text in given.texts[len(done.counts) :]:
        done.counts.append(count_words(text))
        await ctx.save(done)  # survives the SIGKILL of this process
    return done
