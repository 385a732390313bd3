"""
What is ours in a home is nobody else's, whatever the umask is, and no link leads us
elsewhere.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit_fakes import told_in_one_sentence

from outlast.cli import doctor
from outlast.contracts.errors import BadInputError, UnavailableError
from outlast.dev import locks
from outlast.dev.locks import ensure_home, lock, lock_port, locked
from outlast.process import home as homes
from outlast.process.home import (
    MAX_HOME_BYTES,
    require_private,
    require_short,
    why_readable,
)
from outlast.settings import Settings, settings
from outlast.store.database import Store
from outlast.store.private import (
    close_to_others,
    make_folder,
    open_private,
    replace_private,
    require_own_folder,
)


@pytest.fixture
def umask() -> Iterator[None]:
    """
    Takes nothing away, as on a machine set up in haste.
    """
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.usefixtures("umask")
def test_all_that_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    """
    Folders down from the first that was missing, files, and what is written anew.
    """
    deep = tmp_path / "a" / "b"
    make_folder(deep)
    os.close(open_private(deep / "log", os.O_WRONLY))
    replace_private(deep / "stack.json", "{}")
    home = ensure_home(Settings(home=tmp_path / "c" / "home"))

    assert {mode(each) for each in (deep, deep.parent, home, home.parent)} == {0o700}
    assert {mode(each) for each in deep.iterdir()} == {0o600}


@pytest.mark.usefixtures("umask")
def test_the_store_is_its_owners_alone(tmp_path: Path) -> None:
    """
    With its log and index, also where an earlier release has left them open.
    """
    path = tmp_path / "home" / "store.db"
    store = Store(path)
    try:
        assert {each.name for each in path.parent.glob("store.db-*")} != set()
        assert {mode(each) for each in path.parent.iterdir()} == {0o600}
        for each in path.parent.iterdir():
            each.chmod(0o644)
        close_to_others(path)
        assert {mode(each) for each in path.parent.iterdir()} == {0o600}
    finally:
        store.close()


def test_what_an_earlier_release_left_open_is_closed(tmp_path: Path) -> None:
    """
    A folder of ours, and a file that is opened again.
    """
    folder, file = tmp_path / "run", tmp_path / "server.log"
    folder.mkdir(mode=0o755)
    file.touch(0o644)
    require_own_folder(folder)
    os.close(open_private(file, os.O_WRONLY))
    assert (mode(folder), mode(file)) == (0o700, 0o600)


def test_no_link_is_followed(tmp_path: Path) -> None:
    """
    Neither to lock, to write nor to list: what it leads to stays as it is.
    """
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    (theirs / "file").write_text("precious")
    (tmp_path / "link").symlink_to(theirs / "file")
    (tmp_path / "folder").symlink_to(theirs)

    with pytest.raises(OSError, match="link"):
        open_private(tmp_path / "link", os.O_WRONLY | os.O_TRUNC)
    with pytest.raises(PermissionError, match="is a link"):
        require_own_folder(tmp_path / "folder")
    with pytest.raises(UnavailableError) as refused:
        lock(tmp_path / "link", fcntl.LOCK_EX)
    told_in_one_sentence(refused.value)
    assert (theirs / "file").read_text() == "precious"
    assert mode(theirs) == 0o755


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """
    A pipe would be a lock that nobody else sees.
    """
    os.mkfifo(tmp_path / "stack.lock")
    with (
        pytest.raises(UnavailableError, match="no file of ours"),
        locked(tmp_path / "stack.lock"),
    ):
        raise AssertionError


@pytest.mark.parametrize("given", [0o777, 0o770, 0o702, 0o1777, 0o720])
def test_a_home_that_others_can_write_is_refused(tmp_path: Path, given: int) -> None:
    """
    In one sentence, with a command that mends it.
    """
    home = tmp_path / "a home"
    home.mkdir()
    home.chmod(given)
    with pytest.raises(BadInputError) as refused:
        ensure_home(Settings(home=home))
    told = told_in_one_sentence(refused.value)
    command = told.rpartition(": ")[2]
    assert command == f"chmod go-w '{home}'"
    assert os.system(command) == 0
    assert ensure_home(Settings(home=home)) == home


def test_a_home_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its owner can change all that lies in it, whatever its mode.
    """
    monkeypatch.setattr(homes.os, "geteuid", lambda: os.getuid() + 4711)
    with pytest.raises(BadInputError, match=r"belongs to .*sudo chown -R"):
        require_private(tmp_path)


