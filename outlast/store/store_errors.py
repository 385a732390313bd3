"""
What a store says when it cannot do what it was asked: one sentence, and its kind.
"""

from collections.abc import Mapping

from outlast.contracts.errors import StoreAwayError, StoreError, StoreLostError
from outlast.contracts.text import shorten
from outlast.store.outages import Course, Outage

CAUSE_CHARS = 200

NOTHING_KNOWN: Mapping[str, str] = {}


def refusal(place: str, words: str, outage: Outage, first: bool = False) -> StoreError:
    """
    Make the error that says in *words* what is the matter with the store at *place*.

    :param first: it has never been open, so that nobody waits out a doubt.
    """
    cause = shorten(words.strip().splitlines()[0] if words.strip() else "", CAUSE_CHARS)
    sentence = f"the store at {place}: {cause or 'it does not say why'}"
    if outage.advice:
        sentence = f"{sentence}; {outage.advice}"
    match outage.course:
        case Course.WAIT:
            return StoreAwayError(sentence)
        case Course.DOUBT if not first:
            return StoreAwayError(sentence, doubtful=True)
        case Course.DOUBT | Course.STOP:
            return StoreLostError(sentence)
    return StoreError(sentence)
