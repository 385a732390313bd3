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
    """
    *text* in lower case and without diacritics.
    """
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
    """
    The stem of one folded *word*.
    """
    # As the index does: of "s" nothing would be left.
    return str(_stemmer.stemWord(word)) if len(word) > 2 else word


def stems(text: str) -> list[str]:
    """
    The stems of the words of *text*, in order.
    """
    return [stem(word) for word in words(text)]
