"""Fetching: pinned bytes or one line that says why not; no test touches a network."""

import json
import subprocess
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from pchmr import priors
from pchmr.cli import main
from pchmr.config.priors import FETCHABLE
from pchmr.perception import fetched
from pchmr.perception.fetched import FETCHED, PinnedFile, PriorFileError, read_pinned, state

CONTENTS = {"a.tflite": b"network", "LICENSE": b"text"}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A prior of two small files under the real name, and the folder where it is kept."""
    files = {
        name: PinnedFile(
            member=f"in/{name}", num_bytes=len(data), sha256=sha256(data).hexdigest()
        )
        for name, data in CONTENTS.items()
    }  # fmt: skip
    small = replace(FETCHED["blazepose"], files=files)
    monkeypatch.setitem(fetched.FETCHED, "blazepose", small)
    monkeypatch.setenv("PCHMR_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "priors" / "blazepose"


def wheel(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(f"in/{name}", data)
        archive.writestr("in/rest.so", b"left behind")
    return path


def test_every_pinned_prior_can_be_asked_for() -> None:
    assert tuple(FETCHED) == FETCHABLE


def test_from_a_wheel_only_the_pinned_files_stay(toy: Path, tmp_path: Path, capsys) -> None:
    file = wheel(tmp_path / "x.whl", CONTENTS)
    assert main(["priors", "get", "blazepose", "--file", str(file)]) == 0
    assert {path.name for path in toy.iterdir()} == {*CONTENTS, "provenance.json"}
    told = json.loads((toy / "provenance.json").read_text())
    assert told["license"] == "Apache-2.0" and told["version"] == "0.10.21" and told["scope"]
    assert main(["priors", "list"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("0.10.21", "Apache-2.0", "here", "surveillance"))


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ({"a.tflite": b"network"}, "holds no LICENSE"),
        ({**CONTENTS, "a.tflite": b"netw0rk"}, "another a.tflite"),
        ({**CONTENTS, "a.tflite": b"network" * 1000}, "another a.tflite"),
    ],
)
def test_another_wheel_is_refused_and_nothing_is_kept(
    toy: Path, tmp_path: Path, contents: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(PriorFileError, match=reason):
        priors.get("blazepose", wheel=wheel(tmp_path / "x.whl", contents))
    assert not toy.exists()


def test_what_is_no_wheel_is_told_in_a_line(toy: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "x.whl").write_bytes(b"no archive")
    for file in (tmp_path / "x.whl", tmp_path / "none.whl", tmp_path):
        assert main(["priors", "get", "blazepose", "--file", str(file)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_file_is_checked_at_every_opening_and_fetched_anew(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(PriorFileError, match="pchmr priors get blazepose"):
        read_pinned("blazepose", "a.tflite")
    file = wheel(tmp_path / "x.whl", CONTENTS)
    priors.get("blazepose", wheel=file)
    assert read_pinned("blazepose", "a.tflite") == b"network" and state("blazepose") == "ok"
    (toy / "a.tflite").write_bytes(b"hostile")
    with pytest.raises(PriorFileError, match="another file under this name"):
        read_pinned("blazepose", "a.tflite")
    assert state("blazepose") == "broken"
    priors.get("blazepose", wheel=file)
    assert state("blazepose") == "ok"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("/usr/bin/python: No module named pip", "no pip"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "another mediapipe"),
        ("WARNING: x\nERROR: No matching distribution found", "No matching distribution"),
        ("", "no reason given"),
    ],
)
def test_what_pip_says_becomes_one_line_with_a_cure(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys, said: str, reason: str
) -> None:
    def fail(command, **_):
        return subprocess.CompletedProcess(command, 1, "", said)

    monkeypatch.setattr(subprocess, "run", fail)
    assert main(["priors", "get", "blazepose"]) == 2
    told = capsys.readouterr().err
    assert reason in told and "--file" in told and told.count("\n") == 1


def test_pip_is_asked_for_one_pinned_file_and_nothing_else(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give(command, **_):
        requirements = Path(command[command.index("-r") + 1])
        assert requirements.read_text().count("\n") == 1
        assert FETCHED["blazepose"].wheel_sha256 in requirements.read_text()
        assert {"--no-deps", "--only-binary=:all:", "--require-hashes"} <= set(command)
        wheel(Path(command[-1]) / FETCHED["blazepose"].wheel, CONTENTS)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", give)
    priors.get("blazepose")
    assert state("blazepose") == "ok"


@pytest.mark.parametrize(
    "words", [["get"], ["get", "nothing"], ["list", "blazepose"], ["list", "--file", "x.whl"]]
)
def test_a_wrong_call_is_told_in_a_line(words: list[str], capsys) -> None:
    assert main(["priors", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
