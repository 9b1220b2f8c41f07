"""Mutated files of every set and of recordings: one line of ours, nothing written, no hang.

Also whole files that look right and are not: bombs, code, other types, other lengths, other paths.
"""

import importlib.util
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest

from pchmr.config import UserError
from pchmr.data.mocap.amass import read_amass
from pchmr.data.mocap.bvh import read_bvh
from pchmr.data.mocap.poses import PoseSet
from pchmr.data.sets import DATASETS
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.importing import import_set
from pchmr.data.sets.part import ReadOptions
from pchmr.data.sets.placing import Bodies, place

spec = importlib.util.spec_from_file_location(
    "fuzz", Path(__file__).resolve().parents[2] / "test_fuzz.py"
)
assert spec is not None and spec.loader is not None
fuzz: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)

MUTATIONS, MANY = 20, 1000  # of each file
KINDS = ("flip", "cut", "drop", "repeat", "number", "text")


def read_set(name: str, root: Path, body) -> None:
    """All that an import reads of a set, but for the crops."""
    for source in DATASETS[name].sources(root, ReadOptions(every=1)):
        part = source.read()
        if len(part):
            place(part, Bodies(body, {}))
        for _ in part.pictures():
            pass


FILES = {
    "3dpw": ("sequenceFiles/validation/outdoors_walking_01.pkl",),
    "emdb": ("P0/09_outdoor_walk/P0_09_outdoor_walk_data.pkl",),
    "h36m": tuple(f"annotations/Human36M_subject1_{k}.json" for k in
                  ("data", "camera", "joint_3d", "smpl_param")),
    "tsv": ("train.yaml", "test.label.tsv", "test.label.lineidx", "test.img.tsv",
            "train.linelist.tsv"),
    "npz": ("spin.npz", "bedlam.npz"),
    "truth": ("truth.npz",),
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_arrays) -> dict[str, Path]:
    """The smallest sets that hold everything."""
    root = tmp_path_factory.mktemp("small")
    plain = tiny_arrays
    own = {"m": plain, "f": plain}
    for name in FILES:
        (root / name).mkdir()
    layouts.write_3dpw(root / "3dpw", own, count=2)
    layouts.write_emdb(root / "emdb", own, count=4)
    layouts.write_h36m(root / "h36m", plain, frames=(0, 5))
    layouts.write_tsv(root / "tsv", plain, count=2)
    for kind in ("spin", "bedlam"):
        layouts.write_npz(root / "npz", plain, kind=kind, count=3)
    layouts.write_truth(root / "truth", plain, count=2)
    for split in ("train", "test"):  # one small sequence is read a time
        for file in (root / "3dpw" / "sequenceFiles" / split).iterdir():
            file.unlink()
    return {name: root / name for name in FILES}


def mutate(path: Path, read: Callable[[Path], Any], count: int = MUTATIONS) -> None:
    """So many mutations of a file, the same ones every time."""
    read(path)
    draw = random.Random(str(path.name))
    for number in range(count):
        steps = [(draw.choice(KINDS), draw.random(), draw.randrange(2**16)) for _ in range(2)]
        fuzz.attempt(path, fuzz.mutated(path.read_bytes(), steps, number % 2 == 0), read)


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name, files in FILES.items() for file in files]
)
def test_mutated_files_of_sets(name: str, file: str, small, tiny_body) -> None:
    mutate(small[name] / file, lambda _: read_set(name, small[name], tiny_body))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_mutated_files_of_sets(name: str, small, tiny_body) -> None:
    for file in FILES[name]:
        mutate(small[name] / file, lambda _: read_set(name, small[name], tiny_body), MANY)


def test_mutated_imports_and_recordings(imported, tmp_path, body) -> None:
    import shutil

    shutil.copytree(imported["truth"].folder, tmp_path / "set")
    for name in ("imported.json", "labels.safetensors"):
        mutate(tmp_path / "set" / name, lambda p: ImportedPeople(p.parent, "train").batch([0]))
    rest = body.rest_joints(body.v_template.new_zeros(10)).double().numpy()
    (tmp_path / "walk.bvh").write_text(BVH)
    mutate(tmp_path / "walk.bvh", lambda p: read_bvh(p, "x", rest))
    np.savez(tmp_path / "a_poses.npz", poses=np.zeros((3, 156)), mocap_framerate=np.array(120.0))
    mutate(tmp_path / "a_poses.npz", lambda p: read_amass(p, "x"))
    from pchmr.data.mocap.motion import Motion
    from pchmr.data.mocap.poses import _write

    _write(tmp_path / "poses", [Motion(name=str(k), rotvec=np.zeros((2, 24, 3))) for k in range(3)])
    for name in ("poses.json", "poses.safetensors"):
        mutate(tmp_path / "poses" / name, lambda p: PoseSet.open(p.parent), 30)


