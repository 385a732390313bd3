"""
What the pages point at is there.
"""

import ast
import re
from pathlib import Path

import pytest

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
    ("file", "name"), PLACE.findall((ROOT / "docs" / "failures.md").read_text())
)
def test_what_decides_is_where_the_page_says(file: str, name: str) -> None:
    """
    Each place in docs/failures.md is a file and, where named, a definition in it.
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
