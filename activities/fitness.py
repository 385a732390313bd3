"""
Whether a text looks like an answer, whatever it is about. Pure.
"""

import re
from collections.abc import Sequence

from activities.context import Context, Run, positions
from activities.questions import Question, Term
from outlast.store.terms import stem

# A quotation, in characters: shorter says nothing by itself, longer is half a page.
SHORTEST, LONGEST = 20, 400

# What a quotation gains that holds the kind of fact asked for, or loses without it.
GAIN = 0.12
# What one loses that only introduces, asks, or is too short or too long.
NO_STATEMENT = 0.3
# What one loses that is code rather than words.
CODE = 0.15
CODE_SHARE = 0.05  # of its characters

_NUMERAL = (
    r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|"
    r"hundred|thousand|million|half|once|twice|daily|weekly|monthly|yearly|hourly|nightly|"
    r"annually|quarterly|unlimited|immediately|forever|infinite)\b"
)
_FREQUENCY = (
    r"\b(?:every|each|per|once|twice|times|daily|weekly|monthly|yearly|hourly|nightly|"
    r"annually|quarterly|continuously|interval)\b"
)
_NAME = r"(?<=[a-z,:] )[A-Z][a-z]+ [A-Z][a-z]+"
_ROLE = r"\b(?:users?|superusers?|owners?|managers?|teams?|officers?)\b"
_DATE = (
    r"\d{4}|\d{1,2}:\d\d|\b(?:after|before|during|until|when|whenever|once|"
    r"mondays?|tuesdays?|wednesdays?|thursdays?|fridays?|saturdays?|sundays?|january|"
    r"february|march|april|june|july|august|september|october|november|december)\b"
)
_REASON = r"(?i)\b(?:because|since|due to|caused?|reasons?|so that|therefore)\b"
_PLACE = (
    r"\b(?:stands?|located|lies?|stored|kept|found|sits?|placed) (?:\w+ )?(?:at|in|on|"
    r"under|below|next|by)\b|\b(?:at|in|to) [A-Z]"
)
# The sign of a kind of fact, and a weaker one that neither gains nor loses.
_SIGNS = {
    "quantity": (re.compile(_NUMERAL, re.IGNORECASE), None),
    "frequency": (re.compile(_FREQUENCY, re.IGNORECASE), None),
    "date": (re.compile(_DATE, re.IGNORECASE), re.compile("")),
    "person": (re.compile(_NAME), re.compile(_ROLE)),
    "place": (re.compile(_PLACE), re.compile("")),
    "reason": (re.compile(_REASON), None),
}
_VERBS = (
    "is are was means provides allows specifies controls sets determines enables"
    " causes defines describes stands contains holds makes gives lets"
)
_DEFINING = frozenset(map(stem, _VERBS.split()))
# How far into a sentence its subject and its verb stand, in words.
_SUBJECT = 6
# How far before what is counted its number stands.
_NUMBER = 3

_SYMBOLS = re.compile(r"[(){}\[\]=;<>\"\\|/+*_$#@]|::|--")


def fitness(question: Question, context: Context, run: Run, text: str) -> float:
    """
    What *text*, which is *run* of *context*, gains or loses by its form.
    """
    start, end = context.spans[run.core]
    offset = context.spans[run.first].start
    core = text[start - offset : end - offset]
    gain = -_flaw(text) + sum(_gain(kind, text, core) for kind in question.kinds)
    stems = context.stems[run.core]
    if "definition" in question.kinds and _defines(question, context, run):
        gain += GAIN
    if question.counted and _counts(stems, question.counted):
        gain += GAIN
    return gain


def _gain(kind: str, text: str, core: str) -> float:
    """
    The gain for a sign of *kind*: in full where most of the question is answered.
    """
    if kind not in _SIGNS:
        return 0.0
    strong, weak = _SIGNS[kind]
    if strong.search(text):
        return GAIN if strong.search(core) else GAIN / 2
    return 0.0 if weak and weak.search(text) else -GAIN


def _defines(question: Question, context: Context, run: Run) -> bool:
    """
    Whether the run says what its subject is or does: "Slots provide a way to ...".
    """
    opening = context.stems[run.first][:_SUBJECT]
    subject = [term for term in question.terms if not term.light]
    verb = next((at for at, each in enumerate(opening) if each in _DEFINING), None)
    if verb is None:
        return False
    named = (positions(opening[:verb], term)[:1] for term in subject)
    headed = (positions(context.heading, term) for term in subject)
    first = min((at for found in named for at in found), default=_SUBJECT)
    return first < 2 or (verb == 0 and all(headed))


def _counts(stems: Sequence[str], counted: Term) -> bool:
    """
    Whether a number stands before what is counted: "38 customers".
    """
    before = (stems[max(0, at - _NUMBER) : at] for at in positions(stems, counted))
    return any(each.isdigit() for part in before for each in part)


def _flaw(text: str) -> float:
    if text.endswith((":", "?")) or not SHORTEST <= len(text) <= LONGEST:
        return NO_STATEMENT
    code = len(_SYMBOLS.findall(text)) > CODE_SHARE * len(text)
    return CODE if code else 0.0
