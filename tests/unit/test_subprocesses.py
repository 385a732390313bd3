"""
What a worker has started dies with it, however it was started, and nothing else does.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outlast.fleet.subprocesses import SUBPROCESS_END_S

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no subreaper")
pytestmark = [LINUX, pytest.mark.timeout(30)]

SPAWNER = """
import json, os, signal, subprocess, sys, time
from outlast.fleet.subprocesses import (
    WorkerMarks, become_subreaper, set_mark, children, new_mark
)

def sleeper(*before, **options):
    return subprocess.Popen([*before, "sleep", "60"], **options).pid

def daemon():
    "Start one whose parent is gone while the worker lives."
    line = "setsid sleep 60 >/dev/null & echo $!"
    told = subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE, env={})
    return int(told.stdout)

def forking():
    "Fork every 2 ms, each alive for a moment; ends by itself, whatever happens."
    if os.fork() == 0:
        os.setsid()
        until = time.monotonic() + 2
        while time.monotonic() < until:
            if os.fork():
                time.sleep(0.002)
                os._exit(0)
            time.sleep(0.002)
        os._exit(0)

def worker(started):
    mark, (reading, writing) = new_mark(), os.pipe()
    pid = os.fork()
    if pid == 0:
        set_mark(mark)
        told = [start() for start in started]
        os.write(writing, json.dumps(told).encode())
        time.sleep(60)
        os._exit(0)
    workers.add(pid, mark)
    return pid, json.loads(os.read(reading, 4096))

def alive(pids):
    states = []
    for pid in pids:
        try:
            states.append(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0])
        except OSError:
            states.append("gone")
    return [state not in ("gone", "Z", "X") for state in states]

become_subreaper()
workers = WorkerMarks()
stranger = sleeper()  # of a module, at import
"""


def told_by(script: str) -> dict[str, Any]:
    """
    Run *script* after the spawner's lines; returns the JSON that it prints.
    """
    done = subprocess.run(
        [sys.executable, "-c", SPAWNER + script],
        cwd=ROOT,
        capture_output=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout))


def test_all_that_a_worker_started_dies_with_it() -> None:
    """
    Plain children, new sessions, an empty environment, daemons that left before: dead
    and reaped before the worker is; a neighbour's and a module's processes live on.
    """
    told = told_by("""
ways = [sleeper, lambda: sleeper("setsid"), lambda: sleeper("env", "-i"), daemon,
        lambda: sleeper("sh", "-c", "sleep 61 & wait #")]
dying, theirs = worker(ways)
neighbour, others = worker([sleeper, daemon])
os.kill(dying, signal.SIGKILL)
os.waitid(os.P_PID, dying, os.WEXITED | os.WNOWAIT)
began = time.monotonic()
code = workers.reap(dying)
took = time.monotonic() - began
list(workers.reap_dead())
print(json.dumps({
    "code": code, "theirs": alive(theirs), "others": alive([*others, stranger]),
    "took": took, "children": sorted(children()),
    "expected": sorted([neighbour, stranger, others[1]]),
}))
os.kill(neighbour, signal.SIGKILL)
workers.reap(neighbour)
os.kill(stranger, signal.SIGKILL)
""")
    assert told["code"] == -9
    assert told["theirs"] == [False] * 5
    assert told["others"] == [True] * 3
    assert told["children"] == told["expected"]
    assert told["took"] < 5 * SUBPROCESS_END_S


def test_what_forks_while_it_is_killed_is_killed_too() -> None:
    """
    Looked for again until nothing is found.
    """
    told = told_by("""
dying, _ = worker([forking])
time.sleep(0.05)
os.kill(dying, signal.SIGKILL)
workers.reap(dying)
list(workers.reap_dead())
os.kill(stranger, signal.SIGKILL)
print(json.dumps({"left": [pid for pid in children() if pid != stranger]}))
""")
    assert told["left"] == []


def test_a_worker_without_offspring_costs_one_look() -> None:
    """
    At our own children: the next attempt waits for it.
    """
    told = told_by("""
import statistics
from outlast.fleet import subprocesses
took, looked = [], []
find = subprocesses._carriers
subprocesses._carriers = lambda mark: looked.append(1) or find(mark)
for _ in range(30):
    dying, _ = worker([])
    os.kill(dying, signal.SIGKILL)
    os.waitid(os.P_PID, dying, os.WEXITED | os.WNOWAIT)
    began = time.perf_counter()
    workers.reap(dying)
    took.append(time.perf_counter() - began)
os.kill(stranger, signal.SIGKILL)
print(json.dumps({"ms": 1e3 * statistics.median(took), "looked": len(looked)}))
""")
    assert told["looked"] == 30
    assert told["ms"] < 1.0


def test_strays_of_a_live_worker_are_reaped() -> None:
    """
    A daemon that has ended leaves no zombie, while the spawner's own children and the
    workers are left to whoever waits for them.
    """
    told = told_by("""
parent, (lost,) = worker([daemon])
own = subprocess.Popen(["true"])
os.kill(lost, signal.SIGKILL)
limit = time.monotonic() + 10
while lost in children() and time.monotonic() < limit:
    workers.reap_adopted()
left = lost in children()
os.kill(parent, signal.SIGKILL)
os.waitid(os.P_PID, parent, os.WEXITED | os.WNOWAIT)
workers.reap_adopted()
code = workers.reap(parent)
os.kill(stranger, signal.SIGKILL)
print(json.dumps({"left": left, "own": own.wait(), "code": code}))
""")
    assert told == {"left": False, "own": 0, "code": -9}
