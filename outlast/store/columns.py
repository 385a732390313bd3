"""
Columns by their kind, for the tables of the schema and of its migrations.
"""

from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    LargeBinary,
    Text,
    TypeDecorator,
)


class PortableText(TypeDecorator[str]):
    """
    Text that is sorted by its code points and holds no NUL, which PostgreSQL cannot
    keep: alike on every database.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        # Not through the dialect, whose type for a string makes a column VARCHAR.
        return Text(collation="C" if dialect.name == "postgresql" else None)

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value.replace("\0", "\ufffd") if value else value


def _columns(kind: Any, *names: str, null: bool = False) -> list[Column[Any]]:
    return [Column(name, kind, nullable=null) for name in names]


texts = partial(_columns, PortableText)
integers = partial(_columns, Integer)
bigints = partial(_columns, BigInteger)
floats = partial(_columns, Float)
blobs = partial(_columns, LargeBinary)


def keys(*names: str, kind: Any = PortableText) -> list[Column[Any]]:
    return [Column(name, kind, primary_key=True) for name in names]
