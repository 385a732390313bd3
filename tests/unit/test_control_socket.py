"""
How a peer is asked on its own machine, and where it may be.
"""

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from outlast.cli.peer import peer_config
from outlast.contracts.errors import BadInputError, UnavailableError
from outlast.mesh.node import control_socket
from outlast.mesh.node.control_socket import (
    MAX_SOCKET_PATH,
    ControlSocket,
    send_request,
    short_name,
    socket_path,
)
from outlast.mesh.node.membership import MemberInfo, live_peers
from outlast.settings import Settings


async def echo(question: dict[str, Any]) -> Any:
    if question["ask"] == "nonsense":
        raise BadInputError("that makes no sense")
    return question


async def test_who_asks_is_answered_or_refused_in_its_words(tmp_path: Path) -> None:
    """
    The answer comes back as it was given, a refusal as the error that it was.
    """
    made = ControlSocket(tmp_path, echo)
    await made.start()
    try:
        told = await asyncio.to_thread(
            send_request, tmp_path, {"ask": "what", "more": [1]}
        )
        assert told == {"ask": "what", "more": [1]}
        with pytest.raises(BadInputError, match="that makes no sense"):
            await asyncio.to_thread(send_request, tmp_path, {"ask": "nonsense"})
        mode = stat.S_IMODE(socket_path(tmp_path).stat().st_mode)
        assert mode == 0o600, "others of this machine could ask"
    finally:
        made.close()


def test_a_peer_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """
    It says how to start one.
    """
    with pytest.raises(UnavailableError, match=r"outlast-worker --peer"):
        send_request(tmp_path, {"ask": "members"})


async def test_a_home_may_lie_deep(tmp_path: Path) -> None:
    """
    A socket's name is short on every system; it lies in the home all the same, where
    nobody else can put one.
    """
    deep = tmp_path / ("x" * MAX_SOCKET_PATH) / ("y" * MAX_SOCKET_PATH)
    made = ControlSocket(deep, echo)
    await made.start()
    try:
        assert socket_path(deep).is_relative_to(deep)
        assert socket_path(deep).is_socket()
        assert stat.S_IMODE(socket_path(deep).parent.stat().st_mode) == 0o700
        with short_name(socket_path(deep)) as name:
            assert len(name) <= MAX_SOCKET_PATH
        told = await asyncio.to_thread(send_request, deep, {"ask": "what"})
        assert told == {"ask": "what"}
    finally:
        made.close()
    assert not socket_path(deep).exists()


def test_where_no_name_is_short_a_deep_home_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    On systems without names for open files.
    """
    monkeypatch.setattr(control_socket, "OPEN_FILES", str(tmp_path))
    deep = tmp_path / ("x" * MAX_SOCKET_PATH)
    deep.mkdir()
    with (
        pytest.raises(BadInputError, match="shorter OUTLAST_HOME"),
        short_name(deep / "peer.sock"),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("name", "bind", "join", "told"),
    [
        ("a b", "127.0.0.1:7946", (), "--peer"),
        ("a", "127.0.0.1", (), "--bind 127.0.0.1 is not HOST:PORT"),
        ("a", "127.0.0.1:7946", ("b:70000",), "--join b:70000 is not HOST:PORT"),
        ("a", "10.0.0.5:7946", (), "OUTLAST_MESH_KEY"),
        ("a", "0.0.0.0:7946", (), "OUTLAST_MESH_KEY"),
    ],
    ids=["name", "bind", "join", "network", "wildcard"],
)
def test_a_place_that_makes_no_sense_is_one_sentence(
    name: str, bind: str, join: tuple[str, ...], told: str
) -> None:
    """
    Before anything starts, naming the option.
    """
    with pytest.raises(BadInputError) as refused:
        peer_config(Settings(), name, bind, join)
    assert told in str(refused.value)


def test_with_a_key_a_peer_may_be_anywhere() -> None:
    """
    And the key is not shown.
    """
    chosen = Settings(mesh_key=SecretStr("c2VjcmV0"))
    place = peer_config(chosen, "a", "10.0.0.5:7946", ("b.example:7946",))
    assert place.key == "c2VjcmV0"
    assert "c2VjcmV0" not in repr(place)


def test_a_member_that_says_nonsense_is_not_there() -> None:
    """
    The others are, with what they say of themselves.
    """
    live = [
        MemberInfo("a", "1", {"roles": "writer,reader", "ready": "yes"}),
        MemberInfo("what is this", "2", {}),
        MemberInfo("b", "3", {"roles": "no role!"}),
        MemberInfo("c", "4", {}),
    ]
    a, c = live_peers(live)
    assert (a.name, a.roles, a.ready) == ("a", {"writer", "reader"}, True)
    assert (c.name, c.roles, c.ready) == ("c", set(), False)
