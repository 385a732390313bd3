"""
Import a module of agents, the same way in every process that does.

A user's module may do anything when it is imported. What it prints goes to standard
error, what it changes of the process (current folder, signal handlers, root logger) is
put back, and what keeps it from being used is one sentence that names the module.
"""

import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from outlast.agents.project import importable
from outlast.agents.user_code import INSTALLED, is_library, is_users
from outlast.contracts.errors import BadInputError, OutlastError
from outlast.contracts.text import sha256_hex
from outlast.execution.containment import (
    AgentExit,
    AgentInterrupt,
    TimeLimitError,
    contained,
)
from outlast.secrets import masked

# The first import of a large library from a cold disk takes half of it.
IMPORT_LIMIT_S = 60.0
IMPORT_CAUSE_CHARS = 400

CHECKOUT = Path(__file__).parents[2]


def import_agents(module: str) -> ModuleType:
    """
    Import *module*, a dotted name or a path to a file; once a process.

    A file's folder becomes importable, after the standard library and before what is
    installed: its siblings are found, and so is the file itself by processes that its
    agents spawn.

    :raises BadInputError: when it cannot be used, in one sentence.
    """
    try:
        with contained(IMPORT_LIMIT_S):
            if module.endswith(".py"):
                return _import_file(module)
            if not module.startswith("outlast."):
                for folder in importable():
                    _make_importable(folder)
            return importlib.import_module(module)
    except (OutlastError, AgentInterrupt):
        raise
    except BaseException as error:
        # The module is the user's: whatever it raises is its own fault.
        told = masked(_import_error_text(error), IMPORT_CAUSE_CHARS)
        raise BadInputError(f"agents in {module!r} cannot load: {told}") from error


def _import_file(module: str) -> ModuleType:
    path = Path(module).resolve()
    if not path.is_file():
        raise BadInputError(
            f"there is no agent module at {module}: name a file in OUTLAST_AGENTS, as "
            f"seen from {Path.cwd()}, or a module by its dotted name"
        )
    main = sys.modules["__main__"]
    if _is_at(main, path):
        return main
    folder = _importable_from(path)
    _require_unambiguous_siblings(path, folder)
    _make_importable(folder)
    name = ".".join(path.relative_to(folder).with_suffix("").parts)
    if _would_find(name, path):
        return importlib.import_module(name)
    # Another file has that name. Below the folder's own it is importable all the same.
    name = f"{folder.name}.{name}"
    sys.path.append(str(folder.parent))
    if _would_find(name, path):
        return importlib.import_module(name)
    sys.path.pop()
    return _import_as(f"outlast_agents_{path.stem}_{sha256_hex(str(path))[:8]}", path)


def _import_as(name: str, path: Path) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # type hints are resolved through it
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made


def _importable_from(path: Path) -> Path:
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _make_importable(folder: Path) -> None:
    _step_back()
    if str(folder) in sys.path:
        return
    installed = [
        place for place, entry in enumerate(sys.path) if entry.endswith(INSTALLED)
    ]
    sys.path.insert(min(installed, default=len(sys.path)), str(folder))
    importlib.invalidate_caches()


def _step_back() -> None:
    # A checkout is searched last: it has names that a user's project may have, too.
    if CHECKOUT.name in INSTALLED:
        return
    others = [each for each in sys.path if Path(each).absolute() != CHECKOUT]
    if len(others) < len(sys.path):
        sys.path[:] = [*others, str(CHECKOUT)]


def _would_find(name: str, path: Path) -> bool:
    if name in sys.modules:
        return _is_at(sys.modules[name], path)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return False
    found = spec.origin if spec is not None else None
    return found is not None and Path(found).resolve() == path


def _is_at(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


def _require_unambiguous_siblings(path: Path, folder: Path) -> None:
    """
    :raises BadInputError: when the file imports a sibling whose name a sibling of
        another file of agents has already: it would get the other one.
    """
    for name in _imports(path):
        mine = _module_in(folder, name)
        file = getattr(sys.modules.get(name), "__file__", None)
        if mine is None or file is None or Path(file).resolve() == mine:
            continue
        if not is_library(file):
            raise BadInputError(
                f"{path} imports {name!r} from {mine}, but this process has "
                f"{name!r} from {file}: rename one of the two"
            )


def _imports(path: Path) -> Iterator[str]:
    """
    Read the top-level names that the file imports; none where it cannot be parsed.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def _module_in(folder: Path, name: str) -> Path | None:
    for file in (folder / f"{name}.py", folder / name / "__init__.py"):
        if file.is_file():
            return file.resolve()
    return None


def _import_error_text(error: BaseException) -> str:
    at = error_place(error)
    if isinstance(error, AgentExit):
        return f"it ends its process with os._exit({error.code}) when imported{at}"
    if isinstance(error, SystemExit):
        return (
            f"it calls sys.exit({error.code}) when imported{at}; put what a script "
            "does under `if __name__ == '__main__':`"
        )
    if isinstance(error, TimeLimitError):
        return (
            f"its import has not ended after {IMPORT_LIMIT_S:g} s{at}; do slow work "
            "in a function under @outlast.on_worker_start"
        )
    if isinstance(error, EOFError):
        return f"it waits for input when imported, and nobody is there to type{at}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}{at}"
    if isinstance(error, ValidationError):  # of a Policy(...), for instance
        faults = error.errors(include_url=False, include_context=False)
        told = "; ".join(
            f"{each['loc'][-1]}: {each['msg']}" for each in faults if each["loc"]
        )
        return f"{error.title}: {told}{at}"
    return f"{type(error).__name__}{error_sentence(error)}{at}"


def error_place(error: BaseException) -> str:
    """
    Name the last line of the user's own that was running, as " (FILE:LINE)"; "" where
    there is none.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    own = [
        f" ({frame.filename}:{frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if is_users(frame.filename)
    ]
    return own[-1] if own else ""


def error_sentence(error: BaseException) -> str:
    """
    Give the text of *error* after a colon, nothing where it has none.
    """
    try:
        text = masked(str(error), IMPORT_CAUSE_CHARS // 2)
    except Exception:
        return ": (its text cannot be shown)"
    return f": {text}" if text else ""
