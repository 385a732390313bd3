"""
`starter.py crashtest` tells a good agent from one that forgets.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.processes import PROJECT_FOLDER

FAR = "<the far side>"

FORGETFUL = """
from pydantic import BaseModel
from outlast import Context, agent

class Given(BaseModel):
    n: int

@agent("forgetful")
async def forgetful(given: Given, ctx: Context) -> int:
    done = await ctx.resume(int, 0)
    counted = 0
    for number in range(done, given.n):
        counted += 1
        await ctx.save(number + 1)
    return counted
"""


TRUSTING = """
from outlast import Context, agent

@agent("trusting")
async def trusting(given: dict, ctx: Context) -> str:
    try:
        return await ctx.once(
            "mail:1",
            lambda key, sent: "sent",
            content="mail 1",
            if_unsure="repeat",
        )
    except Exception:
        return "told the model that it failed"
"""


def crashtest(agent: str, given: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "starter.py", "crashtest", agent, "--input", str(given)],
        cwd=PROJECT_FOLDER,
        capture_output=True,
        text=True,
        timeout=240,  # each kill is two processes that import all anew
        check=False,
    )


def test_a_good_agent_ends_the_same_from_every_kill(tmp_path: Path) -> None:
    """
    Killed after each save and around its effect, the example agent pays once and
    returns the same.
    """
    payments = tmp_path / "payments.jsonl"
    lines = [{"article": "lamp", "cents": 100, "complaint": "broken"}]
    given = tmp_path / "order.json"
    order = {"id": "17", "lines": lines, "payments": str(payments)}
    given.write_text(json.dumps(order))

    ended = crashtest("examples/refunds.py:refunds", given)

    assert ended.returncode == 0, ended
    assert "3 kills, 0 ends that differ" in ended.stdout
    assert len(payments.read_text().splitlines()) == 1


def test_an_agent_that_forgets_is_found_out(tmp_path: Path) -> None:
    """
    One that resumes its place and not its count ends differently, and is told where.
    """
    module = tmp_path / "forgetful.py"
    module.write_text(FORGETFUL)
    given = tmp_path / "given.json"
    given.write_text('{"n": 2}')

    ended = crashtest(f"{module}:forgetful", given)

    assert ended.returncode == 1, ended
    assert "after save 1" in ended.stdout
    assert "DIFFERS" in ended.stdout


def test_an_agent_that_swallows_a_signal_is_told(tmp_path: Path) -> None:
    """
    It ends the same from every kill; without a person's leave it would go on.
    """
    module = tmp_path / "trusting.py"
    module.write_text(TRUSTING)
    given = tmp_path / "given.json"
    given.write_text("{}")

    ended = crashtest(f"{module}:trusting", given)

    assert ended.returncode == 1, ended
    assert "2 kills, 0 ends that differ" in ended.stdout
    assert "mistake: trusting caught ApprovalNeededError" in ended.stdout


def test_an_agent_that_is_not_there_gets_one_sentence(tmp_path: Path) -> None:
    """
    Bad input is exit code 2.
    """
    given = tmp_path / "given.json"
    given.write_text("{}")
    ended = crashtest("examples/refunds.py:nobody", given)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("example", "given", "kills"),
    [
        ("helpdesk", {"order": "42", "text": "It is broken.", "payments": FAR}, 5),
        ("triage", {"id": "7", "text": "The checkout is down.", "pages": FAR}, 4),
    ],
)
def test_programs_of_other_frameworks_outlast_every_kill(
    tmp_path: Path, example: str, given: dict[str, str], kills: int
) -> None:
    """
    The pydantic-ai and the LangGraph example, killed after each save and around their
    effect: the same result every time, and the far side was asked for one thing.
    """
    far = tmp_path / "far.jsonl"
    path = tmp_path / "given.json"
    path.write_text(json.dumps(given).replace(FAR, str(far)))

    ended = crashtest(f"examples/{example}.py:{example}", path)

    assert ended.returncode == 0, ended
    assert f"{kills} kills, 0 ends that differ" in ended.stdout
    assert len(far.read_text().splitlines()) == 1
