"""
Imports point one way: from the starter and the worker down to the contracts.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FACADE = "outlast"
ACTS_NOT = ("outlast.workflows", "outlast.contracts")
TIMES = ("now", "today", "utcnow")
DEFINED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def modules() -> dict[str, Path]:
    """
    List our modules by dotted name.
    """
    files = [ROOT / "starter.py", ROOT / "worker.py"]
    for package in ("outlast", "outlast/workflows", "outlast/crew"):
        files += sorted((ROOT / package).rglob("*.py"))
    return {name_of(file): file for file in files}


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str) -> set[str]:
    """
    Read which modules *source* imports when it runs, also within functions.
    """
    found = set()
    for node in running_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "say whole names"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & modules().keys()) or {node.module or ""}
    return found


def at_import(source: str) -> set[str]:
    """
    Read which modules *source* imports when it is imported itself.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    return imported(ast.unparse(tree))


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """
    Walk *tree*, but for what only a type checker reads.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from running_nodes(node)


@pytest.mark.parametrize("module", modules())
def test_the_facade_is_for_agents(module: str) -> None:
    """
    Nothing of the engine imports it, it imports nothing itself before it is asked, and
    nobody imports the programs that start us.
    """
    found = imported(modules()[module].read_text()) & {FACADE, "starter", "worker"}
    if module == FACADE:
        found = {
            each
            for each in imported(modules()[module].read_text())
            if each.startswith(FACADE)
        }
    assert module.startswith("outlast.crew.") or not found


def test_the_layers_hold() -> None:
    """
    The contracts in pyproject.toml.
    """
    assert linted(ROOT) == ""


BROKEN = [
    ("outlast.contracts.missions", "outlast.store.database"),
    ("outlast.store.calls", "outlast.ledger.ledger"),
    ("outlast.agents.context", "outlast.crew.writer"),
    ("outlast.store.database", "outlast.crew.library.search"),
    ("outlast.temporal.item_source", "lxml"),
    ("outlast.workflows.supervisor", "outlast.agents.context"),
    ("outlast.workflows.supervisor", "outlast.store.database"),
    ("outlast.workflows.supervisor", "outlast.crew.writer"),
    ("outlast.crew.writer", "outlast.workflows.supervisor"),
    ("outlast.crew.writer", "outlast.settings"),
    ("outlast.crew.writer", "outlast.cli.output"),
    ("outlast.temporal.missions", "outlast.cli.entrypoint"),
    ("outlast.newcomer.anything", "outlast.store.database"),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """
    What the contracts say of a copy with an import of each sort that they refuse.
    """
    copy = tmp_path_factory.mktemp("broken")
    shutil.copytree(ROOT / "outlast", copy / "outlast")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for module, other in BROKEN:
        file = copy.joinpath(*module.split(".")).with_suffix(".py")
        file.parent.mkdir(exist_ok=True)
        (file.parent / "__init__.py").touch()
        with file.open("a") as source:
            source.write(f"\nimport {other}\n")
    return linted(copy)


@pytest.mark.parametrize(("module", "other"), BROKEN)
def test_what_points_upwards_is_seen(broken: str, module: str, other: str) -> None:
    """
    The contracts can fail; a new folder must be put somewhere.
    """
    expected = f"{module} -> {other} " if "newcomer" not in module else "newcomer"
    assert expected in broken


def linted(root: Path) -> str:
    """
    What is wrong with the imports below *root*; "" when nothing is.
    """
    done = subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr if done.returncode else ""


LINT = (
    "from importlinter.cli import lint_imports as l; raise SystemExit(l(no_cache=True))"
)


def test_no_imports_go_in_a_circle() -> None:
    """
    Whichever module is imported first, it finds what it imports.
    """
    graph = {name: at_import(file.read_text()) for name, file in modules().items()}
    list(TopologicalSorter(graph).static_order())  # names a circle, if there is one


@pytest.mark.parametrize(
    "module", [name for name in modules() if name.startswith("outlast.workflows")]
)
def test_workflows_import_nothing_that_acts(module: str) -> None:
    """
    Contracts, each other, temporalio, and what of the standard library and pydantic
    neither reads a clock nor a file.
    """
    allowed = {
        "asyncio",
        "contextlib",
        "collections",
        "dataclasses",
        "datetime",
        "enum",
        "itertools",
        "outlast",
        "pydantic",
        "temporalio",
        "typing",
    }
    source = modules()[module].read_text()
    assert {each.split(".")[0] for each in imported(source)} <= allowed


@pytest.mark.parametrize(
    "module", [name for name in modules() if name.startswith("outlast.contracts")]
)
def test_contracts_import_nothing_that_acts(module: str) -> None:
    """
    Workflows use them. What draws by chance is for activities alone.
    """
    allowed = {"collections", "dataclasses", "datetime", "enum", "hashlib", "heapq"}
    allowed |= {"json", "outlast", "pydantic", "re", "typing"}
    if module == "outlast.contracts.retries":
        allowed.add("random")  # backoff_s, which no workflow calls
    source = modules()[module].read_text()
    assert {each.split(".")[0] for each in imported(source)} <= allowed


def test_no_workflow_draws_by_chance() -> None:
    workflows = [name for name in modules() if name.startswith("outlast.workflows")]
    assert not any("backoff_s" in modules()[each].read_text() for each in workflows)


@pytest.mark.parametrize(
    "module",
    [name for name in modules() if name.startswith(ACTS_NOT)],
)
def test_nothing_in_a_workflow_acts(module: str) -> None:
    """
    Neither it nor the contracts below it use what the allowed modules have of clocks
    and threads, nor built-ins of that kind; a workflow's clock is Temporal's.
    """
    source = modules()[module].read_text()
    assert acts(source) == []


def test_a_workflow_that_acts_would_be_noticed() -> None:
    source = """
