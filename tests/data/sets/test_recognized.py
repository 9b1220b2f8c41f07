"""`pchmr doctor` over trees of real layout, sound and damaged: what it ticks, and what it says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr import doctor
from pchmr.config import DoctorConfig
from pchmr.data.licensed import LICENSED, RECORDINGS, SETS, find_licensed

SKELETON = """HIERARCHY
ROOT Hips
{{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
{joints}
}}
MOTION
Frames: 2
Frame Time: 0.033333
{zeros}
{zeros}
"""
CHAINS = {
    side: [(f"{side}UpLeg", f"{x} 0 0"), (f"{side}Leg", "0 -40 0"), (f"{side}Foot", "0 -40 0")]
    for side, x in (("Left", 10), ("Right", -10))
} | {
    f"{side}Arm": [(f"{side}Arm", f"{x} 50 0"), (f"{side}ForeArm", f"{x} 0 0"),
                   (f"{side}Hand", f"{x} 0 0")]
    for side, x in (("Left", 20), ("Right", -20))
}  # fmt: skip


def recording() -> str:
    """A BVH file of a person who stands."""
    joints = ""
    for chain in CHAINS.values():
        for name, offset in chain:
            joints += f"JOINT {name} {{ OFFSET {offset} CHANNELS 3 Zrotation Xrotation Yrotation "
        joints += "End Site { OFFSET 0 -5 0 } " + "} " * len(chain) + "\n"
    zeros = " ".join(["0"] * (6 + 3 * sum(map(len, CHAINS.values()))))
    return SKELETON.format(joints=joints, zeros=zeros)


@pytest.fixture
def home(tmp_path: Path, sets, arrays, body, write_levels, monkeypatch) -> Path:
    """One of everything in its real layout."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("PCHMR_DATA", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / ".pchmr"
    for name in ("3dpw", "emdb", "h36m", "tsv", "spin", "truth"):
        shutil.copytree(sets[name], root / "sets" / f"my {name}")
    for name in ("NEUTRAL", "MALE", "FEMALE"):
        np.savez(root / f"SMPL_{name}.npz", **arrays)
    np.save(root / "J_regressor_h36m_correct.npy", arrays["J_regressor_h36m"])
    write_levels(root, body.hierarchy)
    for name in ("FastMETRO-S-R50_h36m_state_dict.bin", "resnet50-0676ba61.pth"):
        torch.save({"conv1.weight": torch.zeros(2, 3)}, root / name)
    (root / "motion").mkdir()
    poses = np.zeros((8, 156))
    np.savez(root / "motion" / "01_01_poses.npz", poses=poses, mocap_framerate=30.0)
    (root / "motion" / "01_01.bvh").write_text(recording())
    return root


def signs(text: str) -> dict[str, str]:
    """The mark before every item's name."""
    rows = [line.strip() for line in text.splitlines()]
    names = "\n".join(LICENSED)
    return {
        name: next(row[0] for row in rows if row[1:].strip().startswith(f"{name} "))
        for name in names.splitlines()
    }


def test_all_that_opens_is_ticked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.run(DoctorConfig())
    assert signs(capsys.readouterr().out) == dict.fromkeys(LICENSED, "✓")


def test_nothing_that_is_damaged_is_ticked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for found in find_licensed([home]).values():
        for path in found:
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            for file in files:
                whole = file.suffix == ".npz" and not path.is_dir()
                # The directory of an archive stays: labels are told by it.
                content = file.read_bytes()
                cut = content[:60] + bytes(60) + content[120:] if whole else content[:20]
                file.write_bytes(cut)
    doctor.run(DoctorConfig())
    assert set(signs(capsys.readouterr().out).values()) <= {"✗", "–"}


def test_every_set_and_kind_of_recording_is_known() -> None:
    from pchmr.config.verbs import POSE_SETS
    from pchmr.config.verbs import SETS as WORDS

    assert {*SETS.values(), *RECORDINGS.values()} == {*WORDS, *POSE_SETS}
