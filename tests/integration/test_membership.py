"""
The seam over real sockets on loopback: who is seen, who is refused, what is said.
"""

import asyncio
import base64
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from outlast.contracts.errors import BadInputError
from outlast.dev.ports import free_port
from outlast.mesh.node.membership import MessageReceived, PeerConfig
from outlast.mesh.node.swim import Swim

LIMIT_S = 10.0


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def place(name: str, *seeds: PeerConfig, key: str | None = None) -> PeerConfig:
    bind = f"127.0.0.1:{free_port()}"
    return PeerConfig(name, bind, tuple(each.bind for each in seeds), key)


@contextlib.asynccontextmanager
async def peers(*places: PeerConfig) -> AsyncIterator[list[Swim]]:
    """
    Peers that are gone after the test.
    """
    async with AsyncExitStack() as leaving:
        made = [Swim(each, {"at": each.name}) for each in places]
        for each in made:
            await each.start()
            leaving.push_async_callback(each.stop)
        yield made


async def until(seen: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(limit_s):
        while not seen():  # noqa: ASYNC110 - the protocol is on a thread of its own
            await asyncio.sleep(0.02)


def names(peer: Swim) -> set[str]:
    return {each.name for each in peer.members()}


@pytest.mark.parametrize("secret", [None, key()], ids=["plain", "encrypted"])
async def test_peers_see_each_other_and_what_each_says_of_itself(
    secret: str | None,
) -> None:
    """
    All know all by one seed, with their facts, which may change.
    """
    first = place("a", key=secret)
    others = [place("b", first, key=secret), place("c", first, key=secret)]
    async with peers(first, *others) as made:
        await until(lambda: all(names(each) == {"a", "b", "c"} for each in made))
        await made[2].set_metadata({"load": "3"})
        facts = lambda: {each.name: dict(each.metadata) for each in made[0].members()}  # noqa: E731
        await until(lambda: facts()["c"] == {"at": "c", "load": "3"})
        assert facts()["b"] == {"at": "b"}


async def test_a_message_comes_whole_from_who_sent_it() -> None:
    """
    Also one that no datagram holds.
    """
    first = place("a")
    async with peers(first, place("b", first)) as (a, b):
        await until(lambda: names(b) == {"a", "b"})
        for body in (b"small", os.urandom(50_000)):
            await b.send("a", body)
            async with asyncio.timeout(LIMIT_S):
                async for each in a.events():
                    if isinstance(each, MessageReceived):
                        break
            assert each == MessageReceived("b", body)


async def test_a_dead_peer_is_looked_for_until_it_is_back() -> None:
    """
    Its absence is seen by all, and its return, though nobody has it as a seed.
    """
    first = place("a")
    lost = place("b", first)
    async with peers(first, lost) as (a, b):
        await until(lambda: names(a) == {"a", "b"})
        await b._cluster.close()  # as a crash: it says no goodbye
        await until(lambda: names(a) == {"a"})
        async with peers(replace(lost, seeds=())) as (again,):
            await until(lambda: names(a) == names(again) == {"a", "b"})


async def test_a_seed_that_never_answers_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    The peer begins all the same and says whom it misses.
    """
    nobody = place("nobody")
    with caplog.at_level(logging.WARNING, "outlast.mesh"):
        async with peers(place("a", nobody)) as (a,):
            await asyncio.sleep(2.5)  # it tries again meanwhile
            assert names(a) == {"a"}
    said = [each.getMessage() for each in caplog.records if each.name == "outlast.mesh"]
    assert len(said) == 1
    assert nobody.bind in said[0]


async def test_a_second_peer_of_one_name_is_refused() -> None:
    """
    The first one stays, the second says why it does not start.
    """
    first = place("a")
    async with peers(first, place("b", first)) as (a, b):
        await until(lambda: names(a) == {"a", "b"})
        with pytest.raises(BadInputError, match="another peer named 'b' is alive"):
            await Swim(place("b", first), {}).start()
        assert {each.address for each in a.members()} == {first.bind, b.config.bind}


@pytest.mark.parametrize(
    ("bind", "secret", "told"),
    [
        ("0.0.0.0:7946", None, "OUTLAST_MESH_KEY"),
        ("192.0.2.1:7946", None, "OUTLAST_MESH_KEY"),
        ("127.0.0.1:7946", "abc", "keys"),
        ("192.0.2.1:7946", key(), "192.0.2.1"),
        ("127.0.0.1:seven", None, "bind"),
    ],
    ids=["wildcard", "network", "no key", "not ours", "no port"],
)
async def test_a_place_that_cannot_be_taken_is_one_sentence(
    bind: str, secret: str | None, told: str
) -> None:
    """
    Before anything runs: no plain speech off loopback, no key that is none, no address
    that is not this machine's.
    """
    with pytest.raises(BadInputError) as refused:
        await Swim(PeerConfig("a", bind, key=secret), {}).start()
    assert told in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


async def test_garbage_and_strangers_are_counted() -> None:
    """
    Whoever has no key, or speaks nonsense, changes nothing and is counted.
    """
    first = place("a", key=key())
    async with peers(first) as (a,), peers(place("b", first, key=key())) as (b,):
        await until(lambda: a.counts()["refused"] > 0)  # it knocks with its own key
        host, port = first.bind.split(":")
        sender, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(host, int(port))
        )
        before = a.counts()["refused"]
        sender.sendto(b"kn" + os.urandom(200))
        await until(lambda: a.counts()["refused"] > before)
        sender.close()
        assert names(a) == {"a"}
        assert names(b) == {"b"}
