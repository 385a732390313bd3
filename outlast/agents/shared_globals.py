"""
Which globals of a module its functions write, read from its source. Pure.

Attempts that share a process share these. Only what is plain to see is found: a name
declared `global`, and the changing of a list, dict, set or object that the module made.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

CHANGING = {
    *("append", "appendleft", "extend", "insert", "add", "update", "setdefault"),
    *("pop", "popleft", "popitem", "remove", "discard", "clear", "sort", "reverse"),
}

CONTAINERS = (
    *("list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter"),
    *("OrderedDict", "WeakValueDictionary", "WeakKeyDictionary", "WeakSet"),
)
DISPLAYS = (
    *(ast.List, ast.Dict, ast.Set),
    *(ast.ListComp, ast.DictComp, ast.SetComp),
)

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class WrittenGlobal:
    """
    A global that a function writes, and the first line where one does.
    """

    name: str
    line: int


def written_globals(source: str) -> list[WrittenGlobal]:
    """
    Find the globals that functions in *source* write, by name.

    :raises SyntaxError: when it is no Python.
    """
    tree = ast.parse(source)
    made = {name: False for each in tree.body for name in _assigned(each)}
    made |= {name: True for each in tree.body for name in _containers(each)}
    found: dict[str, int] = {}
    for function in ast.walk(tree):
        if not isinstance(function, Function):
            continue
        for name, line in _writes(function, made):
            found[name] = min(line, found.get(name, line))
    return [WrittenGlobal(name, line) for name, line in sorted(found.items())]


def _writes(function: Function, made: dict[str, bool]) -> Iterator[tuple[str, int]]:
    """
    List what *function* writes of the names that its module has *made*.

    :param made: each with whether it is a container: of other objects nobody knows what
        a method such as `add` changes.
    """
    nodes = list(_own_nodes(function))
    declared = {
        name for each in nodes if isinstance(each, ast.Global) for name in each.names
    }
    local = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    local |= {name for each in nodes for name in _stored(each)}
    shared = made.keys() - (local - declared)
    for each in nodes:
        for name in _stored(each):
            if name in declared:
                yield name, each.lineno  # type: ignore[attr-defined]
        changed = _changed(each)
        if changed in shared and (made[changed] or not isinstance(each, ast.Call)):
            yield changed, each.lineno  # type: ignore[attr-defined]


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    # Not into functions in it, which come by themselves.
    body = function.body if isinstance(function.body, list) else [function.body]
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def _stored(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id


def _assigned(statement: ast.stmt) -> Iterator[str]:
    if not isinstance(statement, Function | ast.ClassDef):
        for each in ast.walk(statement):
            yield from _stored(each)


def _containers(statement: ast.stmt) -> Iterator[str]:
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return
    value = statement.value
    call = value.func if isinstance(value, ast.Call) else None
    name = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
    if isinstance(value, DISPLAYS) or name in CONTAINERS:
        yield from _assigned(statement)


def _changed(node: ast.AST) -> str:
    """
    Name the global whose value *node* changes in place; "" where it changes none.
    """
    target: ast.AST | None = None
    if isinstance(node, ast.Subscript | ast.Attribute):
        target = None if isinstance(node.ctx, ast.Load) else node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        target = node.func.value if node.func.attr in CHANGING else None
    while isinstance(target, ast.Subscript | ast.Attribute):
        target = target.value
    return target.id if isinstance(target, ast.Name) else ""
