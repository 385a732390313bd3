"""
What a question asks for: its terms, how much each of them matters, and what an answer
must hold. Pure: words in, words out.
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from math import log

from outlast.store.terms import stem, words

_STOP = """
a about after again all also am among an and another any anybody anyone are as at be because been
before being between both but by can cannot could did do does doing done down during each either
else every for from further get gets getting give given gives got had has have having he
her here hers him his how however i if in instead into is it its itself just let ll may
me might more most much must my need needs no nor not now of off often on once one only
onto or other our ours out over own per please re same shall she should so some somebody
someone something still such tell than that the their theirs them then there these they
thing this those through to too toward under until up upon us use used uses using ve
very via was way we were what whatever when where whether which while who whom whose why
will with within without would yes yet you your yours
many long explain describe show find know mean means meant happen happens happened
"""
STOP_WORDS = frozenset(_STOP.split())

# Words that questions are made of. Documents say the same in other words, so that one
# of them missing says little.
_LIGHT = """
able accept act actually add affect allow allowed amount apply area ask available avoid
aware back become begin behave belong best better big bring build call called carry case
cause change check choose come common consider consist contain correct cover current
currently day deal decide default define depend detail difference different do effect
enable end ensure enter example exist expect explain far fast follow full general go
good great handle help high hold hour idea important include information involve issue
item keep kind know large last late leave level like limit list look low maintain make
manage matter maximum method minimum minute mode month name necessary new next normal
number obtain occur old open part people perform permit person place point possible
prevent problem process produce proper provide purpose put rather reach read ready
reason receive recommend refer relate remain require required responsible result return
right rule run say second see send set shall short show single size small soon specific
specify stand start state status stay stop store support supposed system take tell term
time total true try turn type typical unit usual value version wait want warm way week
well whole wish work write wrong year
"""
LIGHT_WORDS = frozenset(stem(word) for word in _LIGHT.split())
LIGHT = 0.4  # what a light word weighs of its rarity

# What an identifier or a name weighs: without it, a passage is about something else.
HEAVY = 1.6

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
_IRREGULAR = """
begin began begun,bring brought,build built,buy bought,child children,choose chose
chosen,drive drove driven,fall fell fallen,fly flew flown,go went gone,grow grew grown
,hold held,keep kept,lead led,leave left,lose lost,make made,meet met,pay paid,person
people,rise rose risen,run ran,sell sold,send sent,spend spent,stand stood,steal stole
stolen,take took taken,teach taught,tell told,wear wore worn,win won,write wrote written
"""
_FAMILIES = [family.split() for family in _IRREGULAR.split(",")]
_FAMILIES += [[word, str(number)] for number, word in enumerate(_NUMBERS.split())]
_FAMILY = {word: family for family in _FAMILIES for word in family}
_BASE = {word: stem(family[0]) for word, family in _FAMILY.items()}
_PARTICLES = ("back", "down", "in", "off", "out", "over", "up")

_TOKEN = re.compile(r"[^\s\"“”«»(){}\[\],;:!?]+")
_POSSESSIVE = re.compile(r"['’]s?$")
_QUANTITY = (
    "age amount capacity charge cost date day duration fee height interval length limit"
    " maximum minimum month number percentage period port price rate size speed"
    " temperature time timeout weight width year"
)
_KINDS = {
    "quantity": re.compile(
        r"\bhow (?:big|cold|deep|far|fast|fresh|heavy|high|hot|large|late|long|low|many|"
        r"much|often|old|quickly|small|soon|tall|warm|wide)\b|\b(?:what|which) (?:\w+ )"
        rf"{{0,2}}(?:{_QUANTITY.replace(' ', '|')})\b"
    ),
    "date": re.compile(r"\bwhen\b|\b(?:what|which) (?:time|date|day|month|year)\b"),
    "person": re.compile(r"\bwho(?:m|se)?\b"),
    "reason": re.compile(r"\bwhy\b|\bwhat caused?s?\b|\breason\b"),
}


@dataclass(frozen=True)
class Term:
    """
    A word or compound of a question, and every phrase that says the same.

    A *strict* one is an identifier or a name: nothing else answers for it.
    """

    text: str
    phrases: tuple[str, ...]
    strict: bool = False

    @property
    def stems(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(roots(phrase)) for phrase in self.phrases)

    def weight(self, passages: int, total: int) -> float:
        """
        What the term matters, from its *passages* of *total*: 1 for an unknown word.
        """
        rarest = log(1 + (total + 0.5) / 0.5)
        rarity = log(1 + (total - passages + 0.5) / (passages + 0.5)) / rarest
        if self.strict:
            return HEAVY * rarity
        light = all(part in LIGHT_WORDS for part in self.stems[0])
        return LIGHT * rarity if light else rarity


@dataclass(frozen=True)
class Question:
    """
    A question, its terms, and the kinds of facts that it asks for.
    """

    text: str
    terms: tuple[Term, ...]
    kinds: frozenset[str]


def ask(text: str) -> Question:
    """
    Take a question apart.
    """
    asked = " ".join(text.lower().split())
    kinds = {kind for kind, pattern in _KINDS.items() if pattern.search(asked)}
    return Question(text, tuple(_terms(text)), frozenset(kinds))


def roots(text: str) -> list[str]:
    """
    The words of *text* by what they have in common: "kept" and "keeps", "2" and "two".
    """
    return [_BASE.get(word) or stem(word) for word in words(text)]


def _terms(text: str) -> Iterator[Term]:
    tokens = [_POSSESSIVE.sub("", found) for found in _TOKEN.findall(text)]
    tokens = [token.strip("'’.-_/") for token in tokens]
    capitals = sum(token[:1].isupper() for token in tokens)
    names = set(tokens[1:]) if 2 * capitals <= len(tokens) else set()
    seen: set[tuple[str, ...]] = set()
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""]):
        for term in _term(token, before, after, names):
            if (key := term.stems[0]) not in seen:
                seen.add(key)
                yield term


def _term(token: str, before: str, after: str, names: Container[str]) -> Iterator[Term]:
    parts = words(token)
    if len(parts) > 1 and "/" in token:
        for part in parts:
            yield from _term(part, "", "", ())
    elif len(parts) > 1:
        phrases = (" ".join(parts), "".join(parts))
        yield Term(token, phrases, strict=bool(re.search(r"[_.\d]", token)))
    elif parts and parts[0] not in STOP_WORDS:
        joined = (first + second for first, second in _joints(before, parts[0], after))
        phrases = (parts[0], *_FAMILY.get(parts[0], ()), *_split(parts[0]), *joined)
        strict = _is_code(token) or (token in names and token[:1].isupper())
        yield Term(token, tuple(dict.fromkeys(phrases)), strict)


def _joints(before: str, word: str, after: str) -> Iterator[tuple[str, str]]:
    """
    The words beside *word* with which it may be written as one: "time out".
    """
    for first, second in ((before.lower(), word), (word, after.lower())):
        if first.isalpha() and second.isalpha() and len(first + second) >= 5:
            if not {first, second} & STOP_WORDS or second in _PARTICLES:
                yield first, second


def _split(word: str) -> list[str]:
    """
    *word* as two, where it ends as verbs and their particles do: "log in".
    """
    ends = [part for part in _PARTICLES if word.endswith(part)]
    return [f"{word[: -len(end)]} {end}" for end in ends if len(word) - len(end) > 2]


def _is_code(token: str) -> bool:
    """
    Tell "40P01" and "pgAdmin" from a word and from a plain number.
    """
    if token.isalpha():
        return not token[1:].islower() and not token.isupper() and len(token) > 1
    return any(part.isdigit() for part in token) and not token.isdigit()
