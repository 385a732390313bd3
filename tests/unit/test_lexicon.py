"""
The code speaks the lexicon's words: no old word in a name, no class name twice, and no
constant with two values.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("outlast", "workflows", "activities", "testkit", "benchmarks")
SOURCES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if not {"migrations", "crew"} & {*path.parts}
    and "outlast/workflows" not in str(path)
)

# Words that the field has a better one for; one is enough, in any part of a name.
FORBIDDEN = frozenset(
    (
        *("beaten", "begun", "bite", "bites", "bitten", "brisk", "burial", "buried"),
        *("bury", "convicted", "desk", "diary", "doubtful", "forgone", "harvest"),
        *("heed", "horizon", "lacks", "lane", "lanes", "leftover", "lend", "lent"),
        *("loan", "lookout", "mute", "newborn", "nobody", "nowhere", "nursery"),
        *("offspring", "peace", "promise", "promises", "pulse", "pursue", "pursuit"),
        *("rung", "rungs", "settling", "sight", "sighting", "standing", "strand"),
        *("stranded", "unasked", "unborn", "undisturbed", "unended", "unplayed"),
        *("upkeep", "wedged", "worn", "wreck", "zygote", "zygotes"),
    )
)

# (module, name): words that are somebody else's.
ALLOWED = {
    ("outlast/contracts/mesh_timing.py", "gossip_s"),  # SWIM's own
}


def names(tree: ast.AST) -> Iterator[str]:
    """
    List the names that *tree* defines.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def parts(name: str) -> set[str]:
    """
    Split a name into its words.
    """
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """
    List the public constants of a module with their values.
    """
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value:
            targets = [node.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and re.fullmatch(
                "[A-Z][A-Z0-9_]+", target.id
            ):
                yield target.id, ast.unparse(node.value or node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_name_has_an_old_word(path: Path) -> None:
    """
    Neither a module nor what it defines is named with a word that was replaced.
    """
    module = str(path.relative_to(ROOT))
    found = {*names(ast.parse(path.read_text())), path.stem}
    old = {name for name in found if parts(name) & FORBIDDEN}
    assert sorted(name for name in old if (module, name) not in ALLOWED) == []


def test_no_class_name_is_used_twice() -> None:
    """
    A class is found by its name alone.
    """
    where = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in where.items() if len(files) > 1} == {}


def test_no_constant_has_two_values() -> None:
    """
    A constant means the same wherever it is read.
    """
    values = defaultdict(set)
    for path in SOURCES:
        for name, value in constants(ast.parse(path.read_text())):
            values[name].add(value)
    assert {name: found for name, found in values.items() if len(found) > 1} == {}
