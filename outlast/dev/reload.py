"""
Notice that the files of agents' modules have changed, and whether they can be loaded.

Watched are the modules of OUTLAST_AGENTS and the modules beside them. Whether the new
text can be loaded is found out in a process that ends again: the workers before go on
until it can.
"""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Iterable
from importlib.machinery import PathFinder
from pathlib import Path

from outlast.agents.project import importable
from outlast.contracts.errors import OutlastError
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.process.programs import child_environment, module_command

# Editors write a file in several steps; what comes within this is one change.
DEBOUNCE_MS = 300
RELOAD_LIMIT_S = 60.0


def file_of(module: str) -> Path | None:
    """
    Find the file of a module of agents, named as in OUTLAST_AGENTS, without importing
    it; None where there is none.
    """
    if module.endswith(".py"):
        return Path(module).resolve()
    top, *rest = module.split(".")
    spec = PathFinder.find_spec(top, [*map(str, importable()), *sys.path])
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        return Path(spec.origin).resolve() if spec.origin and not rest else None
    base = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return file.resolve()


class WatchedFolders:
    """
    The Python files in the folders of agents' modules, by their content.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        files = [file_of(each) for each in modules]
        found = {each.parent for each in files if each is not None}
        self.folders = sorted(each for each in found if each.is_dir())
        self._known = self._read_digests()

    def changed(self) -> list[Path]:
        """
        List the files that have another content than when it was last asked, are new
        or are gone.
        """
        before, self._known = self._known, self._read_digests()
        either = before.keys() | self._known.keys()
        return sorted(
            each for each in either if before.get(each) != self._known.get(each)
        )

    def _read_digests(self) -> dict[Path, bytes]:
        found = {}
        for folder in self.folders:
            for file in folder.glob("*.py"):
                try:
                    found[file] = hashlib.sha256(file.read_bytes()).digest()
                except OSError:
                    continue  # it was there a moment ago: an editor is at work
        return found


async def changes(modules: Iterable[str]) -> AsyncIterator[list[Path]]:
    """
    Tell the files of agents' *modules* that have changed, each time that some have.
    """
    from watchfiles import PythonFilter, awatch

    watched = WatchedFolders(modules)
    if not watched.folders:
        return
    noticed = awatch(
        *watched.folders,
        watch_filter=PythonFilter(),
        debounce=DEBOUNCE_MS,
        recursive=False,
    )
    async for _ in noticed:
        if found := watched.changed():
            yield found


async def why_not_loadable() -> str | None:
    """
    Load the agents of this environment in a process of its own; returns what is wrong
    with them in one line, None when they can be loaded.
    """
    loading = await asyncio.create_subprocess_exec(
        *module_command(__name__),
        env=child_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, told = await asyncio.wait_for(loading.communicate(), RELOAD_LIMIT_S)
    except TimeoutError:
        return f"it is not loaded within {RELOAD_LIMIT_S:g} s"
    finally:
        if loading.returncode is None:
            loading.kill()
    if loading.returncode == 0:
        return None
    lines = told.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else f"it ends with exit code {loading.returncode}"
    return one_line(last, CAUSE_CHARS)


def _load() -> int:
    from outlast.agents.agent_loading import for_roles, load_agents, resolve_routes
    from outlast.settings import settings

    try:
        agents = load_agents(settings().worker_modules)
        resolve_routes(agents)
        for_roles(agents, settings().role_names)
    except OutlastError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    code = _load()
    sys.stderr.flush()
    os._exit(code)  # threads that an import has started may not keep it
