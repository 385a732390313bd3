"""
What waits for a person and what was given up, by the starter's verbs.
"""

from pathlib import Path

import pytest

from testkit.processes import Home, mission, wait_for

AGENTS = """
from pathlib import Path
from outlast import GiveUp, agent

@agent("digger")
async def digger(given: dict, ctx) -> str:
    done = await ctx.resume(int, 0)
    for step in range(done + 1, 4):
        if step == 3 and not Path(given["key"]).exists():
            raise GiveUp("the gate is locked")
        with open(given["log"], "a") as log:
            print(step, file=log)
        await ctx.save(step)
    return "dug"

@agent("payer")
async def payer(given: dict, ctx) -> str:
    return await ctx.once("pay:7", lambda key, content: "paid", content={"euros": 7})
"""

pytestmark = pytest.mark.timeout(120)


def test_a_person_approves_and_redrives(home: Home, tmp_path: Path) -> None:
    """
    `parked` says what waits and what to do, `approve` does it; `dead-letters` names
    cause, step and command, and `redrive` goes on from that step.
    """
    module = tmp_path / "yard_agents.py"
    module.write_text(AGENTS)
    home.extra["OUTLAST_AGENTS"] = str(module)
    home.fleet(1)
    key, log = tmp_path / "key", tmp_path / "log"
    tasks = [
        {"id": "pay", "role": "payer", "approval": {"before": "effect"}},
        {"id": "dig", "role": "digger", "input": {"key": str(key), "log": str(log)}},
    ]
    path = mission(tmp_path / "yard.yaml", tasks, id="yard")
    starter = home.begin("run", path, "--json")

    (parked,) = wait_for(lambda: home.starter("parked", "--json").json, "what waits")
    told = "approval before its effect: effect 'pay:7': {\"euros\":7}"
    assert parked["waiting_for"] == told
    approve, reject = parked["commands"]
    assert " starter.py approve yard pay --request " in approve
    assert reject == approve.replace("approve", "reject", 1)
    refused = home.starter("approve", "yard", "dig")
    assert "those that do: pay" in refused.err
    assert home.starter("approve", "yard", "pay", "--reason", "fine").code == 0
    assert starter.wait(timeout=60) == 1, "the digger has given up"

    (letter,) = home.starter("dead-letters", "--json").json
    assert (letter["task"], letter["saved"]) == ("dig", 2)
    assert "the gate is locked" in letter["cause"]
    key.touch()
    again = home.run(*letter["redrive"].split()[1:])  # as it is pasted
    assert again.code == 0, again
    assert home.starter("run", path, "--json").json["status"] == "completed"
    assert log.read_text().split() == ["1", "2", "3"]
    assert home.starter("dead-letters", "yard").out == "no dead letters\n"
