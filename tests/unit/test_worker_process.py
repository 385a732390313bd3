"""
What a worker says over its channel, and what its parent says to it.
"""

import asyncio
import json
import os
import signal
import socket

import pytest

from outlast.contracts.errors import BadInputError, OutlastError
from outlast.fleet.messages import Exiting, Message
from outlast.fleet.parent_channel import (
    ParentChannel,
    WorkerStoppedError,
    send_exit_reason,
)
from outlast.fleet.process_kinds import ExitReason
from outlast.fleet.worker_process import WorkerProcess


async def both() -> tuple[WorkerProcess, socket.socket]:
    """
    Make the parent's life of a worker, and the worker's end of the channel.
    """
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    death = asyncio.get_running_loop().create_future()
    return WorkerProcess(os.getpid(), reader, writer, death), theirs


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (BadInputError("no agent plays 'x'"), ExitReason.BAD_INPUT),
        (WorkerStoppedError("its namespace is missing"), ExitReason.WORKER_STOPPED),
        (OutlastError("it cannot"), ExitReason.FAILED),
    ],
)
async def test_a_worker_says_why_it_ends(
    error: OutlastError, ending: ExitReason
) -> None:
    """
    Heard also when the death is known before the last line is read.
    """
    life, theirs = await both()
    heard: list[Message] = []
    send_exit_reason(theirs, error)
    theirs.close()
    life.death.set_result(1)
    assert await life.wait(heard.append) == 1
    assert heard == [Exiting(reason=ending, why=str(error))]


async def test_an_exit_code_alone_says_nothing() -> None:
    """
    Agents exit with any code; what they have forked may hold the channel open.
    """
    life, theirs = await both()
    heard: list[Message] = []
    life.death.set_result(2)
    assert await asyncio.wait_for(life.wait(heard.append), 5) == 2
    assert heard == []
    theirs.close()


async def test_a_drain_is_asked_for_over_the_channel() -> None:
    """
    An agent may have taken SIGTERM for itself; nothing of ours needs it.
    """
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    try:
        life, theirs = await both()
        stop = asyncio.Event()
        parent = ParentChannel(*await asyncio.open_connection(sock=theirs))
        watching = asyncio.ensure_future(parent.watch(stop))
        life.drain(by_signal=False)
        await asyncio.wait_for(stop.wait(), 5)
        assert not asked.is_set()
        life.drain(by_signal=True)  # to this process
        await asyncio.wait_for(asyncio.gather(watching, asked.wait()), 5)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_the_end_of_the_channel_is_a_drain_too() -> None:
    """
    Without a parent nobody reports what a worker takes from here on.
    """
    life, theirs = await both()
    stop = asyncio.Event()
    parent = ParentChannel(*await asyncio.open_connection(sock=theirs))
    life.channel.write(json.dumps({"sign": "of a later release"}).encode() + b"\n")
    watching = asyncio.ensure_future(parent.watch(stop))
    life.channel.close()
    await asyncio.wait_for(watching, 5)
    assert stop.is_set()
