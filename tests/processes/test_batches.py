"""
Batches on real fleets: items that kill, raise, hang and return too much, processes
killed under them, and the starter as a user meets it.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from outlast.cli.entrypoint import EXIT_INTERRUPTED
from outlast.contracts.sizes import MIB
from outlast.dev.ports import free_port
from outlast.dev.server import DevServer
from testkit.processes import (
    PROJECT_FOLDER,
    CommandResult,
    FleetProcess,
    Home,
    every,
    wait_for,
)

pytestmark = pytest.mark.timeout(120)

AGENTS = """
import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from outlast import Context, agent

HERE = Path(__file__).parent


def log(line: str) -> None:
    with (HERE / "log").open("a") as file:
        file.write(line + "\\n")


@agent("small")
async def small(given: dict[str, Any], ctx: Context) -> Any:
    log(f"{given['n']}")
    await asyncio.sleep(given.get("s", 0))
    if not (HERE / "mended").exists():
        match given.get("how"):
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise RuntimeError(f"cannot do {given['n']}")
            case "hang":
                await asyncio.Event().wait()
            case "large":
                return "x" * 3_000_000
            case "wait":
                while not (HERE / "mended").exists():
                    ctx.emit("waiting")
                    await asyncio.sleep(0.05)
    return {"n": given["n"], "double": 2 * given["n"]}
