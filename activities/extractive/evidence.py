"""
Ask a library: search it for a question's terms and choose the evidence.
"""

from outlast.crew.extractive.extraction import Evidence, Weighed, extract
from outlast.crew.extractive.questions import Question, ask
from outlast.crew.library import search
from outlast.store.database import Store

# How many passages are read closely, the best by BM25.
CANDIDATES = 120


def gather(store: Store, library: str, text: str, context: str = "") -> Evidence:
    """
    Find what the documents of *library* say to the question *text*.
    """
    question = ask(text, context)
    phrases = [phrase for term in question.terms for phrase in term.phrases]
    phrases += question.pairs
    hits = search.search(store, library, phrases, CANDIDATES)
    return extract(question, _weighed(store, library, question), hits)


def _weighed(store: Store, library: str, question: Question) -> list[Weighed]:
    total = search.size(store, library)
    found = []
    for term in question.terms:
        passages = search.count(store, library, term.phrases)
        found.append(Weighed(term, term.weight(passages, total), passages > 0))
    return found
