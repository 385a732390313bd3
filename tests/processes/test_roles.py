"""
Fleets that play some roles only, and workers that cannot see the starter's files: two
hosts, as far as one machine allows.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mission_driver import Course

from testkit.postgres import Postgres
from testkit.processes import FleetProcess, Home, mission, wait_for

READERS = {"shelver", "indexer", "librarian", "planner"}
WRITERS = {"researcher", "writer", "reviewer", "publisher"}
TAKEN = {"tasks", "leases", "suspects"}

FILES = {
    "keys.md": "# Keys\n\nThe spare key of the archive hangs behind the reception.\n",
    "heating.txt": "The heating is checked in May.\n",
    "broken.pdf": "%PDF-1.7 this is none",
}
QUESTION = "Where does the spare key of the archive hang?"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def fleet_of(home: Home, roles: set[str], processes: int = 1) -> FleetProcess:
    return home.fleet(processes, "--roles", ",".join(sorted(roles)))


def processes_of(fleet: FleetProcess, kind: str | None = None) -> set[int]:
    found = fleet.health()["processes"]
    return {each["pid"] for each in found if kind in (None, each["kind"])}


def listed(home: Home, fleet: FleetProcess) -> dict[str, set[str]]:
    """
    Ask the starter what the fleet's processes take of which role.
    """
    pids, found = processes_of(fleet), dict[str, set[str]]()
    for each in home.starter("workers", "--json").json:
        if each["pid"] in pids:
            found.setdefault(each["role"], set()).add(each["takes"])
    return found


def test_two_fleets_of_different_roles_finish_one_mission(
    home: Home, documents: Path
) -> None:
    """
    Each plays its own roles and nothing else, of tasks and of leases, and the server's
    list says which those are.
    """
    readers, writers = fleet_of(home, READERS), fleet_of(home, WRITERS)
    asked = home.starter("ask", QUESTION, "--documents", str(documents), "--json")

    assert asked.code == 0, asked.err
    assert "behind the reception" in asked.json["answer"]
    told = home.starter("explain", asked.json["mission"], "--json").json["attempts"]
    played = {each["route"]: each["pid"] for each in told}
    assert set(played) == (READERS | WRITERS) - {"indexer"}
    for roles, fleet in ((READERS, readers), (WRITERS, writers)):
        pids = processes_of(fleet, "agents")
        assert {played[role] for role in roles - {"indexer"}} <= pids
        expected = {**dict.fromkeys(roles, TAKEN), "(workflows)": {"missions"}}
        wait_for(lambda f=fleet, e=expected: listed(home, f) == e, f"{roles}, listed")


def test_a_suspect_runs_alone_where_its_role_is_played(
    home: Home, tmp_path: Path
) -> None:
    """
    The process for suspects of a fleet that does not play the role leaves it alone;
    the killer is convicted in the other one, and its neighbours are done.
    """
    others, own = fleet_of(home, WRITERS), fleet_of(home, {"rehearse"}, processes=2)
    (lonely,) = processes_of(own, "quarantine")
    killer = {"steps": 3, "misbehave": {"step": 2, "how": "crash"}}
    course = Course(home, "suspects", tmp_path)
    course.begin({"killer": killer, "innocent": {"steps": 30}})
    try:
        assert course.ends() == 1
    finally:
        course.leave()

    ended = {each["id"]: each["status"] for each in course.report["tasks"]}
    assert ended == {"killer": "dead", "innocent": "done"}
    assert course.of("killer", "start")[-1]["pid"] == lonely
    assert others.health()["restarts"] == 0


@pytest.mark.parametrize("how", ["option", "environment"])
def test_an_unknown_role_is_refused(home: Home, how: str) -> None:
    """
    One sentence with the roles there are, exit code 2, and nothing is left running.
    """
    if how == "environment":
        home.extra["OUTLAST_ROLES"] = "writer,printer"
    options = ["--roles", "writer,printer"] if how == "option" else []
    said = home.run("worker.py", *options)

    assert said.code == 2, said
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: no agent plays 'printer'; there are clerk, ")
    assert "'writer'" not in line


FAR = "temporal.invalid:7233"
WRITING = [
    ("worker.py",),
    ("starter.py", "ask", "why?", "--documents", "examples/handbook"),
    ("starter.py", "run", "examples/missions/long.yaml"),
    ("starter.py", "batch", "examples/inputs/items.jsonl", "--agent", "rehearse"),
    ("starter.py", "redrive", "night"),
    ("starter.py", "ingest", "examples/handbook"),
]


@pytest.mark.parametrize("command", WRITING, ids=lambda command: " ".join(command[:2]))
def test_a_temporal_elsewhere_and_a_file_are_refused(
    home: Home, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """
    Workers of other hosts would not see the store: one sentence, exit code 2, and not
    even a home is made.
    """
    unmade = tmp_path / "unmade"
    home.extra |= {"TEMPORAL_ADDRESS": FAR, "OUTLAST_HOME": str(unmade)}
    said = home.run(*command)

    assert said.code == 2, said
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: Temporal at {FAR} is not on this machine")
    assert "OUTLAST_SINGLE_HOST" in line
    assert not unmade.exists()


@pytest.mark.parametrize("how", ["option", "environment"])
def test_one_host_with_a_temporal_elsewhere_is_allowed(home: Home, how: str) -> None:
    """
    Whoever says that all are on this host is believed: the next word is that nobody
    answers there, and the workers wait for it.
    """
    home.extra["TEMPORAL_ADDRESS"] = FAR
    if how == "environment":
        home.extra["OUTLAST_SINGLE_HOST"] = "true"
        said = home.run("starter.py", "run", "examples/missions/long.yaml")
        assert f"no Temporal answers at {FAR}" in said.err
        return
    worker = home.start("worker.py", "--single-host")
    try:
        assert worker.stderr is not None
        line = next(each for each in worker.stderr if "Temporal" in each)
        assert f"no Temporal answers at {FAR}" in line
    finally:
        worker.terminate()
        worker.communicate(timeout=30)


def librarian(folder: Path, **source: str) -> str:
    tasks = [{"id": "index", "role": "librarian", "input": source}]
    return mission(folder / "m.yaml", tasks)


def index_of(home: Home, path: str) -> tuple[str, Any]:
    """
    Run the librarian's mission at *path*; returns its status, and result or reasons.
    """
    (task,) = home.starter("run", path, "--json").json["tasks"]
    return task["status"], task["result"] or task["reasons"]


def test_workers_read_below_their_root_alone(
    home: Home, documents: Path, tmp_path: Path
) -> None:
    """
    Inside, by its whole path or from the root: indexed. Elsewhere, by `..` or by a
    link: a dead letter that says why.
    """
    (documents / "out").symlink_to(home.path)
    home.extra["OUTLAST_DOCUMENTS_ROOT"] = str(tmp_path)
    home.fleet(1)
    for inside in (str(documents), documents.name):
        status, index = index_of(home, librarian(tmp_path, documents=inside))
        assert status == "done"
        assert index["documents"] == len(FILES)

    home.extra["OUTLAST_DOCUMENTS_ROOT"] = str(documents)
    for fleet in home.fleets:
        fleet.stop()
    home.fleet(1)
    for outside in (str(tmp_path), "../", str(documents / "out"), "/etc"):
        status, reasons = index_of(home, librarian(tmp_path, documents=outside))
        assert status == "dead"
        assert "is outside OUTLAST_DOCUMENTS_ROOT" in reasons[0]


def test_a_library_is_ingested_once_and_named(
    home: Home, documents: Path, tmp_path: Path
) -> None:
    """
    The starter says its id and what is in it; a mission names it, and works though the
    folder is gone.
    """
    first = home.starter("ingest", str(documents), "--json")
    assert first.code == 0, first.err
    library = first.json["library"]
    counts = {"documents": 3, "indexed": 3, "removed": 0, "gaps": 1}
    assert first.json == {"library": library, **counts}
    again = home.starter("ingest", str(documents), "--json").json
    assert again == {"library": library, **counts, "indexed": 0}
    told = home.starter("ingest", str(documents))
    assert told.out == (
        f"library {library}: 3 documents, 1 of them could not be read\n"
    )
    for each in documents.iterdir():
        each.unlink()

    home.fleet(1)
    status, index = index_of(home, librarian(tmp_path, library=library))
    assert (status, index["documents"]) == ("done", 3)
    assert [gap["document"] for gap in index["gaps"]] == ["broken.pdf"]
    status, reasons = index_of(home, librarian(tmp_path, library="nobody"))
    assert status == "dead"
    assert "outlast ingest" in reasons[0]


@pytest.mark.parametrize("folder", ["nowhere", "README.md"])
def test_a_folder_that_cannot_be_ingested_is_refused(home: Home, folder: str) -> None:
    """
    One sentence, exit code 2.
    """
    said = home.starter("ingest", folder)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1


@pytest.fixture
def far(home: Home, postgres: Postgres, tmp_path: Path) -> Iterator[Home]:
    """
    Another host with workers: it shares server and database with the home, and may
    read no documents at all.
    """
    database = {"OUTLAST_DATABASE_URL": postgres.database()}
    home.extra |= database
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    extra = {**database, "OUTLAST_DOCUMENTS_ROOT": str(nothing)}
    made = Home(tmp_path / "far", home.server, extra)
    yield made
    for fleet in made.fleets:
        fleet.stop()


def test_a_question_is_answered_by_workers_that_see_no_file(
    home: Home, far: Home, documents: Path
) -> None:
    """
    The starter ingests the folder; research and the review of every quotation need
    the store alone; the report is written where the starter is.
    """
    far.fleet(1)
    asked = home.starter(
        *("ask", QUESTION, "--documents", str(documents), "--json", "--id", "far")
    )

    assert asked.code == 0, asked.err
    answer = asked.json
    assert answer["status"] == "completed"
    (citation,) = answer["citations"]
    assert (citation["document"], citation["line"]) == ("keys.md", 3)
    assert citation["verified"] is True
    assert [gap["document"] for gap in answer["gaps"]] == ["broken.pdf"]
    assert Path(answer["report"]).parent == home.path / "reports"
    assert "behind the reception" in Path(answer["report"]).read_text()
    tasks = home.starter("explain", "far", "--json").json["attempts"]
    assert "shelver" not in {each["route"] for each in tasks}
    assert str(documents) not in json.dumps(tasks)
