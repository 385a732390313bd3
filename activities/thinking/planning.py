"""
A planner that thinks: the question, split into questions that stand alone.
"""

from typing import Annotated

from pydantic import BaseModel, Field

from activities.answering.handover import Part
from activities.answering.splitting import MOST_PARTS
from activities.planner import Order, planned
from activities.thinking.thought import Thought, ahead_of, think
from outlast import FollowUps, Run

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


async def plan(order: Order, run: Run) -> FollowUps:
    """
    Plan one research task for each question that the model makes of the whole.
    """
    found = await think(Thought(INSTRUCTIONS, order.question, Questions), run)
    asked = dict.fromkeys(" ".join(each.split()) for each in found.questions)
    return planned(order, [Part(question=each) for each in asked if each])


ahead_of("planner", plan)