LIMBS = "".join(
    f"JOINT {side}{first}\n{{\nOFFSET {x} {y} 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    f"JOINT {side}{second}\n{{\nOFFSET {x} {y} 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    "End Site\n{\nOFFSET 0 -1 0\n}\n}\n}\n"
    for side, sign in (("Left", 1), ("Right", -1))
    for first, second, x, y in (("UpLeg", "Leg", sign, -4), ("Arm", "ForeArm", 3 * sign, 0))
)
BVH = (
    "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition "
    f"Zrotation Xrotation Yrotation\n{LIMBS}}}\nMOTION\nFrames: 2\nFrame Time: 0.1\n"
    + 2
    * (" ".join(["1.5"] * 30) + "\n")
)


class Payload:
    def __reduce__(self):
        return (print, ("run",))


NESTED: list = []
NESTED.append(NESTED)
BAD_3DPW = {
    "code": {"poses": Payload()},
    "text for numbers": {"poses": ["x"]},
    "no people": {"poses": []},
    "list in itself": {"poses": NESTED},
    "other length": {"campose_valid": [np.ones(7)]},
    "other shape": {"cam_poses": np.eye(4)},
    "fewer people": {"trans": []},
    "unknown gender": {"genders": ["robot"]},
    "few betas": {"betas": [np.zeros(3)]},
    "endless": {"cam_intrinsics": np.full((3, 3), np.inf)},
    "ragged": {"poses": [[[1], [2, 3]]]},
}


@pytest.mark.parametrize("name", BAD_3DPW)
def test_bad_3dpw(name: str, small, tiny_body, capsys, tmp_path) -> None:
    path = small["3dpw"] / FILES["3dpw"][0]
    from pchmr.data.sets.threedpw import KEYS
    from pchmr.door.pickled import read_pickled

    whole = read_pickled(path, KEYS)
    content = path.read_bytes()
    path.write_bytes(pickle.dumps({**whole, **BAD_3DPW[name]}, protocol=2))
    try:
        with pytest.raises(UserError) as said:
            read_set("3dpw", small["3dpw"], tiny_body)
    finally:
        path.write_bytes(content)
    assert "\n" not in str(said.value) and "run" not in capsys.readouterr().out


def _people_of_two() -> dict:
    rows = 2
    shapes = {"global_orient": (3,), "body_pose": (23, 3), "betas": (10,), "transl": (3,),
              "intrinsics": (3, 3)}  # fmt: skip
    found = {name: np.zeros((rows, *shape)) for name, shape in shapes.items()}
    return found | {"image": np.array(["a.jpg", "b.jpg"])}


BAD_TRUTH = {
    "lies outside": {"image": np.array(["../../secret.jpg", "b.jpg"])},
    "none of": {"split": np.array(["train", "exam"])},
    "other lengths": {"betas": np.zeros((3, 10))},
    "body_pose is": {"body_pose": np.zeros((2, 5))},
    "not finite": {"transl": np.full((2, 3), np.nan)},
    "image as text": {"image": np.zeros(2)},
    "gender": {"gender": np.array(["x", "y"])},
}


@pytest.mark.parametrize("words", BAD_TRUTH)
def test_bad_truth_files(words: str, tmp_path, tiny_body) -> None:
    np.savez(tmp_path / "truth.npz", **{**_people_of_two(), **BAD_TRUTH[words]})
    with pytest.raises(UserError, match=words):
        read_set("truth", tmp_path, tiny_body)


def test_a_truth_file_without_its_pictures(tmp_path, tiny_body, make_job) -> None:
    np.savez(tmp_path / "truth.npz", **_people_of_two())
    with pytest.raises(UserError, match=r"no person that can be used.*'picture missing': 2"):
        import_set(make_job("truth", tmp_path, tmp_path / "out", Bodies(tiny_body, {})))


def test_no_reader_leaves_the_folder_of_its_set(small, tiny_body, tmp_path) -> None:
    """Names inside of files that lead out of the set, by dots or from the root."""
    secret = tmp_path / "secret.jpg"
    layouts.write_picture(secret, (40, 40), 0)
    for name in ("../secret.jpg", str(secret)):
        path = small["h36m"] / "annotations/Human36M_subject1_data.json"
        content = path.read_text()
        changed = json.loads(content)
        changed["images"][0]["file_name"] = name
        path.write_text(json.dumps(changed))
        try:
            with pytest.raises(UserError):
                read_set("h36m", small["h36m"], tiny_body)
        finally:
            path.write_text(content)
    for named in ("../x.tsv", str(tmp_path / "x.tsv")):
        folder = tmp_path / "tsv"
        folder.mkdir(exist_ok=True)
        (folder / "train.yaml").write_text(f"img: {named}\nlabel: {named}\n")
        (tmp_path / "x.tsv").write_text("key\t[]\n")
        with pytest.raises(UserError, match="outside"):
            read_set("tsv", folder, tiny_body)