"""


class Ground:
    """
    A home with a server, the small agent, and files of items.
    """

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        self.folder = folder
        (folder / "small_agents.py").write_text(AGENTS)
        home.extra["OUTLAST_AGENTS"] = str(folder / "small_agents.py")

    def file(self, items: list[dict[str, Any]], name: str = "items.jsonl") -> str:
        path = self.folder / name
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        return str(path)

    def calls(self) -> Counter[int]:
        """
        Count how often each item was played.
        """
        path = self.folder / "log"
        return (
            Counter(map(int, path.read_text().split())) if path.exists() else Counter()
        )

    def mend(self) -> None:
        """
        Let every item from now on do as it should, also those that wait for it.
        """
        (self.folder / "mended").touch()

    def batch(self, items: str, name: str, *more: str) -> tuple[str, ...]:
        return ("batch", items, "--agent", "small", "--id", name, "--json", *more)

    def begin(self, items: str, name: str) -> subprocess.Popen[str]:
        return self.home.begin(*self.batch(items, name))

    def pipe(self, name: str) -> subprocess.Popen[str]:
        """
        Start a batch from a pipe that stays open.
        """
        return subprocess.Popen(
            [sys.executable, "starter.py", *self.batch("-", name)],
            cwd=PROJECT_FOLDER,
            env=self.home.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def results(self, name: str) -> dict[int, Any]:
        """
        Read the results by item, each of which must be there but once and in order.
        """
        said = self.home.starter("results", name)
        assert said.code == 0, said.err
        lines = [json.loads(line) for line in said.out.splitlines()]
        numbers = [line["item"] for line in lines]
        assert numbers == sorted(set(numbers))
        return {line["item"]: line["result"] for line in lines}

    def dead(self, name: str) -> dict[int, dict[str, Any]]:
        said = self.home.starter("dead-letters", name, "--json")
        assert said.code == 0, said.err
        return {each["item"]: each for each in said.json}

    def status(self, name: str) -> dict[str, Any]:
        said = self.home.starter("status", name, "--json")
        assert said.code == 0, said.err
        found: dict[str, Any] = said.json
        return found


def numbered(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"n": number, **more} for number in range(1, count + 1)]


def one_waits(count: int, **more: Any) -> list[dict[str, Any]]:
    """
    Make items of which one is not done before `mend`, however slow everybody else is.
    """
    items = numbered(count, **more)
    items[count // 2]["how"] = "wait"
    return items


def expected(*numbers: int) -> dict[int, Any]:
    return {number: {"n": number, "double": 2 * number} for number in numbers}


def told(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    """
    Wait for a starter's end and read its report.
    """
    out, err = process.communicate(timeout=90)
    assert process.returncode == code, err
    found: dict[str, Any] = json.loads(out)
    return found


def refused(said: CommandResult) -> str:
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) == 1, said.err
    return said.err


@pytest.fixture
def ground(home: Home, tmp_path: Path) -> Ground:
    return Ground(home, tmp_path)


def serverless(tmp_path: Path) -> Ground:
    """
    Make a ground on which nothing runs and nothing is at the server's address.
    """
    return Ground(
        Home(tmp_path / "home", DevServer(tmp_path, free_port(), 0)), tmp_path
    )


def test_processes_killed_under_a_batch_lose_and_double_nothing(
    ground: Ground,
) -> None:
    """
    SIGKILL of an agent process every 0.5 s, also of the one for suspects, of which the
    slow items soon are some: exactly one result an item, none a dead letter, and every
    value its own.
    """
    fleet = ground.home.fleet(processes=2)
    items = numbered(2_000, s=0.004)
    for item in items[5:2_000:200]:
        item["s"] = 0.4
    running = ground.begin(ground.file(items), "killed")
    dice, kills = random.Random(4), 0
    with every(0.5, running) as ticks:
        for _ in ticks:
            fleet.kill_one(dice, "quarantine")
            kills += 1
    report = told(running)

    assert kills >= 3
    assert (report["items"], report["done"], report["dead"]) == (2_000, 2_000, 0)
    assert ground.results("killed") == expected(*range(1, 2_001))


POISON = {7: "kill", 120: "raise", 260: "hang", 401: "large", 402: "kill"}
CAUSES = {
    "kill": "died 3 times: exit report: killed by SIGKILL",
    "raise": "RuntimeError: cannot do",
    "hang": "no progress",
    "large": "over the cap",
}


def test_poison_among_others_is_a_dead_letter_each(ground: Ground) -> None:
    """
    Killers, one that raises, one that hangs and one too large among 500: true causes,
    at most 3 deaths each, and every neighbour done.
    """
    ground.home.extra["OUTLAST_LARGEST_MB"] = "1"
    fleet = ground.home.fleet(processes=2)
    items = numbered(500)
    for number, how in POISON.items():
        items[number - 1]["how"] = how
    report = told(ground.begin(ground.file(items), "poison"))

    assert (report["done"], report["dead"]) == (500 - len(POISON), len(POISON))
    dead = ground.dead("poison")
    assert dead.keys() == POISON.keys()
    for number, how in POISON.items():
        assert CAUSES[how] in dead[number]["cause"]
        assert dead[number]["input"] == items[number - 1]
        # What is in hand beside a killer when it strikes is charged, never convicted.
        deaths = {3} if how == "kill" else {0, 1, 2}
        assert dead[number]["deaths"] in deaths, dead[number]
    assert ground.results("poison") == expected(*(set(range(1, 501)) - POISON.keys()))
    killers = [number for number, how in POISON.items() if how == "kill"]
    assert all(ground.calls()[number] == 3 for number in killers)
    assert fleet.health()["restarts"] <= 3 * len(killers)


def test_the_first_item_may_be_the_killer(ground: Ground) -> None:
    """
    While it is tried alone the rest of its lease goes on undisturbed: nobody else is
    played alone, and what takes long is played once.
    """
    fleet = ground.home.fleet(processes=2)
    items = numbered(12, s=0.3)
    items[0]["how"] = "kill"
    report = told(ground.begin(ground.file(items), "first"))

    assert (report["done"], report["dead"]) == (11, 1)
    assert ground.dead("first").keys() == {1}
    assert fleet.health()["restarts"] == 3
    assert refusals(ground) == 0


def test_an_item_that_raises_costs_its_lease_nothing(ground: Ground) -> None:
    """
    It is played as often as its policy says, and its lease is lent but once: no write
    is refused, and no neighbour is played twice.
    """
    ground.home.fleet(processes=2)
    items = numbered(60)
    items[4]["how"] = "raise"
    report = told(ground.begin(ground.file(items), "raises"))

    assert (report["done"], report["dead"]) == (59, 1)
    assert ground.dead("raises")[5]["failures"] == 4
    assert refusals(ground) == 0
    assert ground.calls() == Counter([*range(1, 61), 5, 5, 5])


def refusals(ground: Ground) -> int:
    """
    Count the writes that were refused because another lease had overtaken theirs.
    """
    with sqlite3.connect(ground.home.path / "store.db") as store:
        return int(store.execute("SELECT count(*) FROM stale_writes").fetchone()[0])


BAD_FILES = {
    "a broken line": ('{"n": 1}\n\n{"n": \n', "line 3"),
    "no object": ('{"n": 1}\n[1]\n', "line 2"),
    "no number": ('{"n": NaN}\n', "line 1"),
    "half a character's bytes": (b'{"n": 1}\n{"n": "\xff"}\n', "line 2"),
    "over the cap": ('{"n": 1}\n{"n": "%s"}\n' % ("x" * MIB), "line 2"),
    "far over the cap": ("%s\n{" % ("x" * 5 * MIB), "line 1"),
    "nested too deep": ('{"n": %s}' % ("[" * 9_000 + "]" * 9_000), "line 1"),
    "empty": ("", "no items"),
    "blank": ("\n \n", "no items"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_refused_before_anything_starts(
    tmp_path: Path, kind: str
) -> None:
    """
    One sentence with the file and the line's number, exit code 2, no home made.
    """
    body, named = BAD_FILES[kind]
    path = tmp_path / "items.jsonl"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    ground = serverless(tmp_path)
    ground.home.extra["OUTLAST_LARGEST_MB"] = "1"
    error = refused(ground.home.starter(*ground.batch(str(path), "b")))
    assert named in error
    assert "items.jsonl" in error
    assert not ground.home.path.exists()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("nowhere.jsonl", "--agent", "small"), "nowhere.jsonl"),
        (("GOOD", "--agent", "nobody"), "nobody"),
        (("GOOD", "--agent", "small", "--id", "no good id"), "id"),
        (("EMPTY", "--agent", "small"), "holds no file"),
    ],
    ids=["missing file", "unknown role", "bad id", "empty folder"],
)
def test_bad_arguments_start_nothing(
    tmp_path: Path, args: tuple[str, ...], named: str
) -> None:
    """
    Said in one sentence before the server is asked.
    """
    ground = serverless(tmp_path)
    (tmp_path / "void").mkdir()
    places = {"GOOD": ground.file(numbered(2)), "EMPTY": str(tmp_path / "void")}
    chosen = [places.get(each, each) for each in args]
    error = refused(ground.home.starter("batch", *chosen))
    assert named in error


@pytest.mark.parametrize("verb", ["results", "dead-letters", "redrive", "status"])
def test_an_unknown_batch_is_refused(tmp_path: Path, verb: str) -> None:
    """
    Its id is named, exit code 2.
    """
    ground = serverless(tmp_path)
    assert "nobody" in refused(ground.home.starter(verb, "nobody"))


def test_what_comes_through_a_pipe(ground: Ground) -> None:
    """
    Items are worked on while the pipe is open; a bad line is a dead letter that names
    its number; the batch ends with the pipe.
    """
    ground.home.fleet(processes=2)
    running = ground.pipe("piped")
    assert running.stdin is not None
    lines = [json.dumps(item) for item in numbered(1_500)]
    lines.insert(2, "garbage")
    running.stdin.write("\n".join(lines) + "\n")
    running.stdin.flush()
    wait_for(ground.calls, "an item while the pipe is open")
    report = told(running)

    assert (report["items"], report["done"], report["dead"]) == (1_501, 1_500, 1)
    (letter,) = ground.dead("piped").values()
    assert "line 3" in letter["cause"]
    assert letter["item"] == 3


@pytest.mark.parametrize("count", [10, 2_500])
def test_an_open_pipe_holds_no_item_up(ground: Ground, count: int) -> None:
    """
    All that has come through a pipe is done soon, whether more comes or not.
    """
    ground.home.fleet(processes=2)
    running = ground.pipe("open")
    assert running.stdin is not None
    for item in numbered(count):
        running.stdin.write(json.dumps(item) + "\n")
    running.stdin.flush()
    try:
        wait_for(lambda: len(ground.calls()) == count, f"{count} items")
    finally:
        running.kill()
        running.communicate()


def test_the_same_id_again_goes_on(ground: Ground) -> None:
    """
    What is done is not done again, the same item in another file neither; the rest is
    added.
    """
    ground.home.fleet(processes=2)
    first = told(ground.begin(ground.file(numbered(50)), "twice"))
    again = told(ground.begin(ground.file(numbered(80)), "twice"))

    assert (first["items"], again["items"]) == (50, 80)
    assert again["done"] == 80
    assert ground.calls() == Counter(range(1, 81))
    assert ground.results("twice") == expected(*range(1, 81))


def test_a_batchs_id_is_for_one_agent(ground: Ground) -> None:
    """
    With another one it is refused, exit code 2.
    """
    ground.home.fleet(processes=1)
    path = ground.file(numbered(3))
    told(ground.begin(path, "mine"))
    other = ground.file([{"steps": 1}])
    error = refused(
        ground.home.starter("batch", other, "--agent", "rehearse", "--id", "mine")
    )
    assert "mine" in error


def test_results_can_be_read_while_it_runs(ground: Ground) -> None:
    """
    Those there are, in order; and how far it is.
    """
    ground.home.fleet(processes=2)
    running = ground.begin(ground.file(one_waits(60)), "reading")
    wait_for(ground.calls, "the first item")
    some = wait_for(lambda: ground.results("reading"), "results")
    status = ground.status("reading")
    assert running.poll() is None
    assert some == expected(*some)
    assert status["status"] == "open"
    assert len(some) <= status["done"] < 60
    ground.mend()
    assert told(running)["done"] == 60


def test_dead_letters_are_redriven_once_the_cause_is_mended(ground: Ground) -> None:
    """
    By cause, by item, and all: what was given up is done then, and no more than that.
    """
    ground.home.extra["OUTLAST_LARGEST_MB"] = "1"
    fleet = ground.home.fleet(processes=2)
    items = numbered(40)
    for number in (3, 9, 20):
        items[number - 1]["how"] = "raise"
    items[29]["how"] = "large"
    report = told(ground.begin(ground.file(items), "mend"))
    assert report["dead"] == 4
    before = ground.calls()
    ground.mend()

    def settled(done: int) -> None:
        wait_for(
            lambda: (
                (s := ground.status("mend"))["done"] == done
                and s["status"] == ("completed")
            ),
            f"{done} done",
        )

    assert ground.home.starter("redrive", "mend", "--item", "9").code == 0
    settled(37)
    assert ground.dead("mend").keys() == {3, 20, 30}
    assert ground.home.starter("redrive", "mend", "--cause", "over the cap").code == 0
    settled(38)
    assert ground.home.starter("redrive", "mend").code == 0
    settled(40)
    assert ground.dead("mend") == {}
    assert ground.results("mend") == expected(*range(1, 41))
    played = ground.calls()
    played.subtract(before)
    assert +played == Counter([3, 9, 20, 30])
    assert ground.home.starter("redrive", "mend").code != 0
    assert fleet.health()["restarts"] == 0


def test_past_the_open_ones_nothing_new_is_taken(ground: Ground) -> None:
    """
    Refused in one sentence that names the setting; what is open goes on.
    """
    ground.home.extra["OUTLAST_MAX_OPEN"] = "1"
    path = ground.file(numbered(5))
    first = ground.begin(path, "one")
    wait_for(lambda: ground.home.starter("status", "one").code == 0, "the first batch")
    error = refused(ground.home.starter(*ground.batch(path, "two")))
    assert "OUTLAST_MAX_OPEN" in error
    ground.home.fleet(processes=1)
    assert told(first)["done"] == 5
    assert ground.home.starter(*ground.batch(path, "two")).json["done"] == 5


def test_a_batch_waits_for_workers(ground: Ground) -> None:
    """
    With no worker alive it loses nothing, and is done once there is one.
    """
    running = ground.begin(ground.file(numbered(100)), "waits")
    wait_for(lambda: ground.home.starter("status", "waits").code == 0, "the batch")
    wait_for(lambda: ground.status("waits")["items"] == 100, "its items")
    assert ground.results("waits") == {}
    assert running.poll() is None
    ground.home.fleet(processes=1)
    report = told(running)
    assert (report["done"], report["dead"]) == (100, 0)


def interrupt(running: subprocess.Popen[str]) -> str:
    """
    Press Ctrl-C; returns what was said of it.
    """
    running.send_signal(signal.SIGINT)
    try:
        running.wait(timeout=15)  # with its standard input as it was
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    finally:
        _, err = running.communicate()
    assert running.returncode == EXIT_INTERRUPTED, err
    return err


def test_ctrl_c_keeps_the_batch(ground: Ground) -> None:
    """
    What has come goes on without the starter, and the same command follows it again.
    """
    path = ground.file(numbered(60, s=0.05))
    running = ground.begin(path, "kept")
    wait_for(lambda: ground.home.starter("status", "kept").code == 0, "the batch")
    wait_for(lambda: ground.status("kept")["items"] == 60, "its items")
    assert "kept" in interrupt(running)
    ground.home.fleet(processes=2)
    report = told(ground.begin(path, "kept"))
    assert report["done"] == 60
    assert ground.results("kept") == expected(*range(1, 61))
    assert set(ground.calls().values()) == {1}


def test_ctrl_c_ends_a_starter_whose_pipe_is_open(ground: Ground) -> None:
    """
    It does not wait for a line that may never come.
    """
    running = ground.pipe("idle")
    assert running.stdin is not None
    running.stdin.write('{"n": 1}\n')
    running.stdin.flush()
    wait_for(lambda: ground.home.starter("status", "idle").code == 0, "the batch")
    interrupt(running)


def test_odd_items_do_not_end_a_batch(ground: Ground) -> None:
    """
    What a parser may stumble over: half a character, deep nesting. Their neighbours
    are done, and each of them is done or a dead letter.
    """
    ground.home.fleet(processes=1)
    deep = '{"n": 4, "deep": %s}' % ("[" * 300 + "]" * 300)
    path = ground.folder / "odd.jsonl"
    half = '{"n": 2, "name": "\\ud800"}'
    path.write_text("\n".join(['{"n": 1}', half, '{"n": 3}', deep]))
    running = ground.begin(str(path), "odd")
    try:
        out, err = running.communicate(timeout=45)
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        raise
    if running.returncode == 2:
        assert "line" in err
        return
    report = json.loads(out)
    assert not report["cancelled"]
    assert report["done"] + report["dead"] == 4
    assert {1, 3} <= ground.results("odd").keys()


def test_a_cancelled_batch_says_so(ground: Ground) -> None:
    """
    Cancelled by its id: the starter that follows it fails, what is done is kept, and
    the same id goes on.
    """
    ground.home.fleet(processes=2)
    path = ground.file(one_waits(60))
    running = ground.begin(path, "ended")
    wait_for(ground.calls, "the first item")
    wait_for(lambda: ground.results("ended"), "results")
    assert ground.home.starter("cancel", "ended").code == 0
    report = told(running, code=1)
    assert report["cancelled"]
    assert report["done"] == len(ground.results("ended"))
    ground.mend()
    assert told(ground.begin(path, "ended"))["done"] == 60


def test_agents_that_take_long_for_each_item_are_waited_for(ground: Ground) -> None:
    """
    4 s an item, without a word in between, as a model takes: no item is a hang.
    """
    ground.home.fleet(processes=1)
    report = told(ground.begin(ground.file(numbered(6, s=4.0)), "slow"))
    assert (report["done"], report["dead"]) == (6, 0), ground.dead("slow")
    assert set(ground.calls().values()) == {1}


def kill_agents(fleet: FleetProcess) -> None:
    for pid in fleet.pids("agents"):
        os.kill(pid, signal.SIGKILL)


def test_a_lost_fleet_is_replaced(ground: Ground) -> None:
    """
    All agent processes at once, then the whole fleet: another one goes on, one result
    an item.
    """
    lost = ground.home.fleet(processes=2)
    running = ground.begin(ground.file(one_waits(400, s=0.01)), "lost")
    wait_for(ground.calls, "the first item")
    kill_agents(lost)
    wait_for(lambda: lost.pids("agents"), "new processes")
    lost.process.kill()
    lost.process.wait()
    ground.home.fleet(processes=2)
    ground.mend()
    assert told(running)["done"] == 400
    assert ground.results("lost") == expected(*range(1, 401))
