"""
Words as the index sees them: folded, without diacritics, reduced to their stems.

The full-text index stems by Porter's algorithm, so it is used here as well: what
counts as the same word in one place is the same word in the other.
"""

import re
import unicodedata
from functools import lru_cache

import snowballstemmer

_WORD = re.compile(r"[^\W_]+")
_stemmer = snowballstemmer.stemmer("porter")


def fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


def words(text: str) -> list[str]:
    """
    The words of *text*, folded; `max_connections` is two of them, as in the index.
    """
    return _WORD.findall(fold(text))


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    # As the index does: of "s" nothing would be left.
    return str(_stemmer.stemWord(word)) if len(word) > 2 else word


def stems(text: str) -> list[str]:
    return [stem(word) for word in words(text)]
