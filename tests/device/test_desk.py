"""Labels on the desk: order, verdicts, corrections, undo, and the log of all of it."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.annotate.corrections import swapped
from pchmr.annotate.deposer import Annotator
from pchmr.annotate.labels import AUDIT, LabelFolder
from pchmr.bench.live.labeled import SIDE, write_labels
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_23
from pchmr.config import SettingError
from pchmr.data.labels import LabeledPictures
from pchmr.device.desk import Desk
from pchmr.device.review import answered, site_of
from pchmr.geometry import project_pinhole


@pytest.fixture(scope="module")
def annotator(body: BodyModel) -> Annotator:
    return Annotator(body)


@pytest.fixture
def desk(tmp_path: Path, annotator: Annotator) -> Desk:
    return Desk.open(write_labels(tmp_path, annotator.body, 6), annotator)


def audit(desk: Desk) -> list[dict]:
    return [json.loads(line) for line in (desk.folder.path / AUDIT).read_text().splitlines()]


def test_the_worst_comes_first_and_what_is_decided_last(desk: Desk, annotator: Annotator) -> None:
    errors = [item.error_mm for item in desk.items]
    assert errors == sorted(errors, reverse=True)
    desk.decide(0, "accepted")
    again = Desk.open(LabelFolder.open(desk.folder.path), annotator)
    assert (again.items[-1].clip, again.items[-1].status) == (desk.items[0].clip, "accepted")


def test_what_is_accepted_is_what_training_reads(desk: Desk, body: BodyModel) -> None:
    for row, verdict in enumerate(("accepted", "rejected", "accepted", "accepted")):
        desk.decide(row, verdict)
    desk.drag(2, COCO_23.index("left_wrist"), 200.0, 60.0)
    assert desk.items[2].status == "review" and not desk.items[2].decided
    desk.decide(2, "accepted")
    people = [
        LabeledPictures(desk.folder.path, split, body=body, image_size=32)
        for split in ("train", "test")
    ]
    assert sum(len(part) for part in people) == 3
    label = desk.label(2)
    found = [part.batch([row]) for part in people for row in range(len(part))]
    wanted = torch.from_numpy(label["body_pose"]).float()
    assert any(torch.equal(sample.body_pose, wanted) for sample in found)


def test_a_dragged_keypoint_takes_the_body_along(desk: Desk, body: BodyModel) -> None:
    row, wrist = 0, COCO_23.index("left_wrist")
    before = desk.label(row)
    start = before["keypoints_2d"][0, wrist, :2]
    target = start + np.array([25.0, -25.0])
    desk.drag(row, wrist, *target.tolist())
    after = desk.label(row)
    seen = project_pinhole(
        body.regress(torch.from_numpy(after["vertices"]), COCO_23),
        torch.from_numpy(after["intrinsics"]),
    )[0].numpy()
    assert np.linalg.norm(seen[wrist] - target) < 0.4 * np.linalg.norm(start - target)
    others = [k for k in range(len(seen)) if "left" not in COCO_23.names[k]]
    moved = np.linalg.norm(seen - before["keypoints_2d"][0, :, :2], axis=-1)[others]
    assert np.median(moved) < 2.0
    assert after["keypoints_2d"][0, wrist, 2] == 1.0
    assert np.isnan(after["predicted_error_mm"][0]) and after["status"][0] == "review"
    posed = body(*(torch.from_numpy(after[name]) for name in (
        "global_orient", "body_pose", "betas", "transl")))  # fmt: skip
    assert torch.allclose(posed.vertices, torch.from_numpy(after["vertices"]), atol=1e-4)
    assert LabelFolder.open(desk.folder.path).is_whole(desk.items[row].clip)


def test_swapping_twice_gives_the_keypoints_back(desk: Desk) -> None:
    before = desk.label(1)["keypoints_2d"]
    desk.swap(1)
    once = desk.label(1)
    assert not np.allclose(once["keypoints_2d"], before)
    assert np.array_equal(
        swapped(once["keypoints_2d"][0], once["keypoint_names"].tolist()), before[0]
    )
    desk.swap(1)
    assert np.array_equal(desk.label(1)["keypoints_2d"], before)


def test_undo_takes_everything_back_in_order(desk: Desk) -> None:
    before = desk.label(0)
    desk.drag(0, 5, 30.0, 30.0)
    desk.decide(0, "accepted")
    desk.decide(1, "rejected")
    assert [desk.undo(3), desk.undo(3)] == [1, 0]
    assert desk.items[0].status == "review" and not desk.items[0].decided
    assert desk.undo(0) == 0
    after = desk.label(0)
    assert all(np.array_equal(after[name], before[name], equal_nan=after[name].dtype.kind == "f")
               for name in before)  # fmt: skip
    with pytest.raises(SettingError, match="nothing to undo"):
        desk.undo(0)
    names = [line["action"] for line in audit(desk)]
    assert names == ["drag", "accepted", "rejected", "undo", "undo", "undo"]


def test_the_log_says_what_was_done_and_goes_with_the_clip(desk: Desk) -> None:
    desk.drag(0, 9, 40.0, 50.0)
    line = audit(desk)[-1]
    assert (line["clip"], line["keypoint"], line["to"]) == (
        desk.items[0].clip,
        COCO_23.names[9],
        [40.0, 50.0],
    )
    assert (desk.folder.path / AUDIT).stat().st_mode & 0o077 == 0
    desk.folder.forget(desk.items[0].clip)
    assert not audit(desk)


def test_a_picture_that_is_gone_is_told_and_gray(desk: Desk) -> None:
    Path(desk.folder.rows[desk.items[0].clip]["source"]).unlink()
    assert desk.size(0) == (SIDE, SIDE)
    assert "gone" in desk.items[0].why
    assert desk.refit(0) == 0


def test_a_correction_ends_a_decision_and_undo_brings_it_back(
    desk: Desk, annotator: Annotator
) -> None:
    desk.decide(0, "accepted")
    desk.refit(0)
    again = Desk.open(LabelFolder.open(desk.folder.path), annotator)
    assert not [item for item in again.items if item.decided]
    desk.undo(0)
    assert (desk.items[0].status, desk.items[0].decided) == ("accepted", True)


def test_what_could_not_be_written_was_not_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {clip: dict(row) for clip, row in desk.folder.rows.items()}

    def full(*_: object, **__: object) -> None:
        raise SettingError("no room")

    monkeypatch.setattr("pchmr.annotate.labels.write_bytes", full)
    assert answered(desk, {"row": 0, "action": "accept"}) == {"refused": "no room"}
    assert desk.folder.rows == before and not desk.can_undo
    monkeypatch.setattr("pchmr.annotate.labels.replacing", full)
    assert answered(desk, {"row": 0, "action": "refit"}) == {"refused": "no room"}
    assert not desk.can_undo and desk.items[0].status == "review"


def test_a_clip_is_corrected_without_packing_it_again(desk: Desk) -> None:
    clip = desk.items[0].clip
    desk.refit(0)
    with zipfile.ZipFile(desk.folder.path / desk.folder.rows[clip]["labels"]) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_nonsense_from_a_page_changes_nothing(desk: Desk) -> None:
    manifest = (desk.folder.path / "manifest.jsonl").read_bytes()
    said = [
        {}, {"row": 99, "action": "accept"}, {"row": -1, "action": "accept"},
        {"row": True, "action": "accept"}, {"row": 0, "action": "delete"},
        {"row": 0, "action": ["accept"]}, {"row": 0, "action": "drag"},
        {"row": 0, "action": "drag", "keypoint": 0, "x": "1", "y": 2},
        {"row": 0, "action": "drag", "keypoint": 0, "x": float("nan"), "y": 2},
        {"row": 0, "action": "drag", "keypoint": 99, "x": 1, "y": 2},
        {"row": 0, "action": "drag", "keypoint": True, "x": 1, "y": 2},
        {"row": 0, "action": "undo"},
    ]  # fmt: skip
    assert all("refused" in answered(desk, dict(one)) for one in said)
    assert (desk.folder.path / "manifest.jsonl").read_bytes() == manifest


def test_addresses_of_frames_are_plain_numbers(desk: Desk) -> None:
    site = site_of(desk, {})
    content = site.find("label/0")
    assert content is not None and json.loads(content.read())["clip"] == desk.items[0].clip
    for name in ("label/-1", "label/6", "label/0/1", "label/", "label/٣", "picture/../x", "x/0"):
        assert site.find(name) is None
