"""
What an agent forks has nothing of the worker's.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

WORKER = """
import asyncio, json, multiprocessing, os, signal, socket, threading, time
from outlast.fleet.after_fork import close_in_forked

def idle():
    time.sleep(60)

def fork_and_end():
    "At once: often before the child has come to its first line."
    codes = set()
    for _ in range(30):
        child = multiprocessing.get_context("fork").Process(target=idle)
        child.start()
        child.terminate()
        child.join(5)
        codes.add(child.exitcode)
        child.kill()
    return [str(code) for code in codes]

def seen(report):
    "Fork and tell what the child finds."
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps(report()).encode())
        os._exit(0)
    return json.loads(os.read(reading, 4096))

async def main():
    signalled, let_go = [], []
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: signalled.append(1))
    signal.signal(signal.SIGINT, lambda *_: None)
    close_in_forked([ours], lambda: let_go.append(1))
    code = await asyncio.to_thread(fork_and_end)
    await asyncio.sleep(0.1)
    found = await asyncio.to_thread(seen, lambda: {
        "channel": ours.fileno(), "let_go": let_go,
        "default": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    })
    signal.signal(signal.SIGTERM, idle)  # an agent's own
    theirs_stays = seen(lambda: signal.getsignal(signal.SIGTERM) is idle)
    print(json.dumps([code, signalled, let_go, found, theirs_stays]))

asyncio.run(main())
"""


def test_a_forked_process_ends_by_sigterm_and_its_worker_hears_nothing() -> None:
    """
    Neither our handlers, nor the wakeup fd of the event loop, nor channel and recorder
    are left to it, forked from a thread or not; handlers of the agent's own are.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORKER],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    code, signalled, let_go, found, theirs_stays = json.loads(done.stdout)
    assert code == ["-15"]
    assert signalled == let_go == []
    assert found == {"channel": -1, "let_go": [1], "default": True}
    assert theirs_stays
