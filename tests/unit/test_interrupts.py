"""
The tests of Ctrl-C mean something wherever the suite is started.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

IGNORING = """
import signal, subprocess, sys
from testkit.processes import restore_interrupts

def heeds() -> bool:
    look = "import signal; print(signal.getsignal(signal.SIGINT) is not signal.SIG_IGN)"
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    return told.stdout.strip() == "True"

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `pytest &`
before = heeds()
restore_interrupts()
print(before, heeds())
"""


def test_what_the_suite_starts_heeds_ctrl_c() -> None:
    """
    Also where the suite itself was started in the background, with SIGINT ignored.
    """
    told = subprocess.run(
        [sys.executable, "-c", IGNORING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert told.stdout.split() == ["False", "True"], told.stderr
