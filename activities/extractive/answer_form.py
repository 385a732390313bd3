"""
Whether a quotation looks like an answer, whatever it is about. Pure.
"""

import re
from collections.abc import Sequence

from outlast.crew.extractive.answer_types import AnswerType
from outlast.crew.extractive.match_context import (
    PassageContext,
    SentenceRange,
    positions,
)
from outlast.crew.extractive.questions import ParsedQuestion, QueryTerm
from outlast.crew.library.terms import stem

# What a quotation gains that holds the kind of fact asked for, or loses without it.
FORM_GAIN = 0.12
# What one loses that only introduces or asks, or is not as long as a quotation should.
NO_STATEMENT = 0.3
SHORTEST, LONGEST = 20, 400  # characters
# What one loses that is code rather than words.
CODE_PENALTY = 0.15
CODE_SHARE = 0.05  # of its characters are symbols

# How far into a sentence its subject and its verb stand, in words.
OPENING_WORDS = 6
# How far before what is counted its number may be, in words.
WORDS_BEFORE = 3

_SYMBOLS = re.compile(r"[(){}\[\]=;<>\"\\|/+*_$#@]|::|--")
_VERBS = (
    "is are was means provides allows specifies controls sets determines enables causes"
    " defines describes stands contains holds makes gives lets"
)
_DEFINING = frozenset(map(stem, _VERBS.split()))


def answer_form_score(
    question: ParsedQuestion, context: PassageContext, run: SentenceRange, text: str
) -> float:
    """
    What *text*, which is *run* of *context*, gains or loses by its form.
    """
    start, end = context.spans[run.core]
    offset = context.spans[run.first].start
    core = text[start - offset : end - offset]
    gain = sum(_gain(kind, text, core) for kind in question.kinds) - _flaw(text)
    if question.defines and _defines(question, context, run):
        gain += FORM_GAIN
    if question.counted and _counts(context.stems[run.core], question.counted):
        gain += FORM_GAIN
    return gain


def _gain(kind: AnswerType, text: str, core: str) -> float:
    """
    The gain for a sign of *kind*: in full where most of the question is answered.
    """
    if kind.sign.search(core):
        return FORM_GAIN
    if kind.sign.search(text):
        return FORM_GAIN / 2
    return 0.0 if kind.hint and kind.hint.search(text) else -FORM_GAIN


def _defines(
    question: ParsedQuestion, context: PassageContext, run: SentenceRange
) -> bool:
    """
    Whether the run says what its subject is or does: "Slots provide a way to ...".
    """
    opening = context.stems[run.first][:OPENING_WORDS]
    verb = next((at for at, each in enumerate(opening) if each in _DEFINING), None)
    if verb is None:
        return False
    subject = [term for term in question.terms if not term.light]
    named = (at for term in subject for at in positions(opening[:verb], term))
    if min(named, default=OPENING_WORDS) < 2:
        return True
    return verb == 0 and all(map(context.is_about, subject))


def _counts(stems: Sequence[str], counted: QueryTerm) -> bool:
    """
    Whether a number comes before what is counted: "38 customers".
    """
    before = (stems[max(0, at - WORDS_BEFORE) : at] for at in positions(stems, counted))
    return any(each.isdigit() for part in before for each in part)


def _flaw(text: str) -> float:
    if text.endswith((":", "?")) or not SHORTEST <= len(text) <= LONGEST:
        return NO_STATEMENT
    code = len(_SYMBOLS.findall(text)) > CODE_SHARE * len(text)
    return CODE_PENALTY if code else 0.0
