"""
What a question asks for: its terms, how much each of them matters, and what an answer
must hold. Pure: words in, words out.
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import log

from outlast.store.terms import stem, words

_STOP = """
a about after again all also am among an and another any anybody anyone are as at be
because been before being between both but by can cannot could describe did do does
doing done down during each either else every explain find for from further get gets
getting give given gives got had happen happened happens has have having he her here
hers him his how however i if in instead into is it its itself just know let ll long
many may me mean means meant might more most much must my need needs no nor not now of
off often on once one only onto or other our ours out over own per please re same shall
she should show so some somebody someone something still such tell than that the their
theirs them then there these they thing this those through to too toward under until up
upon us use used uses using ve very via was way we were what whatever when where whether
which while who whom whose why will with within without would yes yet you your yours
"""
STOP_WORDS = frozenset(_STOP.split())

# Words that questions are made of. Documents say the same in other words, so that one
# of them missing says little.
_LIGHT = """
able accept act actually add affect allow allowed alone amount anybody apply area ask
available avoid aware back become begin behave belong best better big bring build call
called carry case cause change check choose come commence common consider consist
contain correct cover create current currently day deal decide define delete depend
describe detail difference different display do drive effect employ enable end ensure
enter exactly example execute exist expect explain far fast finish fix follow full
general generate go good great handle help high hold hour idea important include inform
information involve issue item itself join keep kind know large last late lead learn
leave let level like limit list live look love low maintain make manage matter method
minute mode month move name necessary new next normal notify number obtain occur offer
old open operate own owner part pay people perform permit person pick place play point
possible prefer prepare present prevent print problem process produce promise proper
provide pull purpose push put raise rather reach read ready reason receive recommend
refer relate remain remember remove replace reply represent request require required
responsible result retain return right rule run say second see send serve set shall
short show single size small solve soon speak specific specify spend stand start state
status stay stop store suggest supply support supposed system take teach tell term think
time total travel treat true try turn type typical understand unit usual value version
visit wait walk want warm watch way week well whole wish work worry write wrong year
"""
LIGHT_WORDS = frozenset(stem(word) for word in _LIGHT.split())
LIGHT = 0.4  # what a light word weighs of its rarity
RANKED = 0.4

# What an identifier or a name weighs that a passage lacks: it is about something else.
HEAVY = 1.6

# What a word weighs that only another part of the question uses.
CONTEXT = 0.5

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
# Words whose stems differ though they mean the same; the first stands for them all.
_SAME = """
begin began begun start,bring brought,build built,buy bought purchase,child children
,choose chose chosen,create make made,delete remove erase,drive drove driven,end finish
,fall fell fallen,fly flew flown,go went gone,grow grew grown,hold held,keep kept
retain store,large big,lead led,leave left,lose lost,meet met,own owner,pay paid,person
people,repair fix,rise rose risen,run ran,sell sold,send sent,spend spent,stand stood
,steal stole stolen,take took taken,teach taught,tell told,wear wore worn,win won,write wrote
written,night nightly,day daily,week weekly,month monthly,year yearly annual
"""
_FAMILIES = [family.split() for family in _SAME.split(",")]
_FAMILIES += [[word, str(number)] for number, word in enumerate(_NUMBERS.split())]
_FAMILY = {stem(word): family for family in _FAMILIES for word in family}
_BASE = {stem(word): stem(family[0]) for word, family in _FAMILY.items()}
_PARTICLES = ("back", "down", "in", "off", "out", "over", "up")

_TOKEN = re.compile(r"[^\s\"“”«»(){}\[\],;:!?]+")
_POSSESSIVE = re.compile(r"['’]s?$")
_MEASURES = (
    "big cold deep far fast fresh heavy high hot large late long low many much"
    " old quickly small soon tall warm wide"
)
_QUANTITIES = (
    "age amount capacity charge cost date day duration fee height interval length limit"
    " maximum minimum month number percentage period port price rate size speed"
    " temperature time timeout weight width year"
)
_KINDS = {
    "quantity": re.compile(
        rf"\bhow (?:{_MEASURES.replace(' ', '|')})\b"
        rf"|\b(?:what|which) (?:\w+ ){{0,2}}(?:{_QUANTITIES.replace(' ', '|')})\b"
    ),
    "frequency": re.compile(r"\bhow (?:often|frequently)\b"),
    "date": re.compile(r"\bwhen\b|\b(?:what|which) (?:time|date|day|month|year)\b"),
    "definition": re.compile(
        r"^what(?:'s| is| are) (?:an? |the )?[\w-]+(?: [\w-]+)?(?: for)?\W*$"
        r"|\bwhat (?:does|do|did) .+ (?:do|mean|stand for)\b|\bpurpose of\b"
    ),
    "person": re.compile(r"\bwho(?:m|se)?\b"),
    "place": re.compile(r"\bwhere\b"),
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
    share: float = 1.0  # of its weight: less for a word of another part

    @cached_property
    def stems(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(roots(phrase)) for phrase in self.phrases)

    def weights(self, passages: int, total: int) -> tuple[float, float]:
        """
        What the term matters, from its *passages* of *total*, 1 for an unknown word:
        among texts that hold it, and for whether a text answers at all.
        """
        rarest = log(1 + (total + 0.5) / 0.5)
        rarity = log(1 + (total - passages + 0.5) / (passages + 0.5)) / rarest
        rarity *= self.share
        return (RANKED * rarity, LIGHT * rarity) if self.light else (rarity, rarity)

    @property
    def light(self) -> bool:
        """
        Whether questions are made of such words, whatever they are about.
        """
        return not self.strict and all(part in LIGHT_WORDS for part in self.stems[0])


@dataclass(frozen=True)
class Question:
    """
    A question, its terms, and the kinds of facts that it asks for.
    """

    text: str
    terms: tuple[Term, ...]
    kinds: frozenset[str]
    counted: Term | None = None  # what it asks the number of
    pairs: tuple[str, ...] = ()  # words that stand side by side in it


def ask(text: str, context: str = "") -> Question:
    """
    Take a question apart; *context* are words that it leaves to its other parts.
    """
    asked = " ".join(text.lower().split())
    kinds = {kind for kind, pattern in _KINDS.items() if pattern.search(asked)}
    own = list(_terms(text))
    known = {term.text for term in own}
    around = [term for term in _terms(context) if term.text not in known]
    lent = [replace(term, strict=False, share=CONTEXT) for term in around]
    return Question(
        text,
        (*own, *lent),
        frozenset(kinds),
        _counted(asked, own),
        tuple(_pairs(asked)),
    )


def _pairs(asked: str) -> Iterator[str]:
    found = words(asked)
    for first, second in pairwise(found):
        if not {first, second} & STOP_WORDS:
            yield f"{first} {second}"


def _counted(asked: str, terms: list[Term]) -> Term | None:
    after = asked.partition("how many ")[2].split()
    return next((term for word in after for term in terms if term.text == word), None)


def roots(text: str) -> list[str]:
    """
    The words of *text* by what they have in common: "kept" and "keeps", "2" and "two".
    """
    found = (stem(word) for word in words(text))
    return [_BASE.get(each, each) for each in found]


def _terms(text: str) -> Iterator[Term]:
    tokens = [_POSSESSIVE.sub("", found) for found in _TOKEN.findall(text)]
    tokens = [token.strip("'’.-_/") for token in tokens]
    capitals = sum(token[:1].isupper() for token in tokens)
    names = set(tokens[1:]) if 2 * capitals <= len(tokens) else set()
    seen: set[tuple[str, ...]] = set()
    beside = zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False)
    for before, token, after in beside:
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
        same = _FAMILY.get(stem(parts[0]), ())
        phrases = (parts[0], *same, *_split(parts[0]), *joined)
        strict = _is_code(token) or (token in names and token[:1].isupper())
        yield Term(token, tuple(dict.fromkeys(phrases)), strict)


def _joints(before: str, word: str, after: str) -> Iterator[tuple[str, str]]:
    """
    The words beside *word* with which it may be written as one: "time out".
    """
    for first, second in ((before.lower(), word), (word, after.lower())):
        written_as_one = first.isalpha() and second.isalpha()
        own = not {first, second} & STOP_WORDS or second in _PARTICLES
        if written_as_one and own and len(first + second) > 4:
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
