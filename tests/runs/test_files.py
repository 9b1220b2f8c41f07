"""Modes from the moment a file is made, what is swept, and who may enter a folder."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from pchmr.config import SettingError
from pchmr.runs import locked, make_folder, make_private, replacing, shipped, sweep, write_bytes
from pchmr.runs.hashes import PACKAGE, ShippedFileError, shipped_hashes


@pytest.fixture(autouse=True)
def usual_mask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_into_a_private_folder_is_private_from_the_start(tmp_path: Path) -> None:
    make_private(tmp_path / "own", "--output")
    with replacing(tmp_path / "own" / "below" / "x.npz") as temporary:
        assert mode(temporary) == 0o600
        save_file({}, temporary)
    for path in (tmp_path / "own", tmp_path / "own" / "below"):
        assert mode(path) == 0o700
    assert mode(tmp_path / "own" / "below" / "x.npz") == 0o600
    make_folder(tmp_path / "open", private=False)
    write_bytes(tmp_path / "open" / "below" / "x", b"")
    assert mode(tmp_path / "open" / "below") == 0o755
    assert mode(tmp_path / "open" / "below" / "x") == 0o644
    write_bytes(tmp_path / "open" / "page", b"", private=True)
    assert mode(tmp_path / "open" / "page") == 0o600


def test_a_folder_that_others_read_becomes_private_only_if_it_is_ours(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    make_folder(folder, private=False)
    write_bytes(folder / "letter.txt", b"")
    with pytest.raises(SettingError, match=r"already holds letter\.txt"):
        make_private(folder, "--output", marks=("manifest.jsonl",))
    assert mode(folder) == 0o755
    write_bytes(folder / "manifest.jsonl", b"")
    make_private(folder, "--output", marks=("manifest.jsonl",))
    assert mode(folder) == 0o700 and mode(folder / "letter.txt") == 0o600


def test_only_what_dead_processes_were_writing_is_swept(tmp_path: Path, gone: int) -> None:
    parent = os.getppid()
    names = [f".x.{gone}.tmp", f".y.{parent}.tmp", ".own.tmp", f"x.{gone}.tmp"]
    for name in names:
        write_bytes(tmp_path / name, b"")
    (tmp_path / "below" / f".d.{gone}.tmp").mkdir(parents=True)
    sweep(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == sorted([*names[1:], "below"])


def test_a_full_disk_while_tensors_are_written_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingError, match=r"cannot write .*free some space"),
        replacing(tmp_path / "model.safetensors") as temporary,
    ):
        save_file({}, temporary / "no folder")
    with pytest.raises(SettingError, match="No space left"), replacing(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def holder(folder: Path) -> int:
    """A child process that holds the folder until it is killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(folder):
            os.write(write, b"held")
            time.sleep(60)
        os._exit(0)
    assert os.read(read, 4) == b"held"
    return child


def test_a_second_process_is_told_and_a_killed_one_locks_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    child = holder(folder)
    try:
        with (
            pytest.raises(SettingError, match=r"another process works in .*/run: wait"),
            locked(folder),
        ):
            pass
        with locked(folder, ".other.lock"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with locked(folder), locked(folder):
        write_bytes(folder / "x", b"")
    assert [path.name for path in folder.iterdir()] == ["x"]


def test_a_folder_in_which_nothing_was_written_goes_again(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_shipped_files_are_what_was_recorded() -> None:
    """After an asset was made anew: `python -m pchmr.workshop.shipped`."""
    hashes = shipped_hashes()
    assert len(hashes) >= 10
    for name in hashes:
        assert shipped(PACKAGE / name) == PACKAGE / name


def test_a_shipped_file_with_another_bit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "models/weights/tore_xs.json"
    content = bytearray((PACKAGE / name).read_bytes())
    content[100] ^= 4
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(content)
    assert shipped(tmp_path / name) == tmp_path / name  # a user's own file
    shipped.cache_clear()
    monkeypatch.setattr("pchmr.runs.hashes.PACKAGE", tmp_path)
    with pytest.raises(ShippedFileError, match=r"tore_xs\.json is not the file .*install"):
        shipped(tmp_path / name)
    shipped.cache_clear()
