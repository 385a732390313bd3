"""
A planner that thinks: the question, split into questions that stand alone.
"""

from typing import Annotated

from pydantic import BaseModel, Field

from outlast import Context, FollowUps
from outlast.crew.crew_models import Part
from outlast.crew.extractive.question_splitting import MOST_PARTS
from outlast.crew.extractive.questions import ask
from outlast.crew.llm.prompt import Thought, before, think
from outlast.crew.planner import Order, planned

INSTRUCTIONS = f"""
Split the user's question into at most {MOST_PARTS} questions that can be looked up in
documents one by one. Each must be understood without the others. A question that asks
for one thing stays as it is. Do not answer, and ask for nothing that was not asked.
"""

Asked = Annotated[str, Field(min_length=1, max_length=500)]


class Questions(BaseModel):
    """
    The questions to look up, in order.
    """

    questions: list[Asked] = Field(min_length=1, max_length=MOST_PARTS)


async def plan(order: Order, ctx: Context) -> FollowUps:
    """
    Plan one research task for each question that the model makes of the whole.
    """
    thought = Thought(
        INSTRUCTIONS,
        order.question,
        Questions,
        check=lambda made: _strays(order.question, made),
    )
    found = await think(thought, ctx)
    asked = dict.fromkeys(" ".join(each.split()) for each in found.questions)
    return planned(order, [Part(question=each) for each in asked if each])


def _strays(question: str, made: Questions) -> str | None:
    """
    Say which of the questions has no word of *question*, if one has none: to that the
    user wants no answer.
    """
    asked = _words(question)
    for each in made.questions:
        if asked and not asked & _words(each):
            return f"the user has not asked: {each}"
    return None


def _words(question: str) -> set[str]:
    stems = [term.stems for term in ask(question).terms]
    return {word for phrases in stems for phrase in phrases for word in phrase}


before("planner", plan)
