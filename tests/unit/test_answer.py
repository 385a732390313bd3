"""
What stands on standard output with --json.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

LOUD = """
import os, subprocess, sys, threading, time
from outlast.process.json_output import print_json_answer, reserve_stdout
from outlast.process.safe_output import make_streams_safe
make_streams_safe()
reserve_stdout()
reserve_stdout()  # a command within a command

def chatter():
    while True:
        print("chatter")
        os.write(1, b"raw\\n")
        time.sleep(0.001)

threading.Thread(target=chatter, daemon=True).start()
subprocess.run(["echo", "a child"])
print("thinking", file=sys.__stdout__, flush=True)
time.sleep(0.05)
print_json_answer({"said": "\\x1b]0;owned\\x07 \\udc80 é"})
time.sleep(0.05)
os._exit(0)
"""


def test_there_is_one_json_object_whatever_is_printed() -> None:
    """
    What modules, their threads and processes print goes to standard error, before and
    after the print_json_answer.
    """
    ended = subprocess.run(
        [sys.executable, "-c", LOUD],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=50,
    )
    told = json.loads(ended.stdout)
    assert told == {"said": "\x1b]0;owned\x07 \udc80 é"}
    for noise in (b"chatter", b"raw", b"a child", b"thinking"):
        assert noise in ended.stderr
