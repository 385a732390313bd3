"""
Passages that share words with a question, best first by BM25.

Whatever a user types is only words here: each is quoted before it becomes part of a
query of the full-text index.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from outlast.store.database import Store
from outlast.store.passages import Passage
from outlast.store.schema import documents, passages
from outlast.store.terms import words

# What a word weighs by where it stands: file and title, heading, text. A heading says
# what its passage is about, so a match there is worth several in the text.
TITLE, HEADING, TEXT = 2.0, 3.0, 1.0

# More words than this are no question; the rest is left out.
MOST_WORDS = 64

_MATCH = """
SELECT rowid, bm25(passages_fts, 0.0, :title, :heading, :text) AS score
FROM passages_fts WHERE passages_fts MATCH :query ORDER BY score, rowid LIMIT :limit
"""
_COUNT = "SELECT count(*) FROM passages_fts WHERE passages_fts MATCH :query"


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
    wanted = words(phrases) if isinstance(phrases, str) else phrases
    query = _any_of(library, wanted)
    if query is None:
        return []
    values = {"title": TITLE, "heading": HEADING, "text": TEXT, "limit": limit}
    with store.read() as connection:
        found = connection.execute(sa.text(_MATCH), {"query": query, **values})
        scores = {number: -score for number, score in found}
        return _hits(connection, scores)


def count(store: Store, library: str, phrases: Iterable[str]) -> int:
    """
    The number of passages of *library* that hold any of *phrases*, headings included.
    """
    query = _any_of(library, phrases)
    with store.read() as connection:
        found = connection.scalar(sa.text(_COUNT), {"query": query}) if query else 0
    return int(found or 0)


def size(store: Store, library: str) -> int:
    """
    The number of passages of *library*.
    """
    joined = passages.join(documents)
    query = sa.select(sa.func.count()).select_from(joined)
    with store.read() as connection:
        found = connection.scalar(query.where(documents.c.library == library))
    return int(found or 0)


def _any_of(library: str, phrases: Iterable[str]) -> str | None:
    """
    A full-text query for any of *phrases* in *library*; None if they hold no word.
    """
    split = (words(phrase) for phrase in phrases)
    quoted = dict.fromkeys(f'"{" ".join(parts)}"' for parts in split if parts)
    if not quoted:
        return None
    some = " OR ".join(list(quoted)[:MOST_WORDS])
    (name,) = words(library)
    return f'library : "{name}" AND {{title heading text}} : ({some})'


def _hits(connection: sa.Connection, scores: dict[int, float]) -> list[Hit]:
    columns = (*passages.c, documents.c.path, documents.c.title)
    query = sa.select(*columns).select_from(passages.join(documents))
    rows = connection.execute(query.where(passages.c.id.in_(scores)))
    hits = [_hit(row, scores[row.id]) for row in rows]
    return sorted(hits, key=lambda hit: (-hit.score, hit.passage_id))


def _hit(row: sa.Row[tuple[object, ...]], score: float) -> Hit:
    lines = json.loads(row.lines) if row.lines else ()
    passage = Passage(row.line, row.heading, row.text, lines)
    return Hit(row.id, row.path, row.title, score, passage)
