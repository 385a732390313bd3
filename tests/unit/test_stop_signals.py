"""
What a closed terminal does, and what it does not under nohup.
"""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from outlast.process.stop_signals import STOP_SIGNALS, ignore_hangup, on_stop


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """
    Leaves this process's handlers as they were.
    """
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def heard(number: signal.Signals) -> bool:
    """
    Say whether the signal *number* asks us to end.
    """
    came = asyncio.Event()
    on_stop(came.set)
    try:
        os.kill(os.getpid(), number)
        await asyncio.sleep(0)
        async with asyncio.timeout(0.2):
            await came.wait()
    except TimeoutError:
        return False
    finally:
        for each in STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)
    return True


@pytest.mark.parametrize("number", STOP_SIGNALS)
async def test_each_of_them_asks_to_end(number: signal.Signals) -> None:
    """
    A closed terminal, too.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert await heard(number)


async def test_a_hangup_that_was_ignored_stays_ignored() -> None:
    """
    As `nohup` wants it, also for what we start.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert not await heard(signal.SIGHUP)
    ignore_hangup()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_worker_leaves_the_end_to_its_parent() -> None:
    """
    It outlives the signal, and what it starts does not inherit that.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    ignore_hangup()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
