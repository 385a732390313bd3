"""
The kinds of facts that questions ask for, and how a text shows that it holds one. Pure.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class AnswerType:
    """
    A kind of fact: *asked* finds it in a question in lower case, *sign* in an answer.

    Where the sign is missing, a text that shows the *hint* loses nothing.
    """

    name: str
    asked: re.Pattern[str]
    sign: re.Pattern[str]
    hint: re.Pattern[str] | None = None


def _any(words: str) -> str:
    return "|".join(words.split())


_MEASURE = _any(
    "big cold deep far fast fresh heavy high hot large late long low many much old"
    " quickly small soon tall warm wide"
)
_MEASURED = _any(
    "age amount capacity charge cost date day duration fee height interval length limit"
    " maximum minimum month number percentage period port price rate size speed"
    " temperature time timeout weight width year"
)
_REPEATED = _any(
    "annually daily hourly monthly nightly once quarterly twice weekly yearly"
)
_NUMBER = _any(
    "zero one two three four five six seven eight nine ten eleven twelve dozen half"
    " hundred thousand million unlimited immediately forever infinite"
)
_CALENDAR = _any(
    "mondays? tuesdays? wednesdays? thursdays? fridays? saturdays? sundays? january"
    " february march april june july august september october november december"
)
_TIED = _any("after before during once until when whenever")
_LOCATED = _any("found kept lies? located placed sits? stands? stored")
_ANYTHING = re.compile("")

QUANTITY = AnswerType(
    "quantity",
    re.compile(
        rf"\bhow (?:{_MEASURE})\b|\b(?:what|which) (?:\w+ ){{0,2}}(?:{_MEASURED})\b"
    ),
    re.compile(rf"\d|\b(?:{_NUMBER}|{_REPEATED})\b", re.IGNORECASE),
)
FREQUENCY = AnswerType(
    "frequency",
    re.compile(r"\bhow (?:often|frequently)\b"),
    re.compile(rf"\b(?:every|each|per|times|interval|{_REPEATED})\b", re.IGNORECASE),
)
# "When" is as often answered by a condition as by a date.
DATE = AnswerType(
    "date",
    re.compile(r"\bwhen\b|\b(?:what|which) (?:time|date|day|month|year)\b"),
    re.compile(rf"\d{{4}}|\d:\d\d|\b(?:{_TIED}|{_CALENDAR})\b", re.IGNORECASE),
    _ANYTHING,
)
PERSON = AnswerType(
    "person",
    re.compile(r"\bwho(?:m|se)?\b"),
    re.compile(r"(?<=[a-z,:] )[A-Z][a-z]+ [A-Z][a-z]+"),
    re.compile(r"\b(?:super)?users?\b|\b(?:owner|manager|team|officer)s?\b"),
)
LOCATION = AnswerType(
    "place",
    re.compile(r"\bwhere\b"),
    re.compile(
        rf"\b(?:{_LOCATED}) (?:\w+ )?(?:at|below|by|in|next|on|under)\b"
        r"|\b(?:at|in|to) [A-Z]"
    ),
    _ANYTHING,
)
REASON = AnswerType(
    "reason",
    re.compile(r"\bwhy\b|\bwhat caused?s?\b|\breason\b"),
    re.compile(
        r"\b(?:because|since|due to|caused?|reasons?|so that|therefore)\b",
        re.IGNORECASE,
    ),
)
ANSWER_TYPES = (QUANTITY, FREQUENCY, DATE, PERSON, LOCATION, REASON)

DEFINITION = re.compile(
    r"^what(?:'s| is| are) (?:an? |the )?[\w-]+(?: [\w-]+)?(?: for)?\W*$"
    r"|\bwhat (?:does|do|did) .+ (?:do|mean|stand for)\b|\bpurpose of\b"
    r"|^how (?:does|do) .+ work\b"
)
