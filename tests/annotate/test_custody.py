"""Labels after they were made: exported, expired, deleted, and read back for training."""

import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pchmr.annotate.custody import POSES_2D, poses_2d
from pchmr.annotate.labels import LabelFolder
from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.cli import main
from pchmr.config import DataOptions, FederateConfig, OptimOptions, TrainConfig
from pchmr.data import load_people
from pchmr.data.errors import InputError
from pchmr.data.partition import make_partition
from pchmr.geometry import project_pinhole
from pchmr.models import build_model
from pchmr.runs import file_sha256, is_private, make_folder
from pchmr.training import fit

SIDE = 160
NUM_CLIPS = 6


@pytest.fixture
def folder(tmp_path: Path, body: BodyModel) -> Path:
    """Six photos with labels: a standing person, more to the right in each."""
    book = LabelFolder.open(tmp_path / "labels")
    photos = tmp_path / "photos"
    photos.mkdir()
    for clip in range(NUM_CLIPS):
        pixels = np.random.default_rng(clip).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        path = photos / f"p{clip}.png"
        Image.fromarray(pixels).save(path)
        camera = [[200.0, 0, SIDE / 2], [0, 200.0, SIDE / 2], [0, 0, 1]]
        arrays = {
            "global_orient": np.array([[np.pi, 0, 0]]),
            "body_pose": np.zeros((1, 23, 3)),
            "betas": np.full((1, 10), 0.1),
            "transl": np.array([[0.1 * clip, 0.2, 3.5]]),
            "intrinsics": np.array([camera]),
            "smpl_joints": np.ones((1, 24, 3)),
            "keypoints_2d": np.ones((1, 2, 3)),
            "keypoint_names": np.array(["left_shoulder", "right_shoulder"]),
            "status": np.array(["accepted" if clip != 1 else "review"]),
        }
        key = {"input_sha256": file_sha256(path), "body_sha256": body.sha256}
        status = {arrays["status"][0]: 1}
        book.write(f"p{clip}", arrays, key, status=status, source=str(path.resolve()))
    return book.path


def test_export_is_read_as_3dpw_and_private(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert main(["labels", str(folder), "--export", str(target)]) == 0
    files = sorted((target / "sequenceFiles" / "train").iterdir())
    assert len(files) == NUM_CLIPS and all(is_private(p) for p in (target, *files))
    found = pickle.loads(files[1].read_bytes())
    assert found["poses"][0].shape == (1, 72) and found["trans"][0].shape == (1, 3)
    assert found["cam_intrinsics"].shape == (3, 3) and found["cam_poses"].shape == (1, 4, 4)
    assert found["jointPositions"][0].shape == (1, 72) and found["poses2d"][0].shape == (1, 3, 18)
    assert found["campose_valid"][0].tolist() == [0] and found["sequence"] == "p1"


def test_export_says_how_many_frames_are_valid(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["labels", str(folder), "--export", str(tmp_path / "some")]) == 0
    assert "5 of 6 frames marked valid\n" in capsys.readouterr().out
    out = ["--export", str(tmp_path / "none")]
    assert main(["labels", str(folder), "--reject", "all", *out]) == 0
    said = capsys.readouterr().out
    assert "0 of 6 frames marked valid: readers of such files will use none" in said
    assert f"`pchmr labels {folder} --accept all`" in said


def test_the_neck_of_the_export_is_between_the_shoulders() -> None:
    keypoints = np.array([[[10.0, 20, 1], [30.0, 40, 0.5]]])
    found = poses_2d(keypoints, ["left_shoulder", "RShoulder"])
    assert found[0, :, POSES_2D.index("neck")].tolist() == [20, 30, 0.75]
    assert found[0, :, POSES_2D.index("nose")].tolist() == [0, 0, 0]


def test_labels_are_deleted_by_name_by_age_and_all(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["labels", str(folder), "--delete", "p0, p3"]) == 0
    assert not (folder / "p0.npz").exists() and (folder / "p1.npz").exists()
    assert main(["labels", str(folder), "--delete", "p0"]) == 2
    assert "no such clip" in capsys.readouterr().err
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    rows[0]["labeled"] = time.time() - 40 * 86_400
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["labels", str(folder), "--keep-days", "30"]) == 0
    assert not (folder / "p1.npz").exists() and (folder / "p2.npz").exists()
    assert main(["labels", str(folder), "--delete", "all"]) == 0
    assert not folder.exists()
    assert main(["labels", str(folder)]) == 2


def labeled(folder: Path, body: BodyModel, split) -> object:
    return load_people(DataOptions(data=folder), split, body=body, seed=0, image_size=64)


def test_accepted_labels_come_back_as_a_data_set(folder: Path, body: BodyModel) -> None:
    train, test = (labeled(folder, body, split) for split in ("train", "test"))
    assert len(train) == 4 and len(test) == 1  # one of six is only for review
    assert train.columns["action"].tolist() == [0, 1, 2, 3] and train.is_private
    assert train.content_hash != test.content_hash
    sample = train.batch([2, 0])
    assert sample.images.shape == (2, 3, 64, 64)
    assert sample.transl[:, 0].tolist() == pytest.approx([0.3, 0.0])
    posed = body(sample.global_orient, sample.body_pose, sample.betas, sample.transl)
    joints = body.regress(posed.vertices, EVALUATION_14)
    pixels = project_pinhole(joints, sample.intrinsics)
    torch.testing.assert_close(2 * pixels / 64 - 1, sample.keypoints_2d[..., :2])
    assert (pixels > 0).all() and (pixels < 64).all()


