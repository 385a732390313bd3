"""
Index a real manual and ask it questions: how fast, how often right, how honest.

    python -m benchmarks.corpus [--folder /usr/share/doc/postgresql-doc-15/html]
                                [--database-url postgresql://...]

The questions are in corpus_questions.yaml. Exit code 1 says that a bound was missed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.result_rows import TableRow
from outlast.crew import writer
from outlast.crew.crew_models import Draft
from outlast.crew.extractive.question_splitting import split_question
from outlast.crew.library.library import library_id, update
from outlast.crew.researcher import research
from outlast.store.database import Store

MANUAL = Path("/usr/share/doc/postgresql-doc-15/html")
QUESTIONS_FILE = Path(__file__).with_name("corpus_questions.yaml")

FASTEST_PAGES_S = 100.0  # at least, on one core
CITED = 3  # citations among which the right page must be
RIGHT = 18  # of the tuned questions, at least
MAX_REFUSED = 5  # of the tuned unanswerable ones: all


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=MANUAL)
    parser.add_argument("--database-url", help="of an empty PostgreSQL database")
    args = parser.parse_args()
    folder: Path = args.folder
    if not folder.is_dir():
        print(f"there is no folder {folder}: apt-get install postgresql-doc-15")
        return 2
    with tempfile.TemporaryDirectory() as place:
        store = Store(args.database_url or Path(place) / "store.db")
        rows = [*_index(store, folder), *_ask(store, folder)]
        store.close()
    print(*rows, sep="\n")
    return int(any(row.held is False for row in rows))


def _index(store: Store, folder: Path) -> list[TableRow]:
    pages, first_s = asyncio.run(_update(store, folder))
    touched, second_s = asyncio.run(_update(store, folder))
    speed = pages / first_s
    bound = f">= {FASTEST_PAGES_S:.0f}"
    return [
        TableRow("pages indexed", f"{pages} in {first_s:.1f} s"),
        TableRow("pages a second", f"{speed:.0f}", bound, speed >= FASTEST_PAGES_S),
        TableRow("touched when indexed again", f"{touched}", "0", touched == 0),
        TableRow("seconds to see that", f"{second_s:.2f}"),
    ]


async def _update(store: Store, folder: Path) -> tuple[int, float]:
    began = time.perf_counter()
    library = library_id("benchmark", folder)
    batches = [batch async for batch in update(store, library, folder)]
    return sum(batch.indexed for batch in batches), time.perf_counter() - began


def _ask(store: Store, folder: Path) -> list[TableRow]:
    library = library_id("benchmark", folder)
    asked = yaml.safe_load(QUESTIONS_FILE.read_text())
    rows = []
    for name, bounded in (("tuned", True), ("held_out", False)):
        part = asked[name]
        began = time.perf_counter()
        right = sum(_is_right(store, library, each) for each in part["answerable"])
        none = sum(not _is_answered(store, library, q) for q in part["unanswerable"])
        count = len(part["answerable"]) + len(part["unanswerable"])
        each_s = (time.perf_counter() - began) / count
        of, nothing = len(part["answerable"]), len(part["unanswerable"])
        rows += [
            _bounded(
                f"{name}: right page cited", right, of, RIGHT if bounded else None
            ),
            _bounded(
                f"{name}: told unanswered",
                none,
                nothing,
                MAX_REFUSED if bounded else None,
            ),
            TableRow(f"{name}: milliseconds a question", f"{1000 * each_s:.0f}"),
        ]
    return rows


def _bounded(what: str, figure: int, of: int, bound: int | None) -> TableRow:
    if bound is None:
        return TableRow(what, f"{figure} of {of}")
    return TableRow(what, f"{figure} of {of}", f">= {bound}", figure >= bound)


def _is_right(store: Store, library: str, asked: dict[str, object]) -> bool:
    draft = answer(store, library, str(asked["question"]))
    pages = asked["pages"]
    assert isinstance(pages, list)
    cited = [each.document for part in draft.paragraphs for each in part.quotations]
    return any(document in pages for document in cited[:CITED])


def _is_answered(store: Store, library: str, question: str) -> bool:
    draft = answer(store, library, question)
    return any(paragraph.quotations for paragraph in draft.paragraphs)


def answer(store: Store, library: str, question: str) -> Draft:
    parts = {
        f"research-{at}": part for at, part in enumerate(split_question(question), 1)
    }
    needs = {name: research(store, library, part) for name, part in parts.items()}
    order = writer.WriterInput(question=question, parts=parts, needs=needs)
    draft = writer.drafted(order, writer.quoted(order))
    assert isinstance(draft, Draft)  # degraded only where a part was lost
    return draft


if __name__ == "__main__":
    sys.exit(main())
