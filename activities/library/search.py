"""
Passages that share words with a question, best first by BM25.

A query is made of words only, so nothing that a user types is syntax.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from outlast.crew.library.fulltext import SearchPhrase, index_of
from outlast.crew.library.passages import Passage
from outlast.crew.library.tables import documents, passages, reading
from outlast.crew.library.terms import words
from outlast.store.database import Store

# More words than this are no question; the rest is left out.
MAX_QUERY_WORDS = 64


@dataclass(frozen=True)
class Hit:
    """
    A passage that was found; *score* grows with its likeness to the question.
    """

    passage_id: int
    document: str
    title: str
    score: float
    passage: Passage = field(repr=False)

    @property
    def line(self) -> int:
        return self.passage.line

    @property
    def heading(self) -> str:
        return self.passage.heading

    @property
    def text(self) -> str:
        return self.passage.text


def search(
    store: Store, library: str, phrases: str | Iterable[str], limit: int = 10
) -> list[Hit]:
    """
    Find the passages of *library* that hold any of *phrases*, best first.

    A text counts as its words; a phrase of several words matches them side by side.
    """
    wanted = _phrases(words(phrases) if isinstance(phrases, str) else phrases)
    if not wanted:
        return []
    with reading(store) as connection:
        scores = index_of(connection).best(connection, library, wanted, limit)
        return _hits(connection, scores)


def count(store: Store, library: str, phrases: Iterable[str]) -> int:
    """
    The number of passages of *library* that hold any of *phrases*, headings included.
    """
    wanted = _phrases(phrases)
    if not wanted:
        return 0
    with reading(store) as connection:
        return index_of(connection).count(connection, library, wanted)


def size(store: Store, library: str) -> int:
    joined = passages.join(documents)
    query = sa.select(sa.func.count()).select_from(joined)
    with reading(store) as connection:
        found = connection.scalar(query.where(documents.c.library == library))
    return int(found or 0)


def _phrases(given: Iterable[str]) -> Sequence[SearchPhrase]:
    """
    Split each of *given* into its words, leaving out what holds none or came before.
    """
    split = (tuple(words(phrase)) for phrase in given)
    return list(dict.fromkeys(filter(None, split)))[:MAX_QUERY_WORDS]


def _hits(connection: sa.Connection, scores: dict[int, float]) -> list[Hit]:
    columns = (*passages.c, documents.c.path, documents.c.title)
    query = sa.select(*columns).select_from(passages.join(documents))
    rows = connection.execute(query.where(passages.c.id.in_(scores)))
    hits = [
        Hit(row.id, row.path, row.title, scores[row.id], passage_of(row))
        for row in rows
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.passage_id))


def passage_of(row: sa.Row[Any]) -> Passage:
    lines = json.loads(row.lines) if row.lines else ()
    return Passage(row.line, row.heading, row.text, lines)
