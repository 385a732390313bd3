"""
A planner with a model: it splits the question into questions that stand alone.
"""

from typing import Annotated

from pydantic import BaseModel, Field

from outlast import Context, FollowUps
from outlast.crew.crew_models import SubQuestion
from outlast.crew.extractive.question_splitting import MAX_SUB_QUESTIONS
from outlast.crew.extractive.questions import parse_question
from outlast.crew.llm.prompt import Prompt, ask_model, register_for_models
from outlast.crew.planner import PlannerInput, planned

PLANNER_INSTRUCTIONS = f"""
Split the user's question into at most {MAX_SUB_QUESTIONS} questions that can be
looked up in documents one by one. Each must be understood without the others. A
question that asks for one thing stays as it is. Do not answer, and ask for nothing that
was not asked.
"""

QuestionText = Annotated[str, Field(min_length=1, max_length=500)]


class PlannedQuestions(BaseModel):
    """
    The questions to look up, in order.
    """

    questions: list[QuestionText] = Field(min_length=1, max_length=MAX_SUB_QUESTIONS)


async def plan_question(order: PlannerInput, ctx: Context) -> FollowUps:
    """
    Plan one research task for each question that the model makes of the whole.
    """
    thought = Prompt(
        PLANNER_INSTRUCTIONS,
        order.question,
        PlannedQuestions,
        check=lambda made: _off_topic(order.question, made),
    )
    found = await ask_model(thought, ctx)
    asked = dict.fromkeys(" ".join(each.split()) for each in found.questions)
    return planned(order, [SubQuestion(question=each) for each in asked if each])


def _off_topic(question: str, made: PlannedQuestions) -> str | None:
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
    stems = [term.stems for term in parse_question(question).terms]
    return {word for phrases in stems for phrase in phrases for word in phrase}


register_for_models("planner", plan_question)
