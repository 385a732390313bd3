"""
The example agent keeps its promises wherever it is killed.
"""

import json
from pathlib import Path

import pytest

import outlast.testing
from examples.refunds import refund

LINES = [
    {"article": "lamp", "cents": 4900, "complaint": "arrived broken"},
    {"article": "cable", "cents": 900, "complaint": "too short"},
]


@pytest.mark.parametrize("kill_after", [None, 1, 2])
async def test_a_refund_is_paid_once_wherever_it_is_killed(
    tmp_path: Path, kill_after: int | None
) -> None:
    """
    The same result, one payment and no line judged twice, with and without a kill.
    """
    payments = tmp_path / "payments.jsonl"
    order = {"id": "17", "lines": LINES, "payments": str(payments)}

    ended = await outlast.testing.run(refund, order, kill_after)

    assert ended.attempts == (1 if kill_after is None else 2)
    assert ended.saves == len(LINES)
    assert isinstance(ended.result, dict)
    assert ended.result["cents"] == 4900 + 450
    paid = [json.loads(line) for line in payments.read_text().splitlines()]
    assert [each["cents"] for each in paid] == [5350]


async def test_a_kill_that_never_came_is_an_error(tmp_path: Path) -> None:
    """
    A trial in which nothing was killed proves nothing.
    """
    order = {"id": "17", "lines": LINES, "payments": str(tmp_path / "payments")}
    with pytest.raises(ValueError, match="before its save 9"):
        await outlast.testing.run(refund, order, kill_after=9)