def test_training_and_a_client_learn_from_labels(folder: Path, body: BodyModel) -> None:
    people = labeled(folder, body, "train")
    torch.manual_seed(0)
    model = build_model("fastmetro_xs", body.hierarchy, image_size=64)
    before = model.state_dict()["backbone.stem.0.weight"].clone()
    config = TrainConfig(num_epochs=1, optim_options=OptimOptions(batch_size=2))
    rows = fit(model, body, people, config)
    assert rows[0]["num_samples"] == 4
    assert not torch.equal(before, model.state_dict()["backbone.stem.0.weight"])
    shares = make_partition(
        FederateConfig(num_clients=2, clients_per_round=2), people.columns, len(people)
    )
    assert sorted(np.concatenate(list(shares)).tolist()) == [0, 1, 2, 3]


def test_pictures_that_are_gone_or_changed_are_named(folder: Path, body: BodyModel) -> None:
    path = folder.parent / "photos" / "p2.png"
    path.write_bytes(b"other")
    with pytest.raises(InputError, match=r"p2\.png has changed"):
        labeled(folder, body, "train")
    path.unlink()
    with pytest.raises(InputError, match=r"p2\.png of .* is gone"):
        labeled(folder, body, "train")


def test_labels_are_judged_by_clip_and_by_frame(
    folder: Path, body: BodyModel, capsys: pytest.CaptureFixture[str]
) -> None:
    before = labeled(folder, body, "train").content_hash
    written = {path.name: path.read_bytes() for path in folder.glob("*.npz")}
    assert main(["labels", str(folder)]) == 0
    assert f"look at p1.npz, then `pchmr labels {folder} --accept p1`" in capsys.readouterr().out
    assert main(["labels", str(folder), "--accept", "p1:0", "--reject", "p0"]) == 0
    said = capsys.readouterr().out
    assert "p1: 1 frame accepted" in said and "as you decided" in said
    train = labeled(folder, body, "train")
    assert len(train) == 4 and train.content_hash != before
    assert written == {path.name: path.read_bytes() for path in folder.glob("*.npz")}
    assert main(["labels", str(folder), "--export", str(folder.parent / "out")]) == 0
    sequences = folder.parent / "out" / "sequenceFiles" / "train"
    valid = [pickle.loads((sequences / f"p{n}.pkl").read_bytes())["campose_valid"][0][0]
             for n in (0, 1)]  # fmt: skip
    assert valid == [0, 1]
    for wrong in ("p1:1", "p9", "p1:-1"):
        assert main(["labels", str(folder), "--accept", wrong]) == 2
    (folder / "p2.npz").write_bytes(b"other")
    assert main(["labels", str(folder), "--accept", "p2"]) == 2
    assert "no whole labels" in capsys.readouterr().err


def test_delete_all_leaves_nothing_that_was_derived(folder: Path) -> None:
    for name in ("a7.npz", "a7.png", ".p0.npz.1.tmp", ".lock"):
        (folder / name).write_bytes(b"of a parallel run of version 0.1, or a killed one")
    assert main(["labels", str(folder), "--delete", "all"]) == 0
    assert not folder.exists()


@pytest.mark.whole
def test_what_is_derived_from_labels_is_private_and_names_nobody(
    folder: Path, tmp_path: Path
) -> None:
    """Train, then the report: no name, no place on the disk, no picture; on demand the pictures."""
    os.umask(0o022)
    out, page = tmp_path / "shown" / "run", tmp_path / "shown" / "report.html"
    make_folder(out.parent, private=False)
    command = ["train", "--data", str(folder), "--num-epochs", "1", "--image-size", "64",
               "--output", str(out)]  # fmt: skip
    assert main(command) == 0
    assert main(["report", str(out), "--output", str(page)]) == 0
    written = [path for path in (page, *out.rglob("*")) if path.is_file()]
    assert all(is_private(path) for path in (out, *out.rglob("*"), page))
    texts = [p for p in written if p.suffix in (".json", ".jsonl", ".html")]
    for text in (path.read_text() for path in texts):
        assert str(tmp_path) not in text and not any(f'"p{n}"' in text for n in range(6))
    assert not (out / "examples.npz").exists() and "data:image/png" not in page.read_text()
    assert "holds no picture and no mesh" in page.read_text()
    replayed = ["train", "--config", str(out / "config.json"), "--output", str(tmp_path / "again")]
    assert main(replayed) == 2
    assert main([*command, "--with-pictures"]) == 0
    assert is_private(out / "examples.npz")
    assert main(["report", str(out), "--output", str(page)]) == 0
    assert "data:image/png" not in page.read_text()
    assert main(["report", str(out), "--output", str(page), "--with-pictures"]) == 0
    assert "data:image/png" in page.read_text() and "holds pictures of people" in page.read_text()
