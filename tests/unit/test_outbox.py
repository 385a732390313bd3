"""
The example's outbox honours its key, whatever moment a process dies at.
"""

import json
import os
from pathlib import Path

import pytest

from outlast.crew.tickets import post


def keys(outbox: Path) -> list[str]:
    lines = (outbox / "posted.jsonl").read_text().splitlines()
    return [json.loads(line)["key"] for line in lines]


def die_within(act: str, path: Path) -> None:
    """
    Post in a process of its own that ends within *act*.
    """
    pid = os.fork()
    if pid == 0:
        from outlast.crew import tickets

        def dying(*given: object) -> None:
            if act == "after the reply":
                written(*given)
            os._exit(9)

        written, tickets.write = tickets.write, dying  # type: ignore[assignment]
        post(path, "k1", "the reply")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.parametrize("act", ["before the reply", "after the reply"])
def test_what_a_death_has_left_half_posted_is_posted_once(
    tmp_path: Path, act: str
) -> None:
    """
    A reply that lies there without its line in the log was not posted yet.
    """
    path = tmp_path / "outbox" / "a.txt"
    die_within(act, path)
    for _ in range(2):
        assert post(path, "k1", "the reply") == str(path)
    assert path.read_text() == "the reply"
    assert keys(path.parent) == ["k1"]


def test_a_key_is_found_whole(tmp_path: Path) -> None:
    """
    Not as the beginning of another one.
    """
    post(tmp_path / "k1.txt", "k1", "a reply")
    (tmp_path / "k.txt").write_text("half a post")
    for _ in range(2):
        post(tmp_path / "k.txt", "k", "a reply")
    assert keys(tmp_path) == ["k1", "k"]
