"""
The full-text index of passages, in each database's own terms.

Both hold the same words (folded, without diacritics, stemmed by Porter's algorithm)
and score alike, so that a crew finds the same on either. SQLite does all of it by
itself; PostgreSQL has no BM25, so the likeliest of its matches are scored here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlast.crew.library.terms import stem, stems

# What a word weighs by where it stands: file and title, heading, text. A heading says
# what its passage is about, so a match there is worth several in the text.
TITLE, HEADING, TEXT = 2.0, 3.0, 1.0

SearchPhrase = Sequence[str]  # folded words that stand side by side


@dataclass(frozen=True)
class Indexed:
    """
    One passage as it is put into the index; *number* is the passage's id.
    """

    number: int
    library: str
    title: str
    heading: str
    text: str


def forget_document(connection: sa.Connection, document: int) -> None:
    connection.execute(_FORGET, {"document": document})


_FORGET = sa.text("""
DELETE FROM passages_fts
WHERE rowid IN (SELECT id FROM passages WHERE document_id = :document)
""")


class Fts5:
    """
    SQLite's virtual table, within the caller's transaction.
    """

    ADD = sa.text("""
    INSERT INTO passages_fts (rowid, library, title, heading, text)
    VALUES (:number, :library, :title, :heading, :text)
    """)
    BEST = sa.text("""
    SELECT rowid, bm25(passages_fts, 0.0, :title, :heading, :text) AS score
    FROM passages_fts WHERE passages_fts MATCH :query ORDER BY score, rowid LIMIT :limit
    """)
    COUNT = sa.text("SELECT count(*) FROM passages_fts WHERE passages_fts MATCH :query")

    def add(self, connection: sa.Connection, rows: list[Indexed]) -> None:
        connection.execute(self.ADD, [vars(row) for row in rows])

    def best(
        self,
        connection: sa.Connection,
        library: str,
        phrases: Sequence[SearchPhrase],
        limit: int,
    ) -> dict[int, float]:
        """
        Score the passages that hold any of *phrases* by BM25, the best ones only.
        """
        asked = {"query": self._query(library, phrases), "limit": limit}
        weights = {"title": TITLE, "heading": HEADING, "text": TEXT}
        found = connection.execute(self.BEST, {**asked, **weights})
        return {number: -score for number, score in found}

    def count(
        self, connection: sa.Connection, library: str, phrases: Sequence[SearchPhrase]
    ) -> int:
        query = self._query(library, phrases)
        return int(connection.scalar(self.COUNT, {"query": query}) or 0)

    def _query(self, library: str, phrases: Sequence[SearchPhrase]) -> str:
        """
        Ask for any of *phrases*, quoted: nothing that a user types is syntax.
        """
        some = " OR ".join(f'"{" ".join(phrase)}"' for phrase in phrases)
        return f'library : "{library}" AND {{title heading text}} : ({some})'


# As SQLite has them.
K1, B = 1.2, 0.75
LEAST_IDF = 1e-6
# Of PostgreSQL's matches so many are scored, the likeliest by its own rank.
MAX_CANDIDATES = 500
# A tsvector has no higher position.
LAST_POSITION = 16_383


class TsVector:
    """
    PostgreSQL's tsvector, with the methods of `Fts5`. Positions leap between columns,
    so that no phrase spans two.
    """

    ADD = sa.text("""
    INSERT INTO passages_fts (rowid, library, title, heading, text, length, words)
    VALUES (:number, :library, :title, :heading, :text, :length,
            CAST(:words AS tsvector))
    """)
    BEST = sa.text("""
    SELECT rowid, title, heading, text, length FROM passages_fts
    WHERE library = :library AND words @@ CAST(:query AS tsquery)
    ORDER BY ts_rank(words, CAST(:query AS tsquery)) DESC, rowid LIMIT :limit
    """)
    HOLDING = """
    (SELECT count(*) FROM passages_fts
     WHERE library = :library AND words @@ CAST(:query_{} AS tsquery))
    """
    SIZE = sa.text(
        "SELECT count(*), avg(length) FROM passages_fts WHERE library = :library"
    )

    def add(self, connection: sa.Connection, rows: list[Indexed]) -> None:
        connection.execute(self.ADD, [self._row(row) for row in rows])

    def best(
        self,
        connection: sa.Connection,
        library: str,
        phrases: Sequence[SearchPhrase],
        limit: int,
    ) -> dict[int, float]:
        stemmed = _stemmed(phrases)
        asked = {"library": library, "query": _any(stemmed), "limit": MAX_CANDIDATES}
        rows = connection.execute(self.BEST, asked).all()
        if not rows:
            return {}
        total, length = connection.execute(self.SIZE, {"library": library}).one()
        holding = self._holding(connection, library, stemmed)
        weights = [_idf(total, each) for each in holding]
        wanted = [" " + "  ".join(phrase) + " " for phrase in stemmed]
        scores = {row.rowid: _bm25(row, wanted, weights, float(length)) for row in rows}
        best = sorted(scores, key=lambda number: (-scores[number], number))[:limit]
        return {number: scores[number] for number in best}

    def count(
        self, connection: sa.Connection, library: str, phrases: Sequence[SearchPhrase]
    ) -> int:
        query = sa.text("SELECT" + self.HOLDING.format("any"))
        asked = {"library": library, "query_any": _any(_stemmed(phrases))}
        return int(connection.scalar(query, asked) or 0)

    def _holding(
        self, connection: sa.Connection, library: str, phrases: Sequence[SearchPhrase]
    ) -> list[int]:
        counts = ", ".join(self.HOLDING.format(each) for each in range(len(phrases)))
        asked = {f"query_{at}": _any([phrase]) for at, phrase in enumerate(phrases)}
        query = sa.text(f"SELECT {counts}")
        return list(connection.execute(query, {"library": library, **asked}).one())

    def _row(self, row: Indexed) -> dict[str, Any]:
        columns = [stems(each) for each in (row.title, row.heading, row.text)]
        title, heading, text = (" " + "  ".join(each) + " " for each in columns)
        return {
            "number": row.number,
            "library": row.library,
            "title": title,
            "heading": heading,
            "text": text,
            "length": 1 + sum(map(len, columns)),  # SQLite counts the library's name
            "words": _vector(columns),
        }


def _vector(columns: Iterable[list[str]]) -> str:
    """
    Write a tsvector: each word with its position, and its column as a weight.
    """
    parts: list[str] = []
    position = 0
    for words, weight in zip(columns, "ABD", strict=True):
        position += 2
        for word in words:
            position += 1
            parts.append(f"'{word}':{min(position, LAST_POSITION)}{weight}")
    return " ".join(parts)


def _stemmed(phrases: Sequence[SearchPhrase]) -> list[SearchPhrase]:
    return [[stem(word) for word in phrase] for phrase in phrases]


def _any(phrases: Sequence[SearchPhrase]) -> str:
    """
    Write a tsquery for any of *phrases*; words are letters and digits only.
    """
    return " | ".join(
        "(" + " <-> ".join(f"'{word}'" for word in phrase) + ")" for phrase in phrases
    )


def _idf(total: int, holding: int) -> float:
    return max(LEAST_IDF, math.log((total - holding + 0.5) / (holding + 0.5)))


def _bm25(row: Any, phrases: list[str], weights: list[float], length: float) -> float:
    """
    Score one passage as SQLite would.
    """
    norm = K1 * (1 - B + B * row.length / length)
    score = 0.0
    for phrase, idf in zip(phrases, weights, strict=True):
        often = (
            TITLE * row.title.count(phrase)
            + HEADING * row.heading.count(phrase)
            + TEXT * row.text.count(phrase)
        )
        score += idf * often * (K1 + 1) / (often + norm)
    return score


_INDEXES: dict[str, Fts5 | TsVector] = {"sqlite": Fts5(), "postgresql": TsVector()}


def index_of(connection: sa.Connection) -> Fts5 | TsVector:
    return _INDEXES[connection.dialect.name]
