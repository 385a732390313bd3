"""
A docstring speaks of parameters that there are.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("outlast", "workflows", "activities", "testkit", "benchmarks")
LINKS = {ROOT / "outlast" / "workflows", ROOT / "outlast" / "crew"}
Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if not LINKS & {*path.parents}:
                yield path


def parameters(node: ast.AST) -> set[str]:
    """
    Name what a function, or a class by its fields or its `__init__`, is given.
    """
    if isinstance(node, ast.ClassDef):
        fields = {
            each.target.id
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        }
        made = [each for each in node.body if getattr(each, "name", "") == "__init__"]
        return fields.union(*map(parameters, made))
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    args = node.args
    extra = [each for each in (args.vararg, args.kwarg) if each]
    return {
        each.arg for each in [*args.posonlyargs, *args.args, *args.kwonlyargs, *extra]
    }


@pytest.mark.parametrize(
    "path", sorted(sources()), ids=lambda path: str(path.relative_to(ROOT))
)
def test_each_documented_parameter_exists(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Documented):
            named = re.findall(r":param (\w+):", ast.get_docstring(node) or "")
            assert set(named) <= parameters(node), node.name
