"""
What a question asks for: its terms, how much each of them matters, and the kinds of
facts that an answer must hold. Pure.
"""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import log

from outlast.crew.extractive.answer_types import ANSWER_TYPES, DEFINITION, AnswerType
from outlast.crew.extractive.vocabulary import (
    LIGHT_STEMS,
    PARTICLES,
    STOP_WORDS,
    normalized_stems,
    spellings,
)
from outlast.crew.library.terms import words

# What a light word weighs of its rarity.
LIGHT_SHARE = 0.4

# What a word weighs that only another part of the question uses.
CONTEXT_SHARE = 0.5

_TOKEN = re.compile(r"[^\s\"“”«»(){}\[\],;:!?]+")
_POSSESSIVE = re.compile(r"['’]s?$")


@dataclass(frozen=True)
class QueryTerm:
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
        return tuple(
            dict.fromkeys(tuple(normalized_stems(phrase)) for phrase in self.phrases)
        )

    @property
    def light(self) -> bool:
        return not self.strict and LIGHT_STEMS.issuperset(self.stems[0])

    def weight(self, passages: int, total: int) -> float:
        rarest = log(1 + (total + 0.5) / 0.5)
        rarity = log(1 + (total - passages + 0.5) / (passages + 0.5)) / rarest
        return self.share * rarity * (LIGHT_SHARE if self.light else 1.0)


@dataclass(frozen=True)
class ParsedQuestion:
    """
    A question, taken apart.
    """

    text: str
    terms: tuple[QueryTerm, ...]
    kinds: tuple[AnswerType, ...]
    pairs: tuple[str, ...]  # words that stand side by side in it
    counted: QueryTerm | None  # what it asks the number of
    defines: bool  # asks what something is or does


def parse_question(text: str, context: str = "") -> ParsedQuestion:
    """
    Take a question apart; *context* are words that it leaves to its other parts.
    """
    asked = " ".join(text.lower().split())
    own = list(_terms(text))
    known = {term.stems[0] for term in own}
    around = [term for term in _terms(context) if term.stems[0] not in known]
    context_terms = [
        replace(term, strict=False, share=CONTEXT_SHARE) for term in around
    ]
    return ParsedQuestion(
        text=text,
        terms=(*own, *context_terms),
        kinds=tuple(kind for kind in ANSWER_TYPES if kind.asked.search(asked)),
        pairs=tuple(_pairs(words(text))),
        counted=_counted(asked, own),
        defines=bool(DEFINITION.search(asked)),
    )


def _pairs(found: Sequence[str]) -> Iterator[str]:
    for first, second in pairwise(found):
        if not {first, second} & STOP_WORDS:
            yield f"{first} {second}"


def _counted(asked: str, terms: list[QueryTerm]) -> QueryTerm | None:
    after = asked.partition("how many ")[2].split()
    return next((term for word in after for term in terms if term.text == word), None)


def _terms(text: str) -> Iterator[QueryTerm]:
    tokens = [_POSSESSIVE.sub("", found) for found in _TOKEN.findall(text)]
    tokens = [token.strip("'’.-_/") for token in tokens]
    capitals = sum(token[:1].isupper() for token in tokens)
    names = set(tokens[1:]) if 2 * capitals <= len(tokens) else set()
    seen: set[tuple[str, ...]] = set()
    beside = zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False)
    for before, token, after in beside:
        for term in _term(token, (before, after), names):
            if (key := term.stems[0]) not in seen:
                seen.add(key)
                yield term


def _term(
    token: str, beside: tuple[str, str], names: Container[str]
) -> Iterator[QueryTerm]:
    parts = words(token)
    if len(parts) > 1 and "/" in token:
        for part in parts:
            yield from _term(part, ("", ""), ())
    elif len(parts) > 1:
        strict = bool(re.search(r"[_.\d]", token))
        yield QueryTerm(token, (" ".join(parts), "".join(parts)), strict)
    elif parts and parts[0] not in STOP_WORDS:
        phrases = (*spellings(parts[0]), *_joined(parts[0], *beside))
        strict = _is_code(token) or (token in names and token[:1].isupper())
        yield QueryTerm(token, tuple(dict.fromkeys(phrases)), strict)


def _joined(word: str, before: str, after: str) -> Iterator[str]:
    """
    *word* with those beside it, as it may be written in one: "time out", "full text".
    """
    for first, second in ((before.lower(), word), (word, after.lower())):
        letters = first.isalpha() and second.isalpha()
        own = not {first, second} & STOP_WORDS or second in PARTICLES
        if letters and own and len(first + second) > 4:
            yield first + second


def _is_code(token: str) -> bool:
    """
    Tell "40P01" and "pgAdmin" from a word and from a plain number.
    """
    if token.isalpha():
        return not token[1:].islower() and not token.isupper() and len(token) > 1
    return any(part.isdigit() for part in token) and not token.isdigit()
