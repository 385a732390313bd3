"""
What the pages point at is there.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import outlast
from docs import make_reference

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)")
# A link to a test has its name as title.
TEST = re.compile(r'\]\((\S+\.py) "(\w+)"\)')
# `file.py`, `name` or `Class.name`, as docs/failures.md says where something is decided
PLACE = re.compile(r"`([\w/]+\.py)`(?:, `([\w.]+)`)?")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """
    A link that is no address names a file of the repository.
    """
    links = [each for each in LINK.findall(page.read_text()) if "://" not in each]
    assert [each for each in links if not (page.parent / each).exists()] == []


@pytest.mark.parametrize(
    ("file", "name"),
    [
        place
        for page in ("README.md", "docs/failures.md")
        for place in PLACE.findall((ROOT / page).read_text())
    ],
)
def test_what_decides_is_where_the_page_says(file: str, name: str) -> None:
    """
    Each place that a page names is a file and, where named, a definition in it.
    """
    source = (ROOT / file).read_text()
    if name:
        assert name in defined(ast.parse(source))


@pytest.mark.parametrize(
    ("file", "name"), TEST.findall((ROOT / "docs" / "your-code.md").read_text())
)
def test_what_your_code_may_do_is_tested(file: str, name: str) -> None:
    """
    Each line of docs/your-code.md names a test that there is.
    """
    source = (ROOT / "docs" / file).read_text()
    assert name in defined(ast.parse(source))


def defined(tree: ast.AST, within: str = "") -> set[str]:
    """
    List what *tree* defines, methods by their own name and with their class.
    """
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found |= {node.name, f"{within}{node.name}"}
            found |= defined(node, f"{node.name}.")
        elif isinstance(node, ast.Assign):
            found |= {ast.unparse(target) for target in node.targets}
        else:
            found |= defined(node, within)
    return found


def test_the_reference_is_what_the_docstrings_say() -> None:
    """
    The page is what its script writes now, and has every public name.
    """
    stale = "docs/reference.md is stale: run python -m docs.make_reference"
    assert make_reference.PAGE.read_text() == make_reference.page(), stale
    for name in outlast.__all__:
        assert f"### `outlast.{name}`" in make_reference.page(), name


def test_symptoms_are_what_the_product_says() -> None:
    """
    What docs/troubleshooting.md quotes in its headings is in a message of the product.
    """
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    headings = [each for each in page.splitlines() if each.startswith("### ")]
    quoted = [each for line in headings for each in re.findall(r"`([^`]+)`", line)]
    parts = [part.strip() for each in quoted for part in each.split("…")]
    known = " ".join(said())
    assert [each for each in parts if each not in known] == []


def said() -> Iterator[str]:
    """
    List the strings of the product, those in pieces as one.
    """
    for file in [
        *(ROOT / "outlast").rglob("*.py"),
        *(ROOT / "workflows").rglob("*.py"),
    ]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts = [each for each in node.values if isinstance(each, ast.Constant)]
                yield "".join(str(each.value) for each in texts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


# A sentence has a subject that exists in the code: these have none.
RIDDLES = re.compile(
    r"\b(whoever|in peace|what dies|the word of|lent again|(?:is|are|be) told"
    r"|takes? over)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_no_riddles(page: Path) -> None:
    """
    No page speaks of what the code has no name for.
    """
    assert RIDDLES.findall(page.read_text()) == []
