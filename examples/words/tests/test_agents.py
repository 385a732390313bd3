"""
The agents, without a server.
"""

import asyncio

from outlast.testing import run

from words.agents import count

TEXTS = ["a crew of agents", "finishes its work", "when anything fails"]


def test_what_was_counted_before_a_kill_is_not_counted_again() -> None:
    ended = asyncio.run(run(count, {"texts": TEXTS}, kill_after=2))
    assert ended.result == {"counts": [4, 3, 3]}
    assert (ended.attempts, ended.saves) == (2, 3)
    assert ended.findings == []
