"""
A quotation, looked up in the index instead of its file.

For libraries that were ingested elsewhere: what the index says of a document is all
there is of it here.
"""

import json

import sqlalchemy as sa

from outlast.store.database import Store
from outlast.store.passages import Passage
from outlast.store.schema import documents, passages


def holds(store: Store, library: str, document: str, line: int, quote: str) -> bool:
    """
    Whether *document* of *library* says *quote*, word for word, from *line* on.
    """
    columns = (passages.c.line, passages.c.heading, passages.c.text, passages.c.lines)
    query = sa.select(*columns).select_from(passages.join(documents))
    place = (documents.c.library == library, documents.c.path == document)
    with store.read() as connection:
        rows = connection.execute(query.where(*place, passages.c.line <= line)).all()
    said = [
        Passage(at, heading, text, json.loads(lines) if lines else ())
        for at, heading, text, lines in rows
    ]
    return bool(quote.strip()) and any(each.holds(quote, line) for each in said)
