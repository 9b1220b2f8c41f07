"""Samples of every reader against an independent forward pass and projection, from source files."""

from dataclasses import replace

import layouts
import numpy as np
import pytest
import torch

from pchmr.body.joints import EVALUATION_14, H36M_TO_EVALUATION

SIZE = 64
MM, PX = 1e-5, 0.01


def truth_of(person: layouts.Walk, arrays: dict, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Evaluation joints in the camera's frame and their pixels, in float64."""
    vertices, _ = person.seen(arrays, frame)
    joints = (arrays["J_regressor_h36m"].astype(np.float64) @ vertices)[list(H36M_TO_EVALUATION)]
    return joints, person.pixels(joints)


def assert_same(people, row: int, joints: np.ndarray, pixels: np.ndarray) -> None:
    """A row's sample holds these joints and, seen through its square, these pixels."""
    sample = people.batch([row])
    about = joints - joints[list(EVALUATION_14.root)].mean(axis=0)
    np.testing.assert_allclose(sample.joints[0, :, :3], about, atol=MM)
    x, y, side = people.detail("square")[row].astype(np.float64)
    at = (pixels - [x - side / 2, y - side / 2]) * SIZE / side
    seen = (sample.keypoints_2d[0, :, :2].double().numpy() + 1) * SIZE / 2
    np.testing.assert_allclose(seen, at, atol=PX)
    inside = (np.abs(2 * at / SIZE - 1) <= 1).all(axis=-1)
    assert (sample.keypoints_2d[0, :, 2].numpy() > 0).tolist() == inside.tolist()


def assert_mesh(people, row: int, body, person: layouts.Walk, arrays: dict, frame: int) -> None:
    """The parameters of a sample give the mesh and, through its camera, its pixels."""
    sample = people.batch([row])
    mesh = body(sample.global_orient, sample.body_pose, sample.betas, sample.transl).vertices
    vertices, _ = person.seen(arrays, frame)
    np.testing.assert_allclose(mesh[0], vertices, atol=MM)
    flat = mesh[0].double().numpy() @ sample.intrinsics[0].double().numpy().T
    x, y, side = people.detail("square")[row].astype(np.float64)
    at = (person.pixels(vertices) - [x - side / 2, y - side / 2]) * SIZE / side
    np.testing.assert_allclose(flat[:, :2] / flat[:, 2:], at, atol=PX)


def test_3dpw(imported, gendered, bodies, tmp_path) -> None:
    people = imported["3dpw"]
    made = layouts.write_3dpw(tmp_path, gendered)
    done = 0
    for row, (sequence, clip) in enumerate(
        zip(people.columns["sequence"], people.columns["clip"], strict=True)
    ):
        person, letter = made[sequence][int(clip.rsplit(" ", 1)[1])]
        frame = int(people.columns["frame"][row])
        assert frame != 1
        first = made[sequence][0][0]  # whose camera sees both
        views = replace(person, extrinsics=first.extrinsics, intrinsics=first.intrinsics)
        assert_same(people, row, *truth_of(views, gendered[letter], frame))
        own = bodies.by_gender[people.columns["gender"][row]]
        assert_mesh(people, row, own, views, gendered[letter], frame)
        done += 1
    assert done == len(people) == 6 + 3 + 4
    assert people.manifest["left_out"] == {"camera pose not valid": 5, "picture missing": 2}
    assert set(people.columns["gender"]) == {"male", "female"}
    assert np.nanmax(people.detail("reprojection_px")) < PX
    assert 0.5 < np.median(people.detail("own_joints_mm")) < 60


def test_emdb(imported, gendered, bodies, tmp_path) -> None:
    people = imported["emdb"]
    made = layouts.write_emdb(tmp_path, gendered)
    for row, sequence in enumerate(people.columns["sequence"]):
        person, gender = made[sequence]
        frame = int(people.columns["frame"][row])
        assert_same(people, row, *truth_of(person, gendered[gender[0]], frame))
        assert_mesh(people, row, bodies.by_gender[gender], person, gendered[gender[0]], frame)
        view = person.extrinsics[frame, :3]
        np.testing.assert_allclose(people.detail("extrinsics")[row], view, atol=1e-6)
    assert len(people) == 15 and people.manifest["left_out"] == {"frame not good": 1}
    assert sorted(set(people.columns["protocol"])) == ["emdb1", "emdb2"]
    assert people.detail("reprojection_px").max() < PX


def test_h36m(imported, arrays, tmp_path) -> None:
    people = imported["h36m"]
    made = layouts.write_h36m(tmp_path, arrays)
    by_clip = {(name.split("/")[0], int(name[-10:-4]) - 1): value for name, value in made.items()}
    subjects = people.columns["subject"]
    assert sorted(set(subjects)) == ["S1", "S5", "S9"]
    for row, clip in enumerate(people.columns["clip"]):
        joints, camera = by_clip[clip, int(people.columns["frame"][row])]
        joints = joints[list(H36M_TO_EVALUATION)]
        flat = joints @ camera.T
        assert_same(people, row, joints, flat[:, :2] / flat[:, 2:])
    frames = {s: set(people.columns["frame"][subjects == s].tolist()) for s in ("S1", "S9")}
    assert frames == {"S1": {0, 5, 65}, "S9": {0, 5, 65}}
    has_smpl = people.detail("has_smpl") > 0
    assert not has_smpl[subjects != "S1"].any() and people.detail("has_joints").all()
    assert (
        has_smpl[subjects == "S1"].tolist()
        == (people.columns["frame"][subjects == "S1"] != 5).tolist()
    )
    known = people.detail("own_joints_mm")[has_smpl]
    assert np.nanmax(known) < 0.01
    assert people.about["sampling"] == "every 5th frame, to test of the frontal camera"
    assert set(people.columns["scene"][subjects == "S9"]) == {"60457274"}


@pytest.mark.parametrize("kind", ["bedlam", "spin"])
def test_label_archives(imported, arrays, kind, tmp_path) -> None:
    people = imported[kind]
    person = layouts.write_npz(tmp_path, arrays, kind="spin")
    assert len(people) == 4 and people.manifest["left_out"] == {"picture missing": 1}
    for row in range(4):
        if kind == "bedlam":
            continue  # gendered bodies; see the next test
        assert_same(people, row, *truth_of(person, arrays, row))
    genders = ["female", "male", "neutral", "female"] if kind == "bedlam" else ["neutral"] * 4
    assert people.columns["gender"].tolist() == genders


def test_bedlam_has_a_camera(imported, arrays, bodies, tmp_path) -> None:
    people = imported["bedlam"]
    person = layouts.write_npz(tmp_path, arrays, kind="bedlam")
    (row,) = np.flatnonzero(people.columns["gender"] == "neutral")
    assert_same(people, int(row), *truth_of(person, arrays, int(row)))
    assert_mesh(people, int(row), bodies.neutral, person, arrays, int(row))


def test_tsv(imported, arrays, tmp_path) -> None:
    people = imported["tsv"]
    made = layouts.write_tsv(tmp_path, arrays)
    order = [made[3 * k + row] for row in range(3) for k in range(2)]  # as the linelist says
    expected = {"test": made[6:], "train": order}
    for split, rows in expected.items():
        own = np.flatnonzero(people.columns["split"] == split)
        for row, (person, frame) in zip(own.tolist(), rows, strict=True):
            assert_same(people, row, *truth_of(person, arrays, frame))
            assert bool(people.detail("has_smpl")[row]) == (frame != 1)
    with_mesh = people.detail("has_smpl") > 0
    assert np.nanmax(people.detail("reprojection_px")[with_mesh]) < 3


def test_own_pictures(imported, arrays, bodies, tmp_path) -> None:
    people = imported["truth"]
    person = layouts.write_truth(tmp_path, arrays)
    for row, scene in enumerate(people.columns["scene"]):
        frame = int(scene.split()[1])
        assert_same(people, row, *truth_of(person, arrays, frame))
        assert_mesh(people, row, bodies.neutral, person, arrays, frame)
    assert sorted(people.columns["split"]) == ["test"] + ["train"] * 4


def test_crops_show_the_square_and_scale_with_it(imported, sets) -> None:
    from pchmr.data.crops import Square, crop
    from pchmr.data.photos import load_photo
    from pchmr.data.sets.folder import ImportedPeople

    people = imported["truth"]
    square = Square(*people.detail("square")[0].tolist())
    scene = people.columns["scene"][0].split()[1]
    whole = load_photo(sets["truth"] / f"photo {scene}.jpg")
    wanted = crop(whole, square, SIZE)
    assert (people.batch([0]).images[0] - wanted).abs().mean() < 0.06  # JPEG of noise
    half = ImportedPeople(people.folder, None, image_size=SIZE // 2)
    assert half.batch([0]).images.shape == (1, 3, SIZE // 2, SIZE // 2)
    torch.testing.assert_close(half.batch([0]).intrinsics[0, :2] * 2,
                               people.batch([0]).intrinsics[0, :2])  # fmt: skip
    assert half.content_hash != people.content_hash


def test_neutral_truth_is_an_option(sets, bodies, make_job, tmp_path, imported) -> None:
    from pchmr.data.sets.folder import ImportedPeople
    from pchmr.data.sets.importing import import_set
    from pchmr.data.sets.placing import Bodies

    neutral = Bodies(bodies.neutral, {})
    import_set(make_job("3dpw", sets["3dpw"], tmp_path / "neutral", neutral))
    people = ImportedPeople(tmp_path / "neutral", "test", body=bodies.neutral)
    assert people.about["truth"] == "neutral body"
    own = ImportedPeople(imported["3dpw"].folder, "test")
    off = np.abs(people.detail("joints") - own.detail("joints"))[..., :3].max()
    assert 0.005 < off < 0.1