def test_a_home_that_others_can_read_is_said(tmp_path: Path) -> None:
    """
    It may be meant so, and its files are closed all the same.
    """
    for given, said in [(0o700, False), (0o711, False), (0o755, True), (0o740, True)]:
        tmp_path.chmod(given)
        require_private(tmp_path)
        told = why_readable(tmp_path)
        assert (told is not None) is said
        assert not said or (told or "").endswith(f"chmod 700 {tmp_path}")


def test_a_home_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    """
    It is made when something is started, for us alone.
    """
    require_private(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_home_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    """
    A file in its place.
    """
    (tmp_path / "home").touch()
    with pytest.raises(UnavailableError) as refused:
        ensure_home(Settings(home=tmp_path / "home" / "below"))
    assert "OUTLAST_HOME" in told_in_one_sentence(refused.value)


def test_ports_are_locked_where_only_we_can_write() -> None:
    """
    By a name in the shared temporary folder others could hold or squat them.
    """
    folder = locks._state_folder()
    assert folder.lstat().st_uid == os.geteuid()
    assert mode(folder) == 0o700
    port = 4711
    first = lock_port(port)
    assert first is not None
    assert [each for each in folder.iterdir() if each.name.endswith("-4711.lock")]
    assert lock_port(port) is None
    os.close(first)


def test_without_a_folder_of_their_own_a_users_ports_are_locked_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A user whom the machine does not know, as in a container, or whose folder others
    can write.
    """
    monkeypatch.setattr(locks, "settings", lambda: Settings(home=tmp_path / "home"))

    class Known:
        pw_dir = str(tmp_path)

    def unknown(_: int) -> Known:
        raise KeyError

    for found in (unknown, lambda _: Known):
        monkeypatch.setattr(locks.pwd, "getpwuid", found)
        tmp_path.chmod(0o777)
        assert locks._state_folder() == tmp_path / "home"
    tmp_path.chmod(0o700)
    assert locks._state_folder() == tmp_path / locks.STATE_FOLDER


def test_every_process_refuses_a_home_that_others_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As it reads its settings: also a verb that only reads, which would believe what
    others have put there.
    """
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTLAST_HOME", str(tmp_path))
    with pytest.raises(BadInputError, match="chmod go-w"):
        settings.__wrapped__()
    tmp_path.chmod(0o700)
    assert settings.__wrapped__().home == tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a link away")
def test_a_link_of_somebody_else_is_no_home(tmp_path: Path) -> None:
    """
    Though it leads to a folder of ours: they would choose which.
    """
    (tmp_path / "ours").mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "ours")
    require_private(link)
    os.chown(link, 4711, 4711, follow_symlinks=False)
    with pytest.raises(BadInputError, match="belongs to 4711"):
        require_private(link)


def test_a_home_too_far_down_is_one_sentence(tmp_path: Path) -> None:
    """
    SQLite would not open a file there; up to it, it does.
    """

    def deep(length: int) -> Path:
        here = tmp_path
        while (left := length - len(str(here))) > 200:
            here /= "x" * 100
        return here / ("y" * (left - 1))

    require_short(deep(MAX_HOME_BYTES))
    with pytest.raises(BadInputError, match=f"{MAX_HOME_BYTES + 1} bytes"):
        require_short(deep(MAX_HOME_BYTES + 1))
    Store(deep(MAX_HOME_BYTES) / "temporal.db").close()


def test_doctor_says_that_others_can_read_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As a warning, and nothing where there is no home yet.
    """
    home = tmp_path / "home"
    monkeypatch.setattr(doctor, "settings", lambda: Settings(home=home))
    assert not doctor._home().warning
    home.mkdir(mode=0o755)
    assert doctor._home().warning
    home.chmod(0o700)
    assert not doctor._home().warning
