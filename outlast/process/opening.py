"""
Open the store of a home, and remember which one it is.

A store that was lost must not come back empty while missions are open: what is found at
its place later has to be the same one, until an operator says otherwise.
"""

import json
from contextlib import suppress
from pathlib import Path

from outlast.settings import Settings
from outlast.store.database import Store
from outlast.store.private import make_folder, replace_private

KNOWN_STORES_FILE = (
    "stores.json"  # the id of each store that this home has used, by its place
)


def open_store(chosen: Settings, upgrade: bool = False) -> Store:
    """
    Open the store that the settings name.

    :param upgrade: by an operator: take the store that is there, and migrate it.
    :raises StoreLostError: when it is not the one that this home has used.
    """
    note = chosen.home.resolve() / KNOWN_STORES_FILE
    known = _known_stores(note)
    store = Store(chosen.store, upgrade, chosen.largest_bytes, known)
    if known.get(store.place) != store.id:
        _write(note, {**known, store.place: store.id})
    return store


def _known_stores(note: Path) -> dict[str, str]:
    try:
        return dict(json.loads(note.read_text()))
    except (OSError, ValueError):
        return {}


def _write(note: Path, known: dict[str, str]) -> None:
    with suppress(OSError):  # then it is remembered the next time
        make_folder(note.parent)
        replace_private(note, json.dumps(known))
