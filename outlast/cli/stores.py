"""
The store of this home, as the starter's verbs open it.
"""

from outlast.contracts.errors import BadInputError
from outlast.ledger.audit import audit_ledger
from outlast.ledger.batches import BatchRecords
from outlast.ledger.missions import MissionRecord, MissionRecords
from outlast.process import opening
from outlast.settings import settings
from outlast.store.database import Store
from outlast.store.home_temporal import forget_server
from outlast.store.schema import SCHEMA


def open_store() -> Store:
    """
    Open the store of this home.
    """
    return opening.open_store(settings())


def require_mission(mission: str) -> MissionRecord:
    """
    Look *mission* up in the ledger.

    :raises BadInputError: when it is not there; says so when it is a batch.
    """
    store = open_store()
    entry = MissionRecords(store).find(mission)
    if entry is not None:
        return entry
    if BatchRecords(store).find(mission) is not None:
        raise BadInputError(f"{mission!r} is a batch: outlast status {mission}")
    raise BadInputError(f"no mission {mission!r} is in the ledger")


def migrate_store(new_temporal: bool) -> None:
    """
    Bring the store's schema up to this release's.

    :param new_temporal: have its missions live on the Temporal that is used next.
    """
    store = opening.open_store(settings(), upgrade=True)
    print(f"{store.place}: schema {SCHEMA}")
    if not new_temporal:
        return
    forget_server(store)
    print("its missions live on the Temporal that is used next")
    if left := audit_ledger(store).open:
        print(f"start again, with the same id and file: {', '.join(left)}")
