"""
The Temporal that the missions of a store live on: noted with the first one, and no
other while any is open. Started on another one too, a mission would run twice.
"""

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, ValidationError

from outlast.store.database import Store
from outlast.store.schema import meta
from outlast.store.upsert import insert_if_absent

TEMPORAL_KEY = "temporal"
BOUND = sa.select(meta.c.value).where(meta.c.key == TEMPORAL_KEY)


class ServerIdentity(BaseModel):
    """
    A namespace of a Temporal cluster, and where it was first reached.
    """

    model_config = ConfigDict(frozen=True)

    cluster: str
    namespace: str
    # Made with the namespace. Clusters that replicate a namespace share it, so that a
    # failover is not taken for another Temporal.
    namespace_id: str
    address: str

    def is_same_as(self, other: "ServerIdentity") -> bool:
        if self.namespace_id and other.namespace_id:
            return self.namespace_id == other.namespace_id
        mine, theirs = (self.cluster, self.namespace), (other.cluster, other.namespace)
        return mine == theirs


def bound_server(store: Store) -> ServerIdentity | None:
    return _parsed(store.scalar(BOUND))


def bind_server(
    store: Store, here: ServerIdentity, open_now: int
) -> ServerIdentity | None:
    """
    Note that the missions of *store* live *here*; returns the other Temporal on which
    they do, where *open_now* of them are open.
    """
    row = {"key": TEMPORAL_KEY, "value": here.model_dump_json()}
    with store.write() as connection:
        if insert_if_absent(connection, meta, row):
            return None
        other = _parsed(connection.scalar(BOUND))
        if other is not None and (other.is_same_as(here) or open_now):
            return None if other.is_same_as(here) else other
        connection.execute(
            sa.update(meta).where(meta.c.key == TEMPORAL_KEY).values(row)
        )
        return None


def forget_server(store: Store) -> None:
    store.change(sa.delete(meta).where(meta.c.key == TEMPORAL_KEY))


def _parsed(found: str | None) -> ServerIdentity | None:
    try:
        return ServerIdentity.model_validate_json(found) if found else None
    except ValidationError:
        return None  # of another release: noted anew
