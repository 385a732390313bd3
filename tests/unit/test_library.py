"""
The index of a folder follows the folder, and survives being stopped anywhere.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlast.crew.library import index, library
from outlast.crew.library.folder import scan
from outlast.crew.library.index import gaps
from outlast.crew.library.library import library_id, update
from outlast.crew.library.search import search
from outlast.store.database import Store
from tests.unit.document_fakes import folder_of

FILES = {"a.md": "Apples are red.", "sub/b.txt": "Bananas are yellow."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "documents", FILES)


async def indexed(store: Store, folder: Path) -> tuple[int, int]:
    """
    Bring the index up to date; how many files were indexed and how many removed.
    """
    name = library_id("tenant", folder)
    batches = [batch async for batch in update(store, name, folder)]
    return sum(b.indexed for b in batches), sum(b.removed for b in batches)


def found(store: Store, folder: Path, words: str) -> list[str]:
    hits = search(store, library_id("tenant", folder), words)
    return [hit.document for hit in hits]


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
async def test_what_did_not_change_is_not_touched(store: Store, folder: Path) -> None:
    """
    A second run reads no file and opens no write transaction.
    """
    assert await indexed(store, folder) == (2, 0)
    with store.read() as connection:
        before = connection.exec_driver_sql("PRAGMA data_version").scalar()
        changes = connection.exec_driver_sql("SELECT total_changes()").scalar()

    assert await indexed(store, folder) == (0, 0)
    with store.read() as connection:
        after = connection.exec_driver_sql("PRAGMA data_version").scalar()
        assert connection.exec_driver_sql("SELECT total_changes()").scalar() == changes
    assert before == after


async def test_changed_and_removed_files_are_followed(
    store: Store, folder: Path
) -> None:
    """
    What a file said before is not found any more, nor is a file that is gone.
    """
    await indexed(store, folder)
    (folder / "a.md").write_text("Cherries are dark.")
    (folder / "sub/b.txt").unlink()

    assert await indexed(store, folder) == (1, 1)
    assert found(store, folder, "apples bananas") == []
    assert found(store, folder, "cherries") == ["a.md"]


async def test_the_same_content_at_another_time_is_no_change(
    store: Store, folder: Path
) -> None:
    """
    A file that was only touched is not parsed again, and not even read a third time.
    """
    await indexed(store, folder)
    os.utime(folder / "a.md", ns=(1, 1))

    assert await indexed(store, folder) == (0, 0)
    assert index.known_files(store, _name(folder))["a.md"].mtime_ns == 1


async def test_a_file_that_cannot_be_read_is_a_gap_until_it_can(
    store: Store, folder: Path
) -> None:
    """
    A gap has its reason, and goes when the file is mended.
    """
    (folder / "broken.pdf").write_bytes(b"%PDF broken")
    await indexed(store, folder)
    ((document, reason),) = gaps(store, _name(folder))
    assert document == "broken.pdf"
    assert reason.startswith("is damaged")

    (folder / "broken.pdf").unlink()
    await indexed(store, folder)
    assert gaps(store, _name(folder)) == []


async def test_stopped_between_batches_it_goes_on(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Stopped after any batch and run again, each file has been parsed just once.
    """
    monkeypatch.setattr(library, "STEP_FILES", 1)
    folder_of(folder, {f"{n}.txt": f"Number {n}." for n in range(5)})
    done = 0
    async for batch in update(store, _name(folder), folder):
        done += batch.indexed
        if done == 3:
            break

    assert await indexed(store, folder) == (7 - done, 0)
    assert len(found(store, folder, "number")) == 5


async def test_a_batch_that_fails_leaves_nothing_half_done(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A batch is in the index whole or not at all.
    """

    def fails(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(index, "_row", fails)
        with pytest.raises(RuntimeError):
            await indexed(store, folder)
    assert index.documents_of(store, _name(folder)) == 0
    assert await indexed(store, folder) == (2, 0)


async def test_libraries_do_not_see_each_other(store: Store, folder: Path) -> None:
    """
    The same folder is another library for another tenant, and forgotten alone.
    """
    other = library_id("other", folder)
    await indexed(store, folder)
    async for _ in update(store, other, folder):
        pass
    index.forget(store, _name(folder))

    assert found(store, folder, "apples") == []
    assert len(search(store, other, "apples")) == 1


async def test_a_folder_that_is_gone_loses_no_index(store: Store, folder: Path) -> None:
    """
    A folder that cannot be read is an error, never an empty folder.
    """
    await indexed(store, folder)
    name = _name(folder)
    with pytest.raises(OSError, match="No such file"):
        _ = [batch async for batch in update(store, name, folder / "gone")]

    assert found(store, folder, "apples") == ["a.md"]


def test_links_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    """
    Nothing outside the folder is listed, nothing hidden, and no circle goes on.
    """
    folder_of(tmp_path, {"outside/secret.txt": "x", "in/.hidden.txt": "x"})
    inside = folder_of(tmp_path / "in", {"b/real.txt": "x", "a.txt": "x", "c.png": "x"})
    (inside / "leak.txt").symlink_to(tmp_path / "outside/secret.txt")
    (inside / "leaks").symlink_to(tmp_path / "outside")
    (inside / "b/circle").symlink_to(inside)
    (inside / "current.txt").symlink_to(inside / ".hidden.txt")

    assert [each.path for each in scan(inside)] == [
        "a.txt",
        "b/real.txt",
        "current.txt",
    ]


def test_a_name_that_is_no_text_is_listed_with_its_problem(tmp_path: Path) -> None:
    """
    A file whose name is not UTF-8 is not passed over in silence.
    """
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")

    (listed,) = scan(tmp_path)
    assert listed.problem == "has a name that is not UTF-8"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abcde"), st.sampled_from(["apple", "pear", "fig"])
        ),
        max_size=5,
    )
)
async def test_after_any_history_the_index_is_as_if_built_anew(
    tmp_path_factory: pytest.TempPathFactory, history: list[dict[str, str]]
) -> None:
    """
    However the folder came to be what it is, the index says what is in it now.
    """
    folder = tmp_path_factory.mktemp("history")
    store = Store(tmp_path_factory.mktemp("store") / "store.db")
    for number, state in enumerate(history):
        for file in folder.iterdir():
            file.unlink()
        for name, word in state.items():
            (folder / f"{name}.txt").write_text(f"{word} {number}")
        await indexed(store, folder)
        for word in ("apple", "pear", "fig"):
            expected = sorted(f"{n}.txt" for n, w in state.items() if w == word)
            assert sorted(found(store, folder, word)) == expected
    store.close()


def _name(folder: Path) -> str:
    return library_id("tenant", folder)
