"""
A value of many parts is written in a thread; a small one where it is, in no time.
"""

import threading
from typing import Any

import pytest

from outlast.execution.codec import Codec, off_loop
from outlast.execution.encoder import MAX_QUICK_CHECK_BYTES

MANY: list[Any] = [{"n": at} for at in range(MAX_QUICK_CHECK_BYTES // 10)]


@pytest.mark.parametrize(
    ("value", "here"), [(MANY, False), (MANY[:10], True)], ids=["many", "few"]
)
async def test_only_a_long_look_is_taken_elsewhere(
    value: list[Any], here: bool
) -> None:
    """
    Millions of parts hold whoever looks at them for seconds: not the event loop, on
    which the neighbours beat.
    """
    where: list[int] = []

    def write(quickly: bool, value: Any) -> bytes:
        body = Codec().result(value, quickly=quickly)
        where.append(threading.get_ident())
        return body

    assert await off_loop(write, value) == Codec().result(value)
    assert (where == [threading.get_ident()]) is here


async def test_what_a_thread_raises_is_told_alone() -> None:
    """
    That it was first tried here is nothing for whoever reads the traceback.
    """

    def write(quickly: bool, value: list[Any]) -> bytes:
        Codec().result(value, quickly=quickly)
        raise ValueError("over the cap")

    with pytest.raises(ValueError, match="over the cap") as refusal:
        await off_loop(write, MANY)
    assert refusal.value.__context__ is None
