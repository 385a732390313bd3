"""
Split a question of several parts into questions that stand alone. Pure.

When in doubt a question stays whole: a part without its other half finds nothing.
"""

import re

from outlast.crew.crew_models import SubQuestion
from outlast.crew.extractive.questions import QueryTerm, parse_question

MAX_SUB_QUESTIONS = 4

_CLAUSE_BREAK = re.compile(r"(?<=[?!.;])\s+(?=\S)")
_QUESTION_WORD = r"(?:what|which|who|whom|whose|when|where|why|how)\b"
_SUBJECT = r"(?:i|we|you|he|she|it|they|the|a|an|there|this|that|these|those|my|our)\b"
_AUXILIARY = rf"(?:is|are|was|were|do|does|did|can|may|must|should|will) {_SUBJECT}"
_PREPOSITION = r"(?:(?:at|by|for|from|in|of|on|to|with|within|until|since) )?"
_JOINT = re.compile(
    rf",?\s+(?:and|or|but)(?: also)?\s+(?={_PREPOSITION}{_QUESTION_WORD}|{_AUXILIARY})"
    rf"|;\s*(?={_QUESTION_WORD})",
    re.IGNORECASE,
)
_QUESTION = re.compile(rf"{_PREPOSITION}{_QUESTION_WORD}|{_AUXILIARY}", re.IGNORECASE)
_POINTING = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|this|these|those)\b",
    re.IGNORECASE,
)


def split_question(question: str) -> list[SubQuestion]:
    """
    The parts of *question*, in order: at least one, at most MAX_SUB_QUESTIONS.
    """
    whole = " ".join(question.split())
    texts = [text for sentence in _sentences(whole) for text in _clauses(sentence)]
    texts = list(dict.fromkeys(texts))
    if not 1 < len(texts) <= MAX_SUB_QUESTIONS:
        return [SubQuestion(question=whole)]
    return [_sub_question(text, texts[:at]) for at, text in enumerate(texts)]


def _sentences(whole: str) -> list[str]:
    """
    The sentences that ask; what only tells goes with the one after it.
    """
    found: list[str] = []
    told = ""
    for sentence in _CLAUSE_BREAK.split(whole):
        told = f"{told} {sentence}".strip()
        if sentence.endswith("?"):
            found.append(told)
            told = ""
    return [*found, told] if told else found


def _clauses(sentence: str) -> list[str]:
    """
    Split *sentence* at its joints, where both sides ask for something of their own.
    """
    clauses: list[str] = []
    for clause in _JOINT.split(sentence):
        if clauses and not (_asks(clauses[-1]) and _asks(clause)):
            return [sentence]
        clauses.append(clause.strip())
    return [_question(clause) for clause in clauses] if len(clauses) > 1 else clauses


def _question(clause: str) -> str:
    return clause[:1].upper() + clause[1:].rstrip("?.") + "?"


def _asks(clause: str) -> bool:
    return bool(parse_question(clause).terms) and bool(_QUESTION.search(clause))


def _sub_question(text: str, before: list[str]) -> SubQuestion:
    """
    *text*, with the subjects of the parts *before* it if it goes without its own.
    """
    own = parse_question(text).terms
    if not before or not (_POINTING.search(text) or len(own) < 2):
        return SubQuestion(question=text)
    subjects = [term for each in before for term in parse_question(each).terms]
    context = " ".join(term.text for term in subjects if _is_subject(term, own))
    return SubQuestion(question=text, context=context)


def _is_subject(term: QueryTerm, own: tuple[QueryTerm, ...]) -> bool:
    return not term.light and term not in own
