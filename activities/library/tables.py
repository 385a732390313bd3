"""
The library's tables, in the store of the missions that ask it.

They are the crew's own: the engine neither makes nor reads them. STEPS grows with
every change of theirs.
"""

from contextlib import AbstractContextManager

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
)

from outlast.store.columns import PortableText
from outlast.store.database import Store

metadata = MetaData()

documents = Table(
    "documents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("library", PortableText, nullable=False),
    # Below the library's folder, with "/".
    Column("path", PortableText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("digest", PortableText, nullable=False),  # sha256 of the file
    Column("title", PortableText, nullable=False),
    Column("gap", PortableText),  # why it could not be read
    UniqueConstraint("library", "path"),
)

# Searched by their stemmed words in passages_fts, whose rowid is the passage's id.
passages = Table(
    "passages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column(
        "document_id",
        Integer,
        ForeignKey("documents.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("line", Integer, nullable=False),  # from 1
    # JSON: of each line of text, where they do not run on.
    Column("lines", PortableText),
    Column("heading", PortableText, nullable=False),
    Column("text", PortableText, nullable=False),
)

Index("passages_by_document", passages.c.document_id)

FULL_TEXT = {
    "sqlite": """
CREATE VIRTUAL TABLE IF NOT EXISTS passages_fts USING fts5(
    library, title, heading, text, tokenize='porter unicode61 remove_diacritics 2'
)
""",
    # Its words come stemmed, as the other database stems them by itself.
    "postgresql": """
CREATE TABLE IF NOT EXISTS passages_fts (
    rowid INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    library TEXT COLLATE "C" NOT NULL,
    title TEXT NOT NULL,
    heading TEXT NOT NULL,
    text TEXT NOT NULL,
    length INTEGER NOT NULL,
    words TSVECTOR NOT NULL
);
CREATE INDEX IF NOT EXISTS passages_fts_words ON passages_fts USING gin (words);
CREATE INDEX IF NOT EXISTS passages_fts_library ON passages_fts (library)
""",
}


def _first(connection: sa.Connection) -> None:
    metadata.create_all(connection)
    connection.execute(sa.text(FULL_TEXT[connection.dialect.name]))


OWNER = "library"
STEPS = (_first,)


def reading(store: Store) -> AbstractContextManager[sa.Connection]:
    store.extend(OWNER, STEPS)
    return store.read()


def writing(store: Store) -> AbstractContextManager[sa.Connection]:
    """
    One write transaction on them, which a loss of power may take back: what is lost is
    read from the documents again.
    """
    store.extend(OWNER, STEPS)
    return store.write(durable=False)
