"""
A quotation, looked up in the index instead of its file.

For libraries that were ingested elsewhere: what the index says of a document is all
there is of it here.
"""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from outlast.crew.library.passages import Passage
from outlast.crew.library.search import passage_of
from outlast.crew.library.tables import documents, passages, reading
from outlast.store.database import Store


@dataclass(frozen=True)
class QuotePlace:
    """
    Where a document says something, in its own words.
    """

    line: int
    words: str
    title: str


def holds(store: Store, library: str, document: str, line: int, quote: str) -> bool:
    """
    Whether *document* of *library* says *quote*, word for word, from *line* on.
    """
    said = [
        each for each, _ in _lines_of(store, library, document) if each.line <= line
    ]
    return bool(quote.strip()) and any(each.holds(quote, line) for each in said)


def find(store: Store, library: str, document: str, quote: str) -> QuotePlace | None:
    """
    Where *document* of *library* says *quote*, however its lines are broken there; None
    if it does not.
    """
    words = quote.split()
    wanted = re.compile(r"\s+".join(map(re.escape, words)))
    for passage, title in _lines_of(store, library, document) if words else ():
        if match := wanted.search(passage.text):
            return QuotePlace(passage.line_of(match.start()), match[0], title)
    return None


def around(store: Store, library: str, document: str, line: int) -> list[Passage]:
    said = [passage for passage, _ in _lines_of(store, library, document)]
    before = [each.line for each in said if each.line <= line]
    return [each for each in said if each.line >= max(before, default=0)]


def _lines_of(store: Store, library: str, document: str) -> list[tuple[Passage, str]]:
    """
    The passages of *document*, in order, each with the document's title.
    """
    columns = (*passages.c, documents.c.title)
    query = sa.select(*columns).select_from(passages.join(documents))
    place = (documents.c.library == library, documents.c.path == document)
    with reading(store) as connection:
        rows = connection.execute(query.where(*place).order_by(passages.c.id)).all()
    return [(passage_of(row), row.title) for row in rows]
