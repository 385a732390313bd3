"""
The ticket job: every reply posted once, while workers and the server are killed.
"""

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from testkit.processes import PROJECT_FOLDER, Home, mission, wait_for

EXAMPLES = PROJECT_FOLDER / "examples"
COPIES = 200
UNANSWERED = {9, *range(27, 33)}  # of the examples, by number


def job(folder: Path, tickets: Path, outbox: Path) -> str:
    handbook = str(EXAMPLES / "handbook")
    where = {"tickets": str(tickets), "handbook": handbook, "outbox": str(outbox)}
    documents = {"documents": handbook}
    tasks = [
        {"id": "shelve", "role": "shelver", "input": documents},
        {
            "id": "index",
            "role": "librarian",
            "input": documents,
            "needs": ["shelve"],
        },
        {"id": "answer", "role": "mailroom", "input": where, "needs": ["index"]},
        {
            "id": "tally",
            "role": "tally",
            "input": {"outbox": str(outbox)},
            "needs": ["answer"],
        },
    ]
    return mission(folder / "tickets.yaml", tasks, id="tickets")


def copies(folder: Path) -> dict[str, int]:
    """
    Write many tickets after the examples; returns the example's number of each.
    """
    folder.mkdir()
    texts = sorted((EXAMPLES / "tickets").iterdir())
    made = {}
    for number in range(COPIES):
        name = f"C-{number:04d}"
        at = number % len(texts)
        (folder / f"{name}.txt").write_text(texts[at].read_text())
        made[name] = at + 1
    return made


def posted(outbox: Path) -> Counter[str]:
    path = outbox / "posted.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(json.loads(line)["key"].rsplit(":", 1)[-1] for line in lines)


@pytest.mark.timeout(240)
def test_each_ticket_is_answered_once_while_all_around_dies(
    home: Home, tmp_path: Path
) -> None:
    """
    200 tickets; agent processes and then the server are killed: each reply that the
    handbook has is in the outbox once, the others wait for a person, by name.
    """
    tickets, outbox = tmp_path / "tickets", tmp_path / "outbox"
    home.extra["OUTLAST_OUTPUT_ROOT"] = str(tmp_path)
    numbers = copies(tickets)
    fleet = home.fleet(processes=2)
    starter = home.begin("run", job(tmp_path, tickets, outbox), "--json")
    wait_for(lambda: posted(outbox), "a first reply")
    dice, kills = random.Random(4), 0
    while starter.poll() is None:
        fleet.kill_one(dice)
        kills += 1
        if kills == 2:
            home.kill_server()
            home.start_server()
        time.sleep(0.5)  # the pace of the faults

    out, err = starter.communicate()
    assert starter.returncode == 0, err
    assert kills >= 3, "the faults hardly fired"
    expected = {name for name, number in numbers.items() if number not in UNANSWERED}
    assert posted(outbox) == dict.fromkeys(expected, 1)
    tally = next(each for each in json.loads(out)["tasks"] if each["id"] == "tally")
    result = tally["result"]
    assert result["tickets"] == COPIES
    assert result["posted"] == len(expected)
    waiting = {each.split(":")[0] for each in result["for_a_person"]}
    assert waiting == set(numbers) - expected
    assert result["not_answered"] == []
    assert home.starter("audit", "--json").code == 0


POISON = """
import os, signal, time
from outlast import Context, agent
from outlast.crew.library import parsing

real = parsing.parse

def parse(file, data=None):
    if file.name == "killer.txt":
        os.kill(os.getpid(), signal.SIGKILL)
    if file.name == "hangs.txt":
        time.sleep(3600)
    return real(file, data)

parsing.parse = parse

@agent("poisoner")
async def poisoner(given: dict, ctx: Context) -> None:
    pass
"""


@pytest.mark.long
@pytest.mark.timeout(180)
def test_documents_that_break_their_parser_are_gaps(home: Home, tmp_path: Path) -> None:
    """
    One document kills the process that reads it, one hangs it: both are named, all
    others are indexed, and the question is answered.
    """
    poison = tmp_path / "poison.py"
    poison.write_text(POISON)
    home.extra["OUTLAST_AGENTS"] = str(poison)
    folder = tmp_path / "documents"
    folder.mkdir()
    for name in ("killer", "hangs", *(f"note-{number}" for number in range(40))):
        (folder / f"{name}.txt").write_text(f"Nothing is said in {name} of keys.\n")
    (folder / "keys.md").write_text("The spare key hangs behind the reception.\n")
    home.fleet(processes=2)

    asked = home.starter(
        *("ask", "Where does the spare key hang?", "--documents", str(folder)),
        *("--json", "--id", "keys"),
        limit_s=120,
    )

    assert asked.code == 0, asked.err
    answer = asked.json
    assert "behind the reception" in answer["answer"]
    gaps = {each["document"]: each["reason"] for each in answer["gaps"]}
    assert set(gaps) == {"killer.txt", "hangs.txt"}
    assert "died 3 times" in gaps["killer.txt"]
    assert "no progress" in gaps["hangs.txt"]
    assert answer["status"] == "degraded"
