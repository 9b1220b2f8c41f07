from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pchmr import doctor
from pchmr.config import DoctorConfig
from pchmr.config.verbs import SETS
from pchmr.data import licensed
from pchmr.data.licensed import LICENSED, find_licensed, search_roots
from pchmr.evaluation.protocols import PROTOCOLS


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, wide lines, no variables that point elsewhere."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("PCHMR_DATA", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def fill(root: Path) -> None:
    """One stand-in, of any content, for every licensed item."""
    for name in (
        "smpl/SMPL_NEUTRAL.pkl",
        "smpl/basicmodel_m_lbs_10_207_0_v1.1.0.pkl",
        "smpl/SMPL_FEMALE.npz",
        "J_regressor_h36m_correct.npy",
        "mesh_downsampling.npz",
        "FastMETRO-S-R50_h36m_state_dict.bin",
        "resnet50-0676ba61.pth",
        "datasets/3DPW/sequenceFiles/test.pkl",
        "datasets/3DPW/imageFiles/a.jpg",
        "datasets/any name/P0/09_walk/P0_09_walk_data.pkl",
        "datasets/h36m/annotations/Human36M_subject1_data.json",
        "datasets/human3.6m/train.img.tsv",
        "datasets/human3.6m/train.yaml",
        "datasets/CMU/01_01_poses.npz",
        "datasets/motion/01_01.bvh",
        "datasets/mine/truth.npz",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    columns = dict.fromkeys(("imgname", "center", "scale"), np.zeros(0))
    np.savez(root / "datasets" / "labels.npz", **columns)


def test_doctor_names_what_is_missing_where_it_looked_and_what_it_enables(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor.run(DoctorConfig())
    text = capsys.readouterr().out
    for name, item in LICENSED.items():
        assert name in text and item.enables in text and item.source in text
    assert f"{home / '.pchmr'}  (does not exist)" in text
    assert "torch 2" in text.replace("torch, ", "") and "Python" in text and "GiB free" in text


def test_every_item_is_found_by_its_usual_name(home: Path) -> None:
    fill(home / ".pchmr")
    found = find_licensed(search_roots())
    assert {name: len(paths) for name, paths in found.items()} == dict.fromkeys(LICENSED, 1)


def test_search_order(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = home / ".cache/torch/hub/checkpoints"
    assert search_roots() == (home / ".pchmr", cache)
    monkeypatch.setenv("PCHMR_DATA", str(tmp_path / "variable"))
    assert search_roots() == (tmp_path / "variable", home / ".pchmr", cache)
    assert search_roots(tmp_path / "given") == (tmp_path / "given", cache)


def test_a_data_folder_needs_its_content(tmp_path: Path) -> None:
    (tmp_path / "3DPW").mkdir()
    assert find_licensed([tmp_path])["3DPW"] == []


def test_what_is_said_of_a_set_is_true() -> None:
    """The commands that a recognized tree is said to enable are ones that we have."""
    for name, word in licensed.SETS.items():
        what = "FILE" if word == "npz" else "FOLDER"
        assert f"pchmr data import {word} {what} DST" in LICENSED[name].enables
        assert word in SETS
        protocol = LICENSED[name].enables.split("--protocol ")[1].split()[0]
        assert protocol in PROTOCOLS
        verbs = LICENSED[name].enables.split("--data DST in ")[1].split(", --")[0]
        assert verbs == ("evaluate" if word == "emdb" else "train, federate, evaluate")


def test_search_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = tmp_path / "a/b/c/SMPL_NEUTRAL.npz"
    deep.parent.mkdir(parents=True)
    deep.touch()
    assert find_licensed([tmp_path])["SMPL neutral"] == []
    (tmp_path / "z_SMPL.txt").touch()
    (tmp_path / "mesh_downsampling.npz").touch()
    for number in range(20):
        (tmp_path / f"a/{number}.JPG").touch()
    monkeypatch.setattr(licensed, "MAX_ENTRIES", 7)
    crowded: list[Path] = []
    assert find_licensed([tmp_path], crowded.append)["Mesh levels of SMPL"] and not crowded
    monkeypatch.setattr(licensed, "MAX_ENTRIES", 1)
    assert find_licensed([tmp_path], crowded.append)["Mesh levels of SMPL"] == []
    assert crowded == [tmp_path]
    monkeypatch.setattr(doctor, "search_roots", lambda _: (tmp_path,))
    doctor.run(DoctorConfig())
    assert "files and folders were looked at" in " ".join(capsys.readouterr().out.split())


def test_a_broken_probe_is_a_row(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Iterator[doctor.Finding]:
        yield doctor.Finding("first", "ok", "fine")
        raise ImportError("libgone.so is missing\nand more")

    monkeypatch.setattr(doctor, "PROBES", {"Things": broken})
    doctor.run(DoctorConfig(data_root=home / "nowhere"))
    text = capsys.readouterr().out
    assert "fine" in text and "ImportError: libgone.so is missing" in text


def test_a_missing_package_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_requirements", lambda extra: ["surely-not-installed"])
    monkeypatch.setattr(doctor.metadata, "metadata", lambda _: _Extras())
    assert [f.detail for f in doctor._python()][-1].endswith("pip install surely-not-installed")
    (finding,) = doctor._extras()
    assert finding.state == "missing" and "pip install pchmr[video]" in finding.detail


class _Extras:
    def get_all(self, _: str) -> list[str]:
        return ["video"]


def test_a_body_that_does_not_load_is_no_tick(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / ".pchmr" / "SMPL_NEUTRAL.npz"
    path.parent.mkdir()
    path.write_bytes(b"PK")
    doctor.run(DoctorConfig())
    (line,) = (row for row in capsys.readouterr().out.splitlines() if " SMPL neutral " in row)
    assert line.strip().startswith("✗") and "SMPL_NEUTRAL.npz" in line


@pytest.mark.parametrize("extra", ["export", "heic", "video"])
def test_an_extra_that_does_not_work_is_no_tick(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise OSError("libsomething.so: no such file\nand more")

    def state() -> tuple[str, str]:
        found = {finding.name: finding for finding in doctor._extras()}
        return (found[extra].state, found[extra].detail) if extra in found else ("missing", "")

    if state()[0] == "missing":
        pytest.skip(f"the extra {extra} is not installed: pip install 'pchmr[{extra}]'")
    assert state()[0] == "ok"
    monkeypatch.setitem(doctor.WORKS, extra, fails)
    assert state()[0] == "broken"
    assert "OSError: libsomething.so: no such file; pip install" in state()[1]
