"""
Ask a library: search it for a question's terms and choose the evidence.
"""

from outlast.crew.extractive.extraction import Evidence, WeightedTerm, extract
from outlast.crew.extractive.questions import ParsedQuestion, parse_question
from outlast.crew.library import search
from outlast.store.database import Store

# How many passages are read closely, the best by BM25.
CANDIDATE_PASSAGES = 120


def find_evidence(store: Store, library: str, text: str, context: str = "") -> Evidence:
    question = parse_question(text, context)
    phrases = [phrase for term in question.terms for phrase in term.phrases]
    phrases += question.pairs
    hits = search.search(store, library, phrases, CANDIDATE_PASSAGES)
    return extract(question, _weighted_terms(store, library, question), hits)


def _weighted_terms(
    store: Store, library: str, question: ParsedQuestion
) -> list[WeightedTerm]:
    total = search.size(store, library)
    found = []
    for term in question.terms:
        passages = search.count(store, library, term.phrases)
        found.append(WeightedTerm(term, term.weight(passages, total), passages > 0))
    return found
