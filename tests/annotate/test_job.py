"""`pchmr annotate` from a file of observations to private labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from pchmr.annotate.labels import LABEL_ARRAYS, LabelFolder
from pchmr.annotate.observed import Observations
from pchmr.body import load_body
from pchmr.body.joints import COCO_17
from pchmr.cli import main
from pchmr.config import SettingError
from pchmr.geometry import project_pinhole
from pchmr.runs import is_private


def write(path: Path, seen: Observations, **changes: object) -> Path:
    values = {
        "keypoints_2d": seen.keypoints_2d, "keypoint_names": np.array(seen.keypoint_names),
        "image_size": seen.image_size, "intrinsics": seen.intrinsics,
        "keypoint_depth": seen.keypoint_depth, "points": seen.points,
        "depth_kind": seen.depth_kind, **changes,
    }  # fmt: skip
    np.savez(path, **{k: np.asarray(v) for k, v in values.items() if v is not None})
    return path


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory, noisy: Observations) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("annotate")
    table = noisy.keypoints_2d.copy()
    table[-1] = np.nan
    source = write(folder / "obs.npz", noisy, keypoints_2d=table)
    assert main(["annotate", "--observations", str(source), "--output", str(folder / "out")]) == 0
    return source, folder / "out"


def test_labels_hold_what_the_format_promises(labeled: tuple[Path, Path]) -> None:
    import torch

    with np.load(labeled[1] / "labels.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    count = 6
    assert set(LABEL_ARRAYS) <= set(found)
    assert found["global_orient"].shape == (count, 3) and found["body_pose"].shape == (count, 23, 3)
    assert found["betas"].shape == (count, 10) and found["intrinsics"].shape == (count, 3, 3)
    assert set(COCO_17.names) <= set(found["joint_names"].tolist())
    assert found["joints"].shape == (count, len(found["joint_names"]), 3)
    assert found["status"][-1] == "rejected" and np.isnan(found["predicted_error_mm"][-1])
    assert set(found["status"][:-1].tolist()) <= {"accepted", "review", "rejected"}
    body = load_body()
    tensors = [
        torch.from_numpy(found[n]) for n in ("global_orient", "body_pose", "betas", "transl")
    ]
    posed = body(*tensors)
    torch.testing.assert_close(
        posed.vertices, torch.from_numpy(found["vertices"]), atol=1e-4, rtol=0
    )
    columns = [found["joint_names"].tolist().index(name) for name in COCO_17.names]
    joints = torch.from_numpy(found["joints"][:, columns])
    torch.testing.assert_close(body.regress(posed.vertices, COCO_17), joints, atol=1e-4, rtol=0)
    pixels = project_pinhole(joints, torch.from_numpy(found["intrinsics"]))[:-1].numpy()
    seen = found["keypoints_2d"][:-1, : len(COCO_17)]
    sure = seen[..., 2] > 0.8
    assert np.median(np.linalg.norm(pixels - seen[..., :2], axis=-1)[sure]) < 12


def test_folder_and_files_are_private_and_described(labeled: tuple[Path, Path]) -> None:
    folder = labeled[1]
    assert all(is_private(path) for path in (folder, *folder.iterdir()))
    row = json.loads((folder / "manifest.jsonl").read_text())
    assert row["num_frames"] == 6 and row["mode"] == "deposer-dense"
    assert sum(row["status"].values()) == 6 and row["key"]["body_sha256"]


def test_a_finished_clip_is_kept_and_another_setting_is_not(
    labeled: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = labeled
    stamp = (folder / "labels.npz").stat().st_mtime_ns
    command = ["annotate", "--observations", str(source), "--output", str(folder)]
    assert main(command) == 0
    assert (folder / "labels.npz").stat().st_mtime_ns == stamp
    assert "kept from before" in capsys.readouterr().out
    key = json.loads((folder / "manifest.jsonl").read_text())["key"]
    book = LabelFolder.open(folder)
    assert book.is_finished("labels", key)
    assert not book.is_finished("labels", {**key, "mode": "strong-2d"})


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SettingError, match=r"thesis\.txt"):
        LabelFolder.open(tmp_path)


def test_a_damaged_label_is_not_taken_for_finished(tmp_path: Path) -> None:
    book = LabelFolder.open(tmp_path / "labels")
    book.write("clip", {"betas": np.zeros((1, 10))}, {"mode": "auto"})
    assert book.is_finished("clip", {"mode": "auto"})
    (book.path / "clip.npz").write_bytes(b"torn")
    assert not LabelFolder.open(book.path).is_finished("clip", {"mode": "auto"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mode", "deposer-dense"], "needs metric"),
        (["--mode", "magic"], "unknown mode magic"),
        (["--accept-mm", "200"], "--accept-mm"),
        (["--keypoint-prior", "vitpose"], "belong together"),
        (["--body", "absent.npz"], "absent.npz"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path, noisy: Observations, options: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = write(tmp_path / "obs.npz", noisy, points=None)
    command = ["annotate", "--observations", str(source), "--output", str(tmp_path / "out")]
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_missing_weights_say_where_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--keypoint-prior", "vitpose", "--keypoint-weights", str(tmp_path / "absent")]
    assert main(["annotate", str(tmp_path), *weights, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "nothing is downloaded" in error and "usyd-community" in error and "absent" in error


@pytest.mark.whole
def test_a_video_of_observations_keeps_one_shape(tmp_path: Path, noisy: Observations) -> None:
    source = write(tmp_path / "obs.npz", noisy, points=None, intrinsics=None)
    command = ["annotate", "--observations", str(source), "--output", str(tmp_path / "out")]
    assert main([*command, "--consecutive"]) == 0
    with np.load(tmp_path / "out" / "labels.npz") as file:
        assert (file["betas"] == file["betas"][:1]).all()
        assert (file["intrinsics"] == file["intrinsics"][:1]).all()
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text())["source"] is None


@pytest.mark.whole
def test_photos_alone_become_labels_pictures_and_a_data_set(
    tmp_path: Path, body, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default: the shipped network, no other file; then killed, resumed and read back."""
    from PIL import Image

    from pchmr.config import DataOptions
    from pchmr.data import load_people

    options = DataOptions(num_test_samples=3, cache=tmp_path / "cache", image_size=112, world=1)
    people = load_people(options, "test", body=body, seed=0, image_size=112)
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for row in range(3):
        image = people.batch([row]).images[0].permute(1, 2, 0)
        Image.fromarray((255 * image).byte().numpy()).save(photos / f"{row}.png")
    (photos / "b.jpg").write_bytes(b"damaged")
    command = ["annotate", str(photos), "--output", str(out), "--accept-mm", "900",
               "--reject-mm", "900"]  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr()
    assert "3 clips" in said.out and "damaged" in said.err and "no focal length" in said.err
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    labeled = [row for row in rows if "failed" not in row]
    assert [row["clip"] for row in labeled] == ["0", "1", "2"]
    assert labeled[0]["provenance"]["keypoints"]["name"] == "embedded"
    assert labeled[0]["mode"] == "deposer-keypoint" and labeled[0]["focal"] == "a guess"
    assert all(is_private(path) for path in out.iterdir())
    with Image.open(out / "0.png") as drawn:
        assert drawn.size == (960, 480)
    (out / "1.npz").unlink()  # as if killed before the second clip was whole
    stamp = (out / "0.npz").stat().st_mtime_ns
    assert main(command) == 0
    assert (out / "0.npz").stat().st_mtime_ns == stamp and (out / "1.npz").is_file()
    train = load_people(DataOptions(data=out), "train", body=body, seed=0, image_size=64)
    assert 0 < len(train) < 3
    run = ["federate", "--data", str(out), "--output", str(tmp_path / "run"), "--num-clients", "2",
           "--clients-per-round", "2", "--num-rounds", "1", "--image-size", "64",
           "--from-scratch"]  # fmt: skip
    capsys.readouterr()
    assert main(run) == 2  # one private picture would tell its label
    assert "policy" in capsys.readouterr().err
