"""Recordings become poses of our skeleton that point where the recorded bones point."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24, SMPL_PARENTS
from pchmr.cli import main
from pchmr.config import UserError
from pchmr.data.mocap.amass import read_amass
from pchmr.data.mocap.bvh import read_bvh
from pchmr.data.mocap.poses import PoseSet, import_poses
from pchmr.data.synthetic import SyntheticPeople

NAMINGS = {
    "cmu": ("Hips", "LowerBack", "Spine", "Spine1", "Neck", "Head",
            "{}UpLeg", "{}Leg", "{}Foot", "{}ToeBase",
            "{}Shoulder", "{}Arm", "{}ForeArm", "{}Hand", ("Left", "Right")),
    "mixamo": ("mixamorig:Hips", "mixamorig:Spine", "mixamorig:Spine1", "mixamorig:Spine2",
               "mixamorig:Neck", "mixamorig:Head",
               "mixamorig:{}UpLeg", "mixamorig:{}Leg", "mixamorig:{}Foot", "mixamorig:{}ToeBase",
               "mixamorig:{}Shoulder", "mixamorig:{}Arm", "mixamorig:{}ForeArm",
               "mixamorig:{}Hand", ("Left", "Right")),
    "poser": ("hip", "abdomen", "chest", "chest2", "neck", "head",
              "{}Thigh", "{}Shin", "{}Foot", "{}Toe",
              "{}Collar", "{}Shldr", "{}ForeArm", "{}Hand", ("l", "r")),
    "biped": ("Bip01 Pelvis", "Bip01 Spine", "Bip01 Spine1", "Bip01 Spine2", "Bip01 Neck",
              "Bip01 Head", "Bip01 {} Thigh", "Bip01 {} Calf", "Bip01 {} Foot", "Bip01 {} Toe0",
              "Bip01 {} Clavicle", "Bip01 {} UpperArm", "Bip01 {} Forearm", "Bip01 {} Hand",
              ("L", "R")),
    "acclaim": ("root", "lowerback", "upperback", "thorax", "lowerneck", "head",
                "{}femur", "{}tibia", "{}foot", "{}toes",
                "{}clavicle", "{}humerus", "{}radius", "{}wrist", ("l", "r")),
    "game": ("pelvis", "spine_01", "spine_02", "spine_03", "neck_01", "head",
             "thigh_{}", "calf_{}", "foot_{}", "ball_{}",
             "clavicle_{}", "upperarm_{}", "lowerarm_{}", "hand_{}", ("l", "r")),
    "character": ("Actor7_Hips", "Actor7_Spine", "Actor7_Spine1", "Actor7_Spine2", "Actor7_Neck",
                  "Actor7_Head", "Actor7_{}UpperLeg", "Actor7_{}LowerLeg", "Actor7_{}Foot",
                  "Actor7_{}Toes", "Actor7_{}Shoulder", "Actor7_{}UpperArm", "Actor7_{}LowerArm",
                  "Actor7_{}Hand", ("Left", "Right")),
    "lafan": ("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head",
              "{}Hip", "{}Knee", "{}Ankle", "{}Toe",
              "{}Collar", "{}Shoulder", "{}Elbow", "{}Wrist", ("Left", "Right")),
}  # fmt: skip
OURS = ("pelvis", "spine1", "spine2", "spine3", "neck", "head", "{}_hip", "{}_knee", "{}_ankle",
        "{}_foot", "{}_collar", "{}_shoulder", "{}_elbow", "{}_wrist")  # fmt: skip
OFFSETS = {
    "spine1": (0, 5, 0), "spine2": (0, 5, 1), "spine3": (0, 6, 0), "neck": (0, 9, -1),
    "head": (0, 4, 1), "hip": (4, -2, 0), "knee": (3, -17, 1), "ankle": (0, -16, -2),
    "foot": (0, -3, 6), "collar": (3, 6, 0), "shoulder": (5, 1, 0), "elbow": (8, -8, 0),
    "wrist": (6, -8, 1),
}  # fmt: skip
PARENTS = {
    "spine1": "pelvis", "spine2": "spine1", "spine3": "spine2", "neck": "spine3", "head": "neck",
    "hip": "pelvis", "knee": "hip", "ankle": "knee", "foot": "ankle", "collar": "spine3",
    "shoulder": "collar", "elbow": "shoulder", "wrist": "elbow",
}  # fmt: skip


def write_bvh(path: Path, naming: str, *, frames: int = 5, seed: int = 0, order: str = "ZXY"):
    """A file in a naming, with its rest pose lowered arms; returns positions of its joints."""
    words = NAMINGS[naming]
    called = dict(zip(OURS, words[:-1], strict=True))
    tree = {"pelvis": (None, (0, 90, 0))}
    for joint, parent in PARENTS.items():
        for side, sign in (("left", 1), ("right", -1)) if joint not in OURS else ((None, 1),):
            own = joint if side is None else f"{side}_{joint}"
            up = f"{side}_{parent}" if parent not in OURS else parent
            x, y, z = OFFSETS[joint]
            tree[own] = (up, (sign * x, y, z))
    rng = np.random.default_rng(seed)
    channels, text = [], []

    def spelled(own: str) -> str:
        side, _, part = own.partition("_")
        if side not in ("left", "right"):
            return called[own]
        return called[f"{{}}_{part}"].format(words[-1][side == "right"])

    def put(own: str, depth: int) -> None:
        offset = " ".join(map(str, tree[own][1]))
        rotations = " ".join(f"{axis}rotation" for axis in order)
        kind, names = ("ROOT", "6 Xposition Yposition Zposition") if depth == 0 else ("JOINT", "3")
        text.append(f"{kind} {spelled(own)}\n{{\nOFFSET {offset}\nCHANNELS {names} {rotations}")
        channels.append(own)
        children = [name for name, (up, _) in tree.items() if up == own]
        for child in children:
            put(child, depth + 1)
        if not children:
            text.append("End Site\n{\nOFFSET 0 -2 1\n}")
        text.append("}")

    put("pelvis", 0)
    angles = {own: rng.uniform(-40, 40, (frames, 3)) for own in channels}
    rows = []
    for frame in range(frames):
        values = [0.0, 90.0, 0.0]
        for own in channels:
            values += angles[own][frame].tolist()
        rows.append(" ".join(f"{value:.8f}" for value in values))
    path.write_text(
        "HIERARCHY\n" + "\n".join(text) + f"\nMOTION\nFrames: {frames}\nFrame Time: 0.1\n"
        + "\n".join(rows) + "\n"
    )  # fmt: skip
    places = []
    for frame in range(frames):
        world, at = {}, {}
        for own in channels:
            up, offset = tree[own]
            turn = Rotation.from_euler(order, angles[own][frame], degrees=True)
            world[own] = turn if up is None else world[up] * turn
            at[own] = np.array(offset) if up is None else at[up] + world[up].apply(offset)
        places.append(at)
    return places


def posed(body: BodyModel, rotvec: np.ndarray) -> np.ndarray:
    import torch

    pose = torch.from_numpy(rotvec).float()
    return body(pose[:, 0], pose[:, 1:], torch.zeros(len(pose), 10)).joints.double().numpy()


def rest_of(body: BodyModel) -> np.ndarray:
    return body.rest_joints(body.v_template.new_zeros(10)).double().numpy()


@pytest.mark.parametrize("naming", NAMINGS)
def test_limbs_point_where_the_recorded_ones_do(naming: str, body, tmp_path) -> None:
    path = tmp_path / "walk.bvh"
    places = write_bvh(path, naming, order="ZXY" if naming != "poser" else "XYZ")
    motion = read_bvh(path, "walk", rest_of(body))
    joints = posed(body, motion.rotvec)
    front = None
    for frame, at in enumerate(places):
        for side in ("left", "right"):
            for start, end in (("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"),
                               ("shoulder", "elbow"), ("elbow", "wrist")):  # fmt: skip
                names = (f"{side}_{start}", f"{side}_{end}")
                theirs = at[names[1]] - at[names[0]]
                first, second = (joints[frame, SMPL_24.index(name)] for name in names)
                ours = second - first
                if front is None:  # the whole recording is turned to look ahead
                    front = np.arctan2(ours[0], ours[2]) - np.arctan2(theirs[0], theirs[2])
                turned = Rotation.from_euler("y", front).apply(theirs)
                cos = turned @ ours / np.linalg.norm(turned) / np.linalg.norm(ours)
                assert cos > 1 - 1e-5, (naming, frame, names)


def test_a_recording_is_thinned_to_the_rate_of_clips(body, tmp_path) -> None:
    write_bvh(tmp_path / "walk.bvh", "cmu", frames=30)
    text = (tmp_path / "walk.bvh").read_text().replace("Frame Time: 0.1", "Frame Time: 0.02")
    (tmp_path / "walk.bvh").write_text(text)
    assert len(read_bvh(tmp_path / "walk.bvh", "walk", rest_of(body)).rotvec) == 6


def test_a_missing_limb_is_named(body, tmp_path) -> None:
    write_bvh(tmp_path / "walk.bvh", "cmu")
    text = (tmp_path / "walk.bvh").read_text().replace("LeftLeg", "Tail")
    (tmp_path / "walk.bvh").write_text(text)
    with pytest.raises(UserError, match="no joint that we take for left_knee"):
        read_bvh(tmp_path / "walk.bvh", "walk", rest_of(body))


@pytest.mark.parametrize(("width", "key"), [(156, "mocap_framerate"), (165, "mocap_frame_rate")])
def test_amass_stands_upright_and_keeps_its_limbs(width: int, key: str, body, tmp_path) -> None:
    rng = np.random.default_rng(1)
    poses = 0.3 * rng.standard_normal((24, width))
    upright = Rotation.from_euler("x", 90, degrees=True)  # z up
    turned = Rotation.from_euler("z", 1.0) * upright
    poses[:, :3] = turned.as_rotvec()
    extra = {"betas": np.zeros(16), "trans": np.zeros((24, 3)), "gender": np.array("male")}
    np.savez(tmp_path / "a_poses.npz", poses=poses, **{key: np.array(120.0)}, **extra)
    motion = read_amass(tmp_path / "a_poses.npz", "a")
    assert motion is not None and len(motion.rotvec) == 2
    np.testing.assert_allclose(motion.rotvec[0, 0], 0, atol=1e-6)  # upright, looks ahead
    np.testing.assert_allclose(motion.rotvec[1, 1:22], poses[12, 3:66].reshape(21, 3))
    assert not motion.rotvec[:, 22:].any()
    np.savez(tmp_path / "shape.npz", betas=np.zeros(16))
    assert read_amass(tmp_path / "shape.npz", "shape") is None


def test_recordings_become_rendered_people_on_the_ground(body, tmp_path) -> None:
    import torch

    (tmp_path / "source").mkdir()
    for number in range(5):
        write_bvh(tmp_path / "source" / f"{number}.bvh", "cmu", seed=number)
    poses = tmp_path / "poses"
    assert main(["data", "import", "bvh", str(tmp_path / "source"), str(poses)]) == 0
    found = PoseSet.open(poses)
    assert found.names == tuple(f"{k}.bvh" for k in range(5))
    assert [found.of_split(s).tolist() for s in ("train", "validation", "test")] == [
        [0, 1, 2], [3], [4],
    ]  # fmt: skip
    words = ["data", "synth", "--poses", poses, "--output", tmp_path / "people",
             "--num-samples", 4, "--num-test-samples", 2, "--image-size", 48]  # fmt: skip
    assert main([str(word) for word in words]) == 0
    people = SyntheticPeople.open(tmp_path / "people" / "test")
    assert set(people.columns["action"]) == {"4.bvh"}
    sample = people.batch(range(len(people)))
    wanted = found.rotvec[found.start[4] : found.start[5], 1:]
    for pose in sample.body_pose.numpy():
        assert min(np.abs(pose - own).max() for own in wanted) < 1e-4
    upright = body(torch.zeros(2, 3), sample.body_pose, sample.betas).vertices
    assert (upright[..., 1].amax(dim=1) - upright[..., 1].amin(dim=1) > 0.5).all()


def test_few_recordings_are_cut_in_time(body, tmp_path) -> None:
    """One recording fills three splits with other moments of it, if it is long enough."""
    write_bvh(tmp_path / "one.bvh", "cmu", frames=23)
    whole = read_bvh(tmp_path / "one.bvh", "one", rest_of(body)).rotvec
    import_poses("bvh", tmp_path / "one.bvh", tmp_path / "one", body, lambda *_: None)
    found = PoseSet.open(tmp_path / "one")
    np.testing.assert_allclose(found.rotvec, whole, atol=1e-6)
    lengths = np.diff(found.start)
    assert [lengths[found.of_split(s)].sum() for s in ("train", "validation", "test")] == [15, 4, 4]
    write_bvh(tmp_path / "short.bvh", "cmu", frames=4)
    with pytest.raises(UserError, match="4 frames of motion in"):
        import_poses("bvh", tmp_path / "short.bvh", tmp_path / "few", body, lambda *_: None)


STRUNG = {"pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2",
          "neck": "Neck", "head": "Head"} | {
    f"{side.lower()}_{part}": f"{side}{word}"
    for side in ("Left", "Right")
    for part, word in (("hip", "UpLeg"), ("knee", "Leg"), ("ankle", "Foot"), ("foot", "Toe"),
                       ("collar", "Shoulder"), ("shoulder", "Arm"), ("elbow", "ForeArm"),
                       ("wrist", "Hand"))
}  # fmt: skip


def write_strung(path: Path, body: BodyModel, rotvec: np.ndarray) -> None:
    """Motion of our body in a skeleton whose every bone lies along x, turned about it at will."""
    rest, rng = rest_of(body), np.random.default_rng(4)
    parents = [SMPL_PARENTS[SMPL_24.index(name)] for name in SMPL_24.names]
    world, own = [], []
    for joint, name in enumerate(SMPL_24.names):
        turn = Rotation.from_rotvec(rotvec[:, joint])
        world.append(turn if joint == 0 else world[parents[joint]] * turn)
        children = [k for k, parent in enumerate(parents) if parent == joint]
        frame = Rotation.from_matrix([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # x up, y ahead, z left
        if len(children) == 1 and "spine" not in name and name != "neck":
            bone = rest[children[0]] - rest[joint]
            straight, _ = Rotation.align_vectors([bone / np.linalg.norm(bone)], [[1, 0, 0]])
            frame = straight * Rotation.from_rotvec([rng.uniform(-3, 3), 0, 0])
        own.append(frame)
    text, rows = [], [["0 90 0"] for _ in rotvec]

    def put(joint: int, depth: int) -> None:
        name, parent = SMPL_24.names[joint], parents[joint]
        offset = own[parent].inv().apply(rest[joint] - rest[parent]) if depth else np.zeros(3)
        kind, more = ("ROOT", "6 Xposition Yposition Zposition") if depth == 0 else ("JOINT", "3")
        text.append(f"{kind} {STRUNG[name]}\n{{\nOFFSET {' '.join(map(str, offset))}\n"
                    f"CHANNELS {more} Zrotation Yrotation Xrotation")  # fmt: skip
        turn = world[joint] * own[joint]
        if depth:
            turn = (world[parent] * own[parent]).inv() * turn
        for row, angles in zip(rows, turn.as_euler("ZYX", degrees=True), strict=True):
            row += [f"{angle:.8f}" for angle in angles]
        children = [k for k, at in enumerate(parents) if at == joint and SMPL_24.names[k] in STRUNG]
        for child in children:
            put(child, depth + 1)
        if not children:
            text.append("End Site\n{\nOFFSET 0 0 0\n}")
        text.append("}")

    put(0, 0)
    motion = "\n".join(" ".join(row) for row in rows)
    path.write_text("HIERARCHY\n" + "\n".join(text) + f"\nMOTION\nFrames: {len(rows)}\n"
                    f"Frame Time: 0.1\n{motion}\n")  # fmt: skip


def test_limbs_that_a_file_strings_along_one_axis_are_not_twisted(body, tmp_path) -> None:
    """Elbows and knees bend as they were recorded, though nothing at rest tells which way."""
    rng = np.random.default_rng(2)
    rotvec = np.zeros((12, 24, 3))
    rotvec[:, 0, 1] = rng.uniform(-0.5, 0.5, 12)
    for name in ("left_hip", "right_hip", "spine1", "neck", "left_shoulder", "right_shoulder"):
        rotvec[:, SMPL_24.index(name)] = rng.uniform(-0.4, 0.4, (12, 3))
    for name, axis, sign in (("knee", 0, (1, 1)), ("elbow", 1, (-1, 1))):
        for side, way in zip(("left", "right"), sign, strict=True):
            rotvec[:, SMPL_24.index(f"{side}_{name}"), axis] = way * rng.uniform(0.3, 1.2, 12)
    write_strung(tmp_path / "strung.bvh", body, rotvec)
    found = read_bvh(tmp_path / "strung.bvh", "strung", rest_of(body)).rotvec
    turned = rotvec.copy()
    ahead = Rotation.from_euler("y", -rotvec[0, 0, 1])
    turned[:, 0] = (ahead * Rotation.from_rotvec(rotvec[:, 0])).as_rotvec()
    off = (Rotation.from_rotvec(found[:, :22].reshape(-1, 3)).inv()
           * Rotation.from_rotvec(turned[:, :22].reshape(-1, 3))).magnitude()  # fmt: skip
    off = np.degrees(off.reshape(12, 22)).max(axis=0)
    assert off[SMPL_24.index("pelvis")] < 0.1
    worst = {name: off[joint] for joint, name in enumerate(SMPL_24.names[:22])}
    assert max(worst.values()) < 20, worst
