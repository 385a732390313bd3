"""
Bring the store's schema up to this release's.
"""

from contextlib import closing

from outlast.ledger.audit import audit_ledger
from outlast.process.opening import open_store
from outlast.settings import settings
from outlast.store.home_temporal import forget_server
from outlast.store.schema import SCHEMA


def migrate_store(new_temporal: bool) -> None:
    """
    Bring the store's schema up to this release's.

    :param new_temporal: have its missions live on the Temporal that is used next.
    """
    with closing(open_store(settings(), upgrade=True)) as store:
        print(f"{store.place}: schema {SCHEMA}")
        if not new_temporal:
            return
        forget_server(store)
        print("its missions live on the Temporal that is used next")
        if left := audit_ledger(store).open:
            print(f"start again, with the same id and file: {', '.join(left)}")
