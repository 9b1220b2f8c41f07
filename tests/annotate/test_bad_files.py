"""Damaged and unfit files, boxes and modes: one line that names the cure."""

import copy
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pchmr.annotate import custody
from pchmr.annotate.labels import LabelFolder
from pchmr.annotate.modes import check_mode
from pchmr.annotate.observations import load_observations
from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import PictureReader
from pchmr.annotate.prior import ASSET, PriorError, load_prior
from pchmr.annotate.quality import ASSET as PREDICTORS
from pchmr.annotate.quality import load_predictors
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_17
from pchmr.config import AnnotateConfig, SettingError
from pchmr.data import labels
from pchmr.data.errors import InputError
from pchmr.perception import load_keypoint_prior
from pchmr.perception.boxes import parse_box
from pchmr.runs import file_sha256

USED = (labels.ACCEPTED,)


def test_files_that_numpy_chokes_on_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }"
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as file:
        size = (len(header) + 1).to_bytes(2, "little")
        file.writestr("keypoints_2d.npy", b"\x93NUMPY\x01\x00" + size + header + b"\n")
    np.savez_compressed(tmp_path / "torn.npz", keypoints_2d=np.random.default_rng(0).random(4000))
    content = bytearray((tmp_path / "torn.npz").read_bytes())
    content[200:400] = bytes(200)
    (tmp_path / "torn.npz").write_bytes(bytes(content))
    for name in ("x.npy", "huge.npz", "torn.npz"):
        with pytest.raises(InputError, match="cannot read observations"):
            load_observations(tmp_path / name)


def test_a_truncated_prior_is_refused(tmp_path: Path) -> None:
    content = ASSET.read_bytes()
    (tmp_path / "prior.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(PriorError, match="cannot read pose prior"):
        load_prior(tmp_path / "prior.npz")


@pytest.mark.parametrize("name", ["mean", "whitening", "constant", "limits"])
def test_a_prior_of_anything_but_finite_numbers_is_refused(tmp_path: Path, name: str) -> None:
    with np.load(ASSET) as file:
        arrays = dict(file)
    for value in (np.nan, np.inf, 1e30):
        spoiled = arrays[name].copy()
        spoiled.flat[-1] = value
        np.savez(tmp_path / "prior.npz", **{**arrays, name: spoiled})
        with pytest.raises(PriorError, match=f"{name} holds values that are not finite"):
            load_prior(tmp_path / "prior.npz")
    np.savez(tmp_path / "prior.npz", **{**arrays, name: arrays[name][..., :-1]})
    with pytest.raises(PriorError, match="expected"):
        load_prior(tmp_path / "prior.npz")


@pytest.mark.parametrize("name", ["sd", "slope", "knots"])
def test_predictors_of_anything_but_finite_numbers_are_refused(tmp_path: Path, name: str) -> None:
    table = json.loads(PREDICTORS.read_text())
    mode = next(iter(table))
    for value in ([], [None], [float("nan")] * len(table[mode][name]), "x", 10**400):
        spoiled = {**table, mode: {**table[mode], name: value}}
        (tmp_path / "x.json").write_text(json.dumps(spoiled))
        with pytest.raises(SettingError, match="cannot read error predictors"):
            load_predictors(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["../x.npz", "/etc/passwd", "a\n.npz", 3, None])
def test_a_manifest_names_files_of_its_own_folder_only(tmp_path: Path, name: object) -> None:
    row = {"clip": "a", "labels": name, "labels_sha256": "0", "status": {"accepted": 1}}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(SettingError, match="line 1 is damaged"):
        LabelFolder.open(tmp_path)
    with pytest.raises(InputError):
        labels._chosen(tmp_path, {**row, "labels": str(name)}, USED)


def test_truncated_and_altered_labels_are_refused(tmp_path: Path) -> None:
    book = LabelFolder.open(tmp_path / "labels")
    path = book.write("clip", {"betas": np.zeros((1, 10))}, {}, status={"accepted": 1})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    row = book.rows["clip"]
    with pytest.raises(InputError, match="has changed since it was written"):
        labels._chosen(book.path, row, USED)
    with pytest.raises(InputError, match="cannot read labels"):
        labels._chosen(book.path, {**row, "labels_sha256": file_sha256(path)}, USED)
    with pytest.raises(SettingError, match=r"cannot read labels .*--delete clip"):
        custody.export(book, tmp_path / "out")


def test_a_manifest_line_that_is_no_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match="line 1 is damaged"):
        labels._manifest(tmp_path)
    with pytest.raises(SettingError, match="line 1 is damaged"):
        LabelFolder.open(tmp_path)


def test_reading_labels_leaves_the_body_where_it_is(body: BodyModel) -> None:
    arrays = {
        "global_orient": np.array([[np.pi, 0, 0]]), "body_pose": np.zeros((1, 23, 3)),
        "betas": np.zeros((1, 10)), "transl": np.array([[0.0, 0.2, 3.5]]),
        "intrinsics": np.array([[[200.0, 0, 80], [0, 200.0, 80], [0, 0, 1]]]),
    }  # fmt: skip
    own = copy.deepcopy(body)
    own.cpu = lambda: pytest.fail("the shared body was moved")  # type: ignore[method-assign]
    sample = labels._sample(own, arrays, 0, np.zeros((160, 160, 3), dtype=np.uint8), 64)
    assert sample.has_smpl.all() and sample.joints.isfinite().all()


def test_an_export_takes_no_folder_that_is_in_use(tmp_path: Path) -> None:
    book = LabelFolder.open(tmp_path / "labels")
    target = tmp_path / "home"
    target.mkdir(mode=0o755)
    (target / "thesis.txt").write_text("precious")
    before = target.stat().st_mode
    with pytest.raises(SettingError, match="is not empty"):
        custody.export(book, target)
    assert target.stat().st_mode == before


def test_modes_say_what_they_lack() -> None:
    table = np.full((1, 17, 3), 50.0)
    seen = Observations(
        keypoints_2d=table, keypoint_names=COCO_17.names, image_size=np.array([[100, 100]])
    )
    with pytest.raises(SettingError, match="needs `intrinsics`"):
        check_mode("smplifyx-given-focal", seen)
    check_mode("smplifyx", seen)
    head = Observations(
        keypoints_2d=table[:, :5], keypoint_names=COCO_17.names[:5], image_size=seen.image_size
    )
    with pytest.raises(SettingError, match="shoulder or hip"):
        check_mode("smplifyx", head)


@pytest.mark.parametrize("text", ["0,0,inf,inf", "nan,0,5,5"])
def test_boxes_are_finite(text: str) -> None:
    with pytest.raises(SettingError, match="--bbox"):
        parse_box(text)


def test_a_box_outside_the_picture_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    reader = PictureReader(load_keypoint_prior("embedded"), box=parse_box("70,0,20,20"))
    with pytest.raises(InputError, match="outside the 60 x 40 image"):
        reader.observe(tmp_path / "a.png")


def test_a_checkpoint_is_of_no_use_to_observations(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--checkpoint"):
        AnnotateConfig(observations=tmp_path / "obs.npz", checkpoint=tmp_path / "x")
