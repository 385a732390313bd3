"""
A store in a file serves one host: what counts as this one, and what is refused.
"""

import socket
from pathlib import Path
from typing import Any

import pytest
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import BadInputError
from outlast.settings import Settings
from outlast.temporal import connect
from outlast.temporal.connect import on_loopback, require_shared_store

NAMES = {
    "temporal": ["10.0.0.7"],
    "here.example": ["127.0.1.1", "::1"],
    "both.example": ["127.0.0.1", "10.0.0.7"],
}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Resolve names by the list above, and nothing else.
    """
    real = socket.getaddrinfo

    def resolve(host: str, port: None) -> list[Any]:
        if host in NAMES:
            return [real(each, port)[0] for each in NAMES[host]]
        if host == "localhost":
            return real(host, port)
        raise socket.gaierror(f"no {host}")

    monkeypatch.setattr(connect.socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:7233",
        "127.0.0.1:7233",
        "127.0.0.1",
        "127.8.9.10:7233",
        "[::1]:7233",
        "::1",
        "[::ffff:127.0.0.1]:7233",
        "here.example:7233",
    ],
)
def test_what_can_only_be_here_is_on_loopback(address: str) -> None:
    """
    All of 127.0.0.0/8, ::1, and names of which each address is one of these.
    """
    assert on_loopback(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:7233",
        "[::]:7233",
        "10.0.0.7:7233",
        "[::ffff:10.0.0.7]:7233",
        "[fe80::1]:7233",
        "temporal:7233",
        "both.example:7233",
        "nobody.example:7233",
        "127.0.0.1.example:7233",
        ":7233",
        "",
    ],
)
def test_what_may_be_elsewhere_is_not(address: str) -> None:
    """
    Wildcards, other networks, and names that lead elsewhere, or nowhere.
    """
    assert not on_loopback(address)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    The environment names a Temporal on another host, and no file names one.
    """
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal:7233")


@pytest.mark.usefixtures("far")
def test_a_file_and_a_temporal_elsewhere_are_refused() -> None:
    """
    One sentence, with the address and the ways out.
    """
    with pytest.raises(BadInputError) as error:
        require_shared_store(Settings())
    told = told_in_one_sentence(error.value)
    assert "temporal:7233" in told
    assert "OUTLAST_DATABASE_URL" in told
    assert "OUTLAST_SINGLE_HOST" in told


@pytest.mark.usefixtures("far")
def test_a_database_serves_any_host() -> None:
    """
    With a database as the store it does not matter where the Temporal is.
    """
    require_shared_store(Settings(database_url="postgresql://me@db/outlast"))


@pytest.mark.usefixtures("far")
def test_the_user_may_know_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    OUTLAST_SINGLE_HOST says that all starters and workers are here.
    """
    monkeypatch.setenv("OUTLAST_SINGLE_HOST", "true")
    require_shared_store(Settings())


@pytest.mark.usefixtures("far")
def test_an_address_that_is_named_wins() -> None:
    """
    The stack that runs on this home is here, whatever the environment says.
    """
    require_shared_store(Settings(), "127.0.0.1:20001")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Compose files leave variables empty: that is no folder, no database, no number.
    """
    for name in ("OUTPUT_ROOT", "DATABASE_URL", "PROCESSES", "ROLES"):
        monkeypatch.setenv(f"OUTLAST_{name}", "")
    found = Settings()
    assert found.output_root is None
    assert found.database_url is None
    assert found.processes == 2
    assert found.role_names == []