key(default_factory=datetime.now)
sorted(tasks, key=id)
asyncio.to_thread(open, name)
datetime.datetime.now(UTC)
workflow.now() or routes.now
"""
    found = ["datetime.now", "id", "asyncio.to_thread", "open"]
    found.append("datetime.datetime.now")
    assert sorted(acts(source)) == sorted(found)


def acts(source: str) -> list[str]:
    """
    List what *source* uses that would not be the same in a replay.
    """
    clock = {f"{kind}.{name}" for kind in ("datetime", "date") for name in TIMES}
    loop = {f"asyncio.{name}" for name in ("to_thread", "wait", "as_completed")}
    built_in = {"open", "input", "breakpoint", "exec", "eval", "hash", "id"}
    built_in.add("__import__")
    used = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load)
    ]
    ends = tuple(f".{each}" for each in (*clock, "run_in_executor"))
    known = clock | loop | built_in
    return [each for each in used if each in known or each.endswith(ends)]


def test_imports_are_read_where_they_run() -> None:
    """
    Those within functions count, those for the type checker do not.
    """
    source = """
if TYPE_CHECKING:
    import a
def late():
    from b.c import d
with imports_passed_through():
    import e.f
"""
    assert imported(source) == {"b.c", "e.f"}


@pytest.mark.parametrize("module", modules())
def test_no_name_is_given_twice(module: str) -> None:
    """
    A module's constants, classes and functions are defined once: of two with one name
    the later would stand, in silence.
    """
    body = ast.parse(modules()[module].read_text()).body
    defined = [each for each in body if isinstance(each, DEFINED)]
    named = [each.name for each in defined if not is_overload(each)]
    assigned = [each.targets for each in body if isinstance(each, ast.Assign)]
    names = [*named, *(ast.unparse(each) for targets in assigned for each in targets)]
    assert sorted(names) == sorted(set(names))


def is_overload(defined: ast.stmt) -> bool:
    decorators = getattr(defined, "decorator_list", [])
    return "overload" in [ast.unparse(each) for each in decorators]


def test_no_two_test_files_share_a_name() -> None:
    """
    Test files are no packages: pytest would take one for the other.
    """
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("module", ["outlast", "outlast.workflows.supervisor"])
def test_a_workflow_does_not_load_the_store(module: str) -> None:
    """
    In a fresh interpreter neither the facade nor the workflow brings the store.
    """
    told = fresh(f"import sys, {module}; print(*sys.modules)")
    heavy = ("sqlalchemy", "outlast.store", "outlast.attempt", "outlast.crew")
    assert [each for each in told.split() if each.startswith(heavy)] == []


def test_the_facade_resolves_each_of_its_names() -> None:
    """
    What it promises is there when it is asked for, and nothing else.
    """
    told = fresh(
        "import outlast\n"
        "print(*(getattr(outlast, name).__name__ for name in outlast.__all__))\n"
        "print(hasattr(outlast, 'Ledger'))"
    )
    names, more = told.strip().splitlines()
    assert "Context" in names
    assert "start" in names
    assert more == "False"


def fresh(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
