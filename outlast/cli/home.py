"""
The store of this home, as the starter's verbs open it.
"""

from outlast.runtime.settings import settings
from outlast.store.database import Store
from outlast.store.schema import SCHEMA


def open_store() -> Store:
    """
    Open the store of this home.
    """
    return Store(settings().store)


def migrate_store() -> None:
    """
    Bring the store's schema up to this release's.
    """
    store = Store(settings().store, upgrade=True)
    print(f"{store.place}: schema {SCHEMA}")
