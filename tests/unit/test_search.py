"""
Whatever is typed is only words, and the likeliest passages come first.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlast.crew.library.library import library_id, update
from outlast.crew.library.search import MAX_QUERY_WORDS, count, search, size
from outlast.store.database import Store
from testkit.postgres import Postgres
from tests.unit.document_fakes import folder_of

FILES = {
    "week.md": "# Week\n\n## Backup\n\nThe vault is full on Mondays.",
    "vault.md": "# Notes\n\nEach backup is a full backup. A backup goes to tape.",
    "limits.md": "# Limits\n\nSet max_connections to 100. The max is rarely reached.",
    "cafe.txt": "The Café opens at nine.",
}


@pytest.fixture
async def library(store: Store, tmp_path: Path) -> str:
    folder = folder_of(tmp_path / "documents", FILES)
    name = library_id("tenant", folder)
    async for _ in update(store, name, folder):
        pass
    return name


def found(store: Store, library: str, words: str | list[str]) -> list[str]:
    return [hit.document for hit in search(store, library, words)]


def test_a_heading_weighs_more_than_the_text(store: Store, library: str) -> None:
    """
    A passage under the heading that was asked for comes before one that mentions it.
    """
    assert found(store, library, "backup") == ["week.md", "vault.md"]


def test_words_match_by_stem_and_without_diacritics(store: Store, library: str) -> None:
    """
    "cafe opening" finds "Café opens".
    """
    assert found(store, library, "CAFES opening") == ["cafe.txt"]


def test_a_phrase_matches_side_by_side(store: Store, library: str) -> None:
    """
    An identifier is its words in a row, not each of them anywhere.
    """
    assert found(store, library, ["max_connections"]) == ["limits.md"]
    assert found(store, library, ["connections max"]) == []


def test_a_hit_says_where_it_stands(store: Store, library: str) -> None:
    """
    A hit has its document, line, title, heading and a score to compare.
    """
    (hit,) = search(store, library, "Mondays")

    assert (hit.document, hit.line, hit.title) == ("week.md", 5, "Week")
    assert (hit.heading, hit.text) == ("Week > Backup", "The vault is full on Mondays.")
    assert hit.score > 0


def test_counts_are_of_one_library(store: Store, library: str) -> None:
    """
    A passage counts once however many phrases it holds; strangers count nothing.
    """
    assert size(store, library) == 4
    assert count(store, library, ["backup", "vault"]) == 2
    assert count(store, library, ["zebra"]) == 0
    assert count(store, "lother", ["backup"]) == 0


@pytest.mark.parametrize(
    "typed",
    ['"', "'; DROP TABLE passages --", "NEAR(x y)", "title:", "* ^ - ( )", "", "AND"],
)
def test_operators_are_only_words(store: Store, library: str, typed: str) -> None:
    """
    The index's own language cannot be spoken by those who search.
    """
    assert isinstance(search(store, library, typed), list)
    assert found(store, library, f"{typed} mondays") == ["week.md"]


def test_an_endless_question_is_cut(store: Store, library: str) -> None:
    """
    A question of ten thousand words is searched by its first ones.
    """
    typed = " ".join(f"word{n}" for n in range(MAX_QUERY_WORDS)) + " mondays"

    assert found(store, library, "mondays " + typed) == ["week.md"]
    assert found(store, library, typed * 99) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typed=st.text(max_size=60))
def test_nothing_that_can_be_typed_is_an_error(
    store: Store, library: str, typed: str
) -> None:
    """
    No text whatever is a malformed query.
    """
    search(store, library, typed)
    search(store, library, [typed])


QUESTIONS = [
    "backup",
    "full backup of the vault",
    "the max is rarely reached on tape",
    ["max_connections", "full backup"],
]


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
async def test_both_databases_find_and_score_alike(
    postgres: Postgres, tmp_path: Path, question: str | list[str]
) -> None:
    """
    A crew must say the same whichever it works on.
    """
    folder = folder_of(tmp_path / "documents", FILES)
    name = library_id("tenant", folder)
    told = []
    for where in (tmp_path / "store.db", postgres.database()):
        store = Store(where)
        async for _ in update(store, name, folder):
            pass
        hits = search(store, name, question)
        told.append([(hit.document, pytest.approx(hit.score)) for hit in hits])
        store.close()
    assert told[0] == told[1]
    assert told[0]
