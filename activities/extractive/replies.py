"""
From a ticket to a reply. Pure.
"""

import re

from outlast.crew.crew_models import Paragraph, Research, SubQuestion, compose
from outlast.crew.extractive.question_splitting import split_question

_SENTENCE_BREAK = re.compile(r"(?<=[?!.])\s+")
_GREETING = re.compile(
    r"^(?:hi|hello|dear [\w ]+|good (?:morning|day|evening))[,!:]?\s+", re.IGNORECASE
)
_HEAD = re.compile(r"^(?P<name>[A-Z][a-z]+): *(?P<value>.*)$")

REPLY_GREETING = "Hello {name},"
REPLY_CLOSING = (
    "If this does not settle it, answer this mail and a person will read it."
)


def questions(text: str) -> list[SubQuestion]:
    """
    What a ticket asks: its questions, or its subject when it only tells.
    """
    heads, body = read(text)
    # The sentences around a question are about its writer: the handbook lacks them.
    asked = [
        each for each in _SENTENCE_BREAK.split(" ".join(body.split())) if "?" in each
    ]
    wanted = " ".join(_GREETING.sub("", each) for each in asked)
    return split_question(wanted or heads.get("Subject", body))


def read(text: str) -> tuple[dict[str, str], str]:
    """
    Split a ticket into its heads and its body.
    """
    heads: dict[str, str] = {}
    lines = text.strip().splitlines()
    while lines and (found := _HEAD.match(lines[0])):
        heads[found["name"]] = found["value"]
        lines.pop(0)
    return heads, "\n".join(lines).strip()


def reply(text: str, found: list[Research]) -> str:
    """
    Write the reply: each answer in the handbook's own words, and where it says so.
    """
    heads, _ = read(text)
    name = heads.get("From", "").split("<")[0].split(",")[0].strip() or "there"
    paragraphs = [
        Paragraph(question=each.question, quotations=each.findings) for each in found
    ]
    answer, citations = compose(paragraphs)
    places = [f"[{at}] {each.place}" for at, each in enumerate(citations, 1)]
    parts = [REPLY_GREETING.format(name=name), answer, "\n".join(places), REPLY_CLOSING]
    return "\n\n".join(parts) + "\n"
