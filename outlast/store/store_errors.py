"""
What a store says when it cannot do what it was asked: one sentence, and its kind.
"""

from collections.abc import Mapping

from outlast.contracts.errors import StoreError, StoreLostError, StoreUnavailableError
from outlast.contracts.text import one_line
from outlast.store.outages import Outage, OutageAction

STORE_CAUSE_CHARS = 200

NO_KNOWN_STORES: Mapping[str, str] = {}


def store_error(
    place: str, words: str, outage: Outage, first: bool = False
) -> StoreError:
    """
    Make the error that says in *words* what is the matter with the store at *place*.

    :param first: it has never been open, so that nobody waits out a doubt.
    """
    cause = one_line(
        words.strip().splitlines()[0] if words.strip() else "", STORE_CAUSE_CHARS
    )
    sentence = f"the store at {place}: {cause or 'it does not say why'}"
    if outage.advice:
        sentence = f"{sentence}; {outage.advice}"
    match outage.action:
        case OutageAction.WAIT:
            return StoreUnavailableError(sentence)
        case OutageAction.WAIT_BRIEFLY if not first:
            return StoreUnavailableError(sentence, maybe_written=True)
        case OutageAction.WAIT_BRIEFLY | OutageAction.STOP:
            return StoreLostError(sentence)
    return StoreError(sentence)
