"""Imported people against the `smplx` package, an independent forward pass of the body files.

Body files are written as SMPL's own are: pickles, a sparse regressor of joints, pose correctives.
The oracle's licence is non-commercial: it is a test's alone, and skips where it is not installed.
"""

import pickle
from functools import cache
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from scipy.sparse import csc_matrix

from pchmr.body import load_body
from pchmr.body.joints import H36M_TO_EVALUATION
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.importing import import_set
from pchmr.data.sets.placing import Bodies

smplx = pytest.importorskip("smplx", reason="oracle: pip install 'pchmr[oracle]'")

METRES, PIXELS = 1e-5, 0.01
LETTERS = {"m": "male", "f": "female"}


def write_body(path: Path, arrays: dict, seed: int) -> dict:
    """A body file as SMPL's; returns its arrays. Correctives of some millimetres are drawn."""
    rng = np.random.default_rng(seed)
    own = {name: arrays[name].astype(np.float64) for name in ("v_template", "shapedirs", "weights")}
    own["posedirs"] = 2e-3 * rng.standard_normal((len(own["v_template"]), 3, 207), dtype=np.float32)
    own["J_regressor"] = csc_matrix(arrays["J_regressor"].astype(np.float64))
    own["f"] = arrays["f"].astype(np.uint32)
    own["kintree_table"] = np.asarray(arrays["kintree_table"], dtype=np.uint32)
    whole = {**own, "bs_style": "lbs", "bs_type": "lrotmin", "J": np.zeros((24, 3))}
    path.write_bytes(pickle.dumps(whole, protocol=2))
    return own


@pytest.fixture(scope="module")
def files(tmp_path_factory, arrays, gendered, write_levels, body) -> Path:
    """A folder of body files, as a licence holder has it."""
    folder = tmp_path_factory.mktemp("SMPL")
    for seed, (gender, own) in enumerate({"neutral": arrays, "male": gendered["m"],
                                          "female": gendered["f"]}.items()):  # fmt: skip
        write_body(folder / f"SMPL_{gender.upper()}.pkl", own, seed)
    np.save(folder / "J_regressor_h36m.npy", arrays["J_regressor_h36m"])
    write_levels(folder, body.hierarchy)
    return folder


@cache
def model_of(folder: Path, gender: str):
    """The package's own body."""
    return smplx.SMPL(str(folder), gender=gender, dtype=torch.float64)


def oracle(folder: Path, gender: str, **parameters: np.ndarray) -> np.ndarray:
    """Vertices by `smplx`, float64."""
    given = {name: torch.from_numpy(value[None]) for name, value in parameters.items()}
    return model_of(folder, gender)(**given).vertices[0].detach().numpy()


@pytest.fixture(scope="module")
def people(tmp_path_factory, files, gendered, make_job) -> tuple[ImportedPeople, dict]:
    """3DPW, imported with these files; and its walks."""
    root = tmp_path_factory.mktemp("oracle")
    made = layouts.write_3dpw(root / "3dpw", gendered)
    own = {gender: load_body(files, gender=gender) for gender in ("male", "female")}
    import_set(make_job("3dpw", root / "3dpw", root / "set", Bodies(load_body(files), own)))
    return ImportedPeople(root / "set", None), made


def test_samples_are_those_of_smplx(people, files, arrays) -> None:
    found, made = people
    regressor = arrays["J_regressor_h36m"].astype(np.float64)
    for row, (sequence, clip) in enumerate(
        zip(found.columns["sequence"], found.columns["clip"], strict=True)
    ):
        walk, letter = made[sequence][int(clip.rsplit(" ", 1)[1])]
        frame, view = int(found.columns["frame"][row]), made[sequence][0][0]
        world = oracle(
            files, LETTERS[letter], betas=walk.betas, transl=walk.transl[frame],
            global_orient=walk.pose[frame, :3], body_pose=walk.pose[frame, 3:],
        )  # fmt: skip
        outer = view.extrinsics[frame]
        seen = world @ outer[:3, :3].T + outer[:3, 3]
        joints = (regressor @ seen)[list(H36M_TO_EVALUATION)]
        sample = found.batch([row])
        about = joints - joints[[2, 3]].mean(axis=0)
        np.testing.assert_allclose(sample.joints[0, :, :3], about, atol=METRES)
        x, y, side = found.detail("square")[row].astype(np.float64)
        size = found.image_size
        at = (view.pixels(joints) - [x - side / 2, y - side / 2]) * size / side
        shown = (sample.keypoints_2d[0, :, :2].double().numpy() + 1) * size / 2
        np.testing.assert_allclose(shown, at, atol=PIXELS)
        again = oracle(
            files, LETTERS[letter], betas=sample.betas[0].double().numpy(),
            transl=sample.transl[0].double().numpy(),
            global_orient=sample.global_orient[0].double().numpy(),
            body_pose=sample.body_pose[0].double().numpy().ravel(),
        )  # fmt: skip
        np.testing.assert_allclose(again, seen, atol=METRES)  # parameters, in the camera's frame


def test_correctives_are_not_passed_over(files, arrays) -> None:
    """What is compared above is not a body without them."""
    pose = 0.3 * np.random.default_rng(1).standard_normal(72)
    zero = np.zeros(10)
    whole = oracle(files, "neutral", betas=zero, transl=zero[:3], global_orient=pose[:3],
                   body_pose=pose[3:])  # fmt: skip
    plain, _ = layouts.skin(arrays, pose, zero, zero[:3])
    assert np.abs(whole - plain).max() > 100 * METRES
