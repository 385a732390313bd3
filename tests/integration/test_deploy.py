"""
The compose file's jobs against the real thing, outside their containers.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from temporalio.client import Client

from outlast.dev.server import DevServer
from outlast.store.database import Store
from outlast.temporal.connect import connect
from outlast.temporal.missions import has_search_attributes
from testkit.postgres import Postgres, find_postgres

DEPLOY = Path(__file__).parents[2] / "deploy"
MADE = "made-by-the-job"
ROLES = ("temporal", "temporal_visibility", "outlast")
PASSWORDS = {
    "POSTGRES_TEMPORAL_PASSWORD": "for-temporal",
    "POSTGRES_OUTLAST_PASSWORD": "it's ours",
}


@pytest.fixture(scope="module")
def databases() -> Iterator[Postgres]:
    """
    A PostgreSQL as its container makes it: a superuser `postgres`, then our script.
    """
    programs = find_postgres()
    if programs is None and "CI" in os.environ:
        pytest.fail("CI must have a PostgreSQL: install the package postgresql")
    if programs is None:
        pytest.skip("no PostgreSQL is here: install the package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="outlast-databases-"))
    server = Postgres(folder, programs)
    server.make()
    server.start()
    try:
        server.sql("CREATE ROLE postgres SUPERUSER LOGIN")
        psql(server, "--command", "ALTER ROLE outlast RENAME TO maker")
        psql(server, "--file", str(DEPLOY / "postgres/databases.sql"))
        ask_for_passwords(server)
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def ask_for_passwords(server: Postgres) -> None:
    """
    Let nobody but the superuser in without one.
    """
    with psycopg.connect(url(server, "postgres", "postgres", "")) as connection:
        [[rules]] = connection.execute("SHOW hba_file").fetchall()
        Path(rules).write_text(
            "host all postgres 127.0.0.1/32 trust\n"
            "host all all 127.0.0.1/32 scram-sha-256\n"
        )
        connection.execute("SELECT pg_reload_conf()")


def psql(server: Postgres, *asked: str) -> None:
    """
    Run it as the container's entry point does.
    """
    command = [str(server.programs / "psql"), "-v", "ON_ERROR_STOP=1", "--no-psqlrc"]
    subprocess.run(
        [*command, "--username", "postgres", "--no-password", "--quiet", *asked],
        env={**os.environ, **PASSWORDS, **where(server), "PGDATABASE": "postgres"},
        check=True,
        timeout=60,
    )


def where(server: Postgres) -> dict[str, str]:
    return {"PGHOST": "127.0.0.1", "PGPORT": str(server.port)}


def url(server: Postgres, role: str, database: str, password: str | None = None) -> str:
    """
    Say where *database* is, for *role* and its own password unless another is given.
    """
    owner = "OUTLAST" if role == "outlast" else "TEMPORAL"
    known = PASSWORDS[f"POSTGRES_{owner}_PASSWORD"] if password is None else password
    return f"postgresql://{role}:{quote(known)}@127.0.0.1:{server.port}/{database}"


def test_our_store_works_in_the_database_it_is_given(databases: Postgres) -> None:
    """
    The role owns what it needs to make its tables, without being a superuser.
    """
    store = Store(url(databases, "outlast", "outlast"), upgrade=True)
    assert store.id
    store.close()


def test_temporal_may_make_what_its_schema_needs(databases: Postgres) -> None:
    """
    Tables in the one database; in the other the extension that its indexes use.
    """
    with psycopg.connect(url(databases, "temporal", "temporal")) as connection:
        connection.execute("CREATE TABLE namespaces (id integer)")
    visibility = url(databases, "temporal_visibility", "temporal_visibility")
    with psycopg.connect(visibility) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS btree_gin")


@pytest.mark.parametrize("role", ROLES)
def test_a_password_opens_one_database(databases: Postgres, role: str) -> None:
    """
    The role's own, and with no other password.
    """
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(url(databases, role, role, "guessed"))
    psycopg.connect(url(databases, role, role)).close()
    for other in set(ROLES) - {role}:
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(url(databases, role, other))


def make_namespace(server: DevServer) -> bytes:
    """
    Run the job; returns what it printed.
    """
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TEMPORAL_ADDRESS": server.address,
        "TEMPORAL_NAMESPACE": MADE,
        "TEMPORAL_RETENTION": "72h",
    }
    script = ["sh", str(DEPLOY / "temporal/namespace.sh")]
    done = subprocess.run(script, env=env, check=True, capture_output=True, timeout=90)
    return done.stdout + done.stderr


async def test_the_namespace_is_made_once(server: DevServer) -> None:
    """
    The job ends well on a new server and on one that has everything, and what it makes
    is what our missions are tagged with.
    """
    await asyncio.to_thread(make_namespace, server)
    assert await asyncio.to_thread(make_namespace, server) == b""
    config = (await connect(server.address)).config()
    config["namespace"] = MADE
    assert await has_search_attributes(Client(**config))
