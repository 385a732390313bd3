"""
Commands in messages are written as the person who reads them has called the program.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from outlast.cli import app
from outlast.crew import commands
from outlast.process.called import CALLED, as_called, called, worker

ROOT = Path(__file__).parents[2]
LITERAL = re.compile(r"\boutlast ((?:[a-z]+-?)+)(?=[ `\"'{);,])")


@pytest.mark.parametrize(
    ("given", "whole", "client"),
    [
        (["starter.py", "run"], ["python", "starter.py", "run"], "python starter.py"),
        (["../o/worker.py"], ["py", "../o/worker.py"], "py ../o/starter.py"),
        (["/o/__main__.py"], ["py", "-m", "outlast"], "py -m outlast"),
        (["/o/worker.py"], ["py", "-P", "-m", "outlast.worker"], "py -P -m outlast"),
        (["/nowhere/bin/outlast"], ["py", "/nowhere/bin/outlast"], None),
        (["/nowhere/bin/outlast-worker"], ["py", "outlast-worker"], None),
    ],
)
def test_a_call_is_read_as_it_was_typed(
    given: list[str], whole: list[str], client: str | None
) -> None:
    """
    With the interpreter and its options; a program that no PATH finds, with its path.
    """
    assert called(given, whole) == (client or "/nowhere/bin/outlast")


def test_what_the_path_finds_is_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "outlast"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert called([str(program), "dev"], ["py", str(program), "dev"]) == "outlast"


@pytest.mark.parametrize(
    ("client", "workers"),
    [
        ("python starter.py", "python worker.py"),
        ("python -m outlast", "python -m outlast.worker"),
        ("/o/bin/outlast", "/o/bin/outlast-worker"),
        ("docker compose run --rm starter", "outlast-worker"),
    ],
)
def test_commands_are_shown_as_they_are_called(
    monkeypatch: pytest.MonkeyPatch, client: str, workers: str
) -> None:
    """
    Both programs, and nothing else that has their name; shown twice they are the same.
    """
    monkeypatch.setenv(CALLED, client)
    text = "run `outlast status m`, or start outlast-worker; pip install outlast"
    told = as_called(text)
    assert told == (f"run `{client} status m`, or start {workers}; pip install outlast")
    assert as_called(told) == told
    assert worker(client) == workers
    monkeypatch.delenv(CALLED)
    assert as_called(text) == text


@pytest.mark.parametrize("program", ["starter.py", "-m"])
def test_a_message_names_the_command_that_was_typed(
    tmp_path: Path, program: str
) -> None:
    """
    From another folder, by the script and by the module.
    """
    how = [str(ROOT / program)] if program != "-m" else ["-m", "outlast"]
    given = {**os.environ, "PYTHONPATH": str(ROOT), "OUTLAST_HOME": str(tmp_path)}
    said = subprocess.run(
        [sys.executable, *how, "settle", "none", "--did-not-happen"],
        cwd=tmp_path,
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert f"see {sys.executable} {' '.join(how)} effects" in said.stderr
    assert said.returncode == 2


def test_each_command_in_a_message_has_a_verb_that_there_is() -> None:
    """
    What is to be pasted can be.
    """
    engine, crew = (typer.main.get_command(each) for each in (app.app, commands.app))
    verbs = {*engine.commands, *crew.commands}
    named = {
        (file.name, verb)
        for part in ("outlast", "workflows", "activities")
        for file in (ROOT / part).rglob("*.py")
        for text in texts(file)
        for verb in LITERAL.findall(text)
    }
    assert len(named) > 20
    assert [each for each in sorted(named) if each[1] not in verbs] == []


def texts(file: Path) -> list[str]:
    """
    Read the strings in *file*, the fixed parts of f-strings among them.
    """
    nodes = ast.walk(ast.parse(file.read_text()))
    found = [each.value for each in nodes if isinstance(each, ast.Constant)]
    return [each for each in found if isinstance(each, str)]
