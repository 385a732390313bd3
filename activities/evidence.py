"""
Ask a library: search it for a question's terms and choose the evidence.
"""

from activities.extraction import Evidence, extract
from activities.questions import Question, Term, ask
from outlast.store import search
from outlast.store.database import Store

# How many passages are read closely, the best by BM25.
CANDIDATES = 40


def gather(store: Store, library: str, text: str) -> Evidence:
    """
    Find what the documents of *library* say to the question *text*.
    """
    question = ask(text)
    phrases = [phrase for term in question.terms for phrase in term.phrases]
    hits = search.search(store, library, phrases, CANDIDATES)
    return extract(question, _weights(store, library, question), hits)


def _weights(store: Store, library: str, question: Question) -> dict[Term, float]:
    total = search.size(store, library)
    return {
        term: term.weight(_passages(store, library, term), total)
        for term in question.terms
    }


def _passages(store: Store, library: str, term: Term) -> int:
    return search.count(store, library, term.phrases)
