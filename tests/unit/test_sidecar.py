"""
A fleet's watch over its gossip process: one that hangs is started again.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outlast.contracts.mesh_timing import (
    MESH_BOOT_MAX_MISSED_ANSWERS,
    MESH_MAX_MISSED_ANSWERS,
)
from outlast.mesh.node import sidecar
from outlast.mesh.node.control_socket import ControlSocket
from outlast.mesh.node.membership import PeerConfig
from outlast.mesh.node.sidecar import Sidecar

# Says that it has its place, and what an agent's module prints, then nothing more; ends
# with its parent, as gossip does.
MUTE = """
import sys
print('{"mesh": "here"}', 7, [], {}, "hello", sep="\\n", flush=True)
sys.stdin.read()
"""
PLACE = PeerConfig("a", "127.0.0.1:0", (), None)
ANSWER_S = 0.02
BOUND_S = 30.0


@pytest.fixture
def again() -> asyncio.Event:
    """
    Set when the process is started a second time.
    """
    return asyncio.Event()


@pytest.fixture
async def gossip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: asyncio.Event
) -> AsyncIterator[Sidecar]:
    """
    A process that has a place in the mesh, and a socket only where a test opens one.
    """
    begun: list[PeerConfig] = []

    def command(place: PeerConfig) -> list[str]:
        if begun:
            again.set()
        begun.append(place)
        return [sys.executable, "-c", MUTE]

    monkeypatch.setattr(sidecar, "sidecar_command", command)
    made = Sidecar(PLACE, tmp_path, ANSWER_S)
    await made.start()
    yield made
    await made.stop()


async def test_gossip_that_hangs_is_started_again(
    gossip: Sidecar, again: asyncio.Event
) -> None:
    """
    It lives and answers nobody, and what it has in hand is held meanwhile.
    """
    await asyncio.wait_for(again.wait(), BOUND_S)
    assert gossip.restarts == 1


async def test_gossip_that_answers_is_left_alone(
    gossip: Sidecar, tmp_path: Path
) -> None:
    """
    However often it is asked.
    """
    asked = asyncio.Event()
    questions: list[Any] = []

    async def answer(question: Any) -> Any:
        questions.append(question)
        if len(questions) > MESH_BOOT_MAX_MISSED_ANSWERS + 2 * MESH_MAX_MISSED_ANSWERS:
            asked.set()
        return {}

    control = ControlSocket(tmp_path, answer)
    await control.start()
    await asyncio.wait_for(asked.wait(), BOUND_S)
    assert gossip.restarts == 0
    control.close()
