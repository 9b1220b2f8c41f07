"""Files of a clip, read by other libraries and compared with the body's own joints and skin."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from clips import make_clip
from scipy.spatial.transform import Rotation

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24
from pchmr.config import FORMATS
from pchmr.predict.formats import WRITERS, Export
from pchmr.predict.formats.bvh import bvh_text
from pchmr.predict.formats.gltf import glb_bytes, gltf_text
from pchmr.predict.motion import UPRIGHT, even_times, exported, motions
from pchmr.predict.people import Clip
from pchmr.predict.posed import posed


@pytest.fixture(scope="module")
def clip(tiny_body: BodyModel) -> Clip:
    return make_clip(tiny_body)


def smpl_joints(clip: Clip, body: BodyModel, person: int, shape: str) -> np.ndarray:
    """Joints of the chain in the axes of an export, by the body itself."""
    betas, transl = exported(body, clip.betas[person], clip.transl[:, person], shape)
    arrays = (clip.global_orient[:, person], clip.body_pose[:, person], transl)
    orient, pose, shift = (torch.tensor(a, dtype=torch.float32) for a in arrays)
    given = torch.tensor(betas, dtype=torch.float32).expand(len(orient), -1)
    return body(orient, pose, given, shift).joints.numpy() @ UPRIGHT


@pytest.mark.parametrize("shape", ["neutral", "fitted"])
def test_bvh_read_by_another_library_has_the_same_joints(
    clip: Clip, tiny_body: BodyModel, tmp_path: Path, shape
) -> None:
    bvhio = pytest.importorskip("bvhio", reason="pip install pchmr[dev]")
    for person, motion in enumerate(motions(clip, tiny_body, shape)):
        path = tmp_path / f"{person}.bvh"
        path.write_text(bvh_text(motion, tiny_body))
        container = bvhio.readAsBvh(str(path))
        assert container.FrameCount == len(clip.time_seconds)
        assert container.FrameTime == pytest.approx(1 / 25)
        hierarchy = bvhio.readAsHierarchy(str(path))
        wanted = smpl_joints(clip, tiny_body, person, shape)
        for frame in np.flatnonzero(clip.has_person[:, person]).tolist():
            hierarchy.loadPose(frame)
            for joint, name in enumerate(SMPL_24.names):
                found = np.array(hierarchy.filter(name, isEqual=True)[0].PositionWorld)
                assert np.abs(found - wanted[frame, joint]).max() < 1e-3


def test_the_rest_pose_of_bvh_is_upright_and_faces_forward(body: BodyModel, tmp_path: Path) -> None:
    bvhio = pytest.importorskip("bvhio", reason="pip install pchmr[dev]")
    motion = motions(make_clip(body, 3, people=1), body, "neutral")[0]
    (tmp_path / "a.bvh").write_text(bvh_text(motion, body))
    root = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    root.loadRestPose()
    place = {
        name: np.array(root.filter(name, isEqual=True)[0].PositionWorld) for name in SMPL_24.names
    }
    assert place["head"][1] > 0.5 and place["left_ankle"][1] < -0.7
    assert place["left_hand"][0] > 0.5 > -0.5 > place["right_hand"][0]
    assert place["left_foot"][2] > place["left_ankle"][2] + 0.05
    ends = list(root.filter("head", isEqual=True)[0].Children)
    assert not ends or ends[0].PositionWorld[1] > place["head"][1]


def read_arrays(document: dict, content: bytes) -> list[np.ndarray]:
    """Accessors of a glTF document, by its specification."""
    kinds = {5126: "<f4", 5121: "u1", 5125: "<u4"}
    widths = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
    found = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        width, kind = widths[accessor["type"]], kinds[accessor["componentType"]]
        count = accessor["count"] * width
        values = np.frombuffer(content, kind, count, view["byteOffset"])
        found.append(values.reshape(accessor["count"], width))
    return found


def play(document: dict, arrays: list[np.ndarray], key: int, skin: dict) -> np.ndarray:
    """Skinned vertices at a key of the animation, from nodes, skin and samplers alone."""
    animation, nodes = document["animations"][0], document["nodes"]
    local = {}
    for number, node in enumerate(nodes):
        local[number] = np.eye(4)
        local[number][:3, 3] = node.get("translation", [0, 0, 0])
    for channel in animation["channels"]:
        number, path = channel["target"]["node"], channel["target"]["path"]
        output = arrays[animation["samplers"][channel["sampler"]]["output"]]
        if path == "translation":
            local[number][:3, 3] = output[key]
        elif path == "rotation":
            local[number][:3, :3] = Rotation.from_quat(output[key]).as_matrix()
    world = dict(local)
    for number, node in enumerate(nodes):  # parents come first
        for child in node.get("children", []):
            world[child] = world[number] @ local[child]
    bind = arrays[skin["inverseBindMatrices"]].reshape(-1, 4, 4).transpose(0, 2, 1)
    moves = np.stack([world[joint] for joint in skin["joints"]]) @ bind
    mesh = next(n for n in nodes if "mesh" in n and document["skins"][n["skin"]] is skin)["mesh"]
    attributes = document["meshes"][mesh]["primitives"][0]["attributes"]
    position, bones, shares = (
        arrays[attributes[name]] for name in ("POSITION", "JOINTS_0", "WEIGHTS_0")
    )
    mixed = (shares[..., None, None] * moves[bones]).sum(axis=1)
    return (mixed[:, :3, :3] @ position[..., None])[..., 0] + mixed[:, :3, 3]


def test_the_skin_of_glb_follows_the_body(clip: Clip, tiny_body: BodyModel) -> None:
    content = glb_bytes(motions(clip, tiny_body, "fitted"), tiny_body)
    length = int.from_bytes(content[12:16], "little")
    document = json.loads(content[20 : 20 + length])
    arrays = read_arrays(document, content[28 + length :])
    for person, skin in enumerate(document["skins"]):
        betas, transl = exported(tiny_body, clip.betas[person], clip.transl[:, person], "fitted")
        orient, pose = clip.global_orient[0, person, None], clip.body_pose[0, person, None]
        wanted = posed(tiny_body, orient, pose, betas, transl[:1])[0][0] @ UPRIGHT
        assert np.abs(play(document, arrays, 0, skin) - wanted).max() < 1e-4
    assert document == json.loads(gltf_text(motions(clip, tiny_body, "fitted"), tiny_body)) | {
        "buffers": document["buffers"]
    }
    scales = [c for c in document["animations"][0]["channels"] if c["target"]["path"] == "scale"]
    assert len(scales) == 1  # of the one who leaves
    sampler = document["animations"][0]["samplers"][scales[0]["sampler"]]
    assert sampler["interpolation"] == "STEP"
    assert (arrays[sampler["output"]][:, 0] == clip.has_person[:, 1]).all()


def test_glb_is_read_by_another_library(body: BodyModel) -> None:
    clip = make_clip(body, 3, people=1)
    content = glb_bytes(motions(clip, body, "neutral"), body)
    scene = trimesh.load(io.BytesIO(content), file_type="glb", process=False)
    assert isinstance(scene, trimesh.Scene)
    mesh = next(iter(scene.geometry.values()))
    assert np.abs(mesh.vertices - body.v_template.numpy()).max() < 1e-5
    places = {name: scene.graph[name][0][:3, 3] for name in scene.graph.nodes}
    rest = body.rest_joints(torch.zeros(1, 10))[0].numpy()
    head = places["person_1_head"]
    assert np.abs(head - rest[SMPL_24.index("head")]).max() < 1e-5


def test_exports_have_no_shape_unless_it_is_asked_for(
    clip: Clip, tiny_body: BodyModel, tmp_path: Path
) -> None:
    other = replace(clip, betas=clip.betas + 1.0)
    for name in ("glb", "gltf", "bvh"):
        written = []
        for number, shown in enumerate((clip, other)):
            export = Export(clip=shown, body=tiny_body, shape="neutral", frames=lambda: iter(()))
            written.append(WRITERS[name](tmp_path / f"{name}{number}", export)[0].read_bytes())
        mine, theirs = (len(content) for content in written)
        assert abs(mine - theirs) < 0.01 * mine  # turns and rest pose are the same, the path is not
    neutral, _ = exported(tiny_body, clip.betas[0], clip.transl[:, 0], "neutral")
    assert not neutral.any()
    rests = [motions(c, tiny_body, "neutral")[0].rest for c in (clip, other)]
    assert (rests[0] == rests[1]).all()


def test_a_neutral_body_covers_the_same_pixels(body: BodyModel) -> None:
    clip = make_clip(body, 4, people=1)
    betas, transl = exported(body, clip.betas[0], clip.transl[:, 0], "neutral")
    own = posed(
        body, clip.global_orient[:, 0], clip.body_pose[:, 0], clip.betas[0], clip.transl[:, 0]
    )[1]
    mean = posed(body, clip.global_orient[:, 0], clip.body_pose[:, 0], betas, transl)[1]
    pixels = [(j @ clip.intrinsics.T)[..., :2] / j[..., 2:] for j in (own, mean)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 3.0


def test_arrays_are_whole_and_need_no_pickle(
    clip: Clip, tiny_body: BodyModel, tmp_path: Path
) -> None:
    export = Export(clip=clip, body=tiny_body, shape="fitted", frames=lambda: iter(()))
    paths = WRITERS["npz"](tmp_path / "walk", export)
    assert [path.name for path in paths] == ["walk.npz", "walk_smpl.npz"]
    found = np.load(paths[0], allow_pickle=False)
    frames, people = clip.has_person.shape
    assert found["vertices"].shape == (frames, people, tiny_body.num_vertices, 3)
    assert set(vars(clip)) < set(found.files)
    assert (np.isnan(found["vertices"]).all(axis=(2, 3)) == ~clip.has_person).all()
    assert np.isnan(found["joints"][~clip.has_person]).all()
    one = posed(tiny_body, *(a[:1, 0] for a in (clip.global_orient, clip.body_pose)),
                clip.betas[0], clip.transl[:1, 0])  # fmt: skip
    np.testing.assert_allclose(found["vertices"][0, 0], one[0][0], atol=1e-5)
    smpl = np.load(paths[1], allow_pickle=False)
    assert smpl["poses"].shape == (frames, people, 72) and smpl["mocap_framerate"] == 25
    np.testing.assert_allclose(smpl["betas"], clip.betas, rtol=1e-6)


def test_one_person_has_the_layout_that_smpl_tools_read(
    tiny_body: BodyModel, tmp_path: Path
) -> None:
    clip = make_clip(tiny_body, 5, people=1)
    export = Export(clip=clip, body=tiny_body, shape="neutral", frames=lambda: iter(()))
    smpl = np.load(WRITERS["npz"](tmp_path / "a", export)[1], allow_pickle=False)
    shapes = {name: smpl[name].shape for name in ("poses", "trans", "betas", "mocap_framerate")}
    assert shapes == {"poses": (5, 72), "trans": (5, 3), "betas": (10,), "mocap_framerate": ()}
    assert not smpl["betas"].any()


def test_a_table_has_a_line_for_each_person_who_is_there(
    clip: Clip, tiny_body: BodyModel, tmp_path: Path
) -> None:
    export = Export(clip=clip, body=tiny_body, shape="fitted", frames=lambda: iter(()))
    with open(WRITERS["csv"](tmp_path / "walk", export)[0]) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == clip.has_person.sum()
    last = rows[-1]
    assert (last["frame"], last["track_id"]) == ("11", "2")
    nose = clip.joints[11, 1, clip.joint_names.index("nose")]
    np.testing.assert_allclose([float(last[f"nose_{a}"]) for a in "xyz"], nose, atol=1e-4)


def test_nobody_is_no_error(tiny_body: BodyModel, tmp_path: Path) -> None:
    nobody = make_clip(tiny_body, 4, people=0)
    export = Export(clip=nobody, body=tiny_body, shape="neutral", frames=lambda: iter(()))
    for name in FORMATS:
        if name != "overlay":
            WRITERS[name](tmp_path / "empty", export)
    assert np.load(tmp_path / "empty.npz")["vertices"].shape[:2] == (4, 0)


def test_an_overlay_shows_people_at_their_times(tiny_body: BodyModel, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="pip install pchmr[video]")
    from pchmr.data.videos import video_frames

    clip = make_clip(tiny_body, 6, people=1)
    clip = replace(clip, time_seconds=np.array([0, 0.04, 0.08, 0.5, 0.54, 0.58]))
    dark = np.full((121, 161, 3), 10, np.uint8)
    frames = [(dark, float(time)) for time in clip.time_seconds]
    export = Export(clip=clip, body=tiny_body, shape="neutral", frames=lambda: iter(frames))
    path = WRITERS["overlay"](tmp_path / "walk", export)[0]
    shown, times = zip(*video_frames(path), strict=True)
    assert times == pytest.approx(clip.time_seconds, abs=2e-3)
    assert shown[0].shape == (120, 160, 3) and shown[2].max() > 100


def test_an_even_rate_where_frames_are_uneven() -> None:
    even, step = even_times(np.array([0.0, 0.033, 0.067, 0.1]))
    assert step == pytest.approx(1 / 30) and len(even) == 4
    even, step = even_times(np.array([0.0, 0.1, 0.2, 1.0, 1.1]))
    assert step == pytest.approx(0.1) and len(even) == 12
    assert len(even_times(np.array([0.0]))[0]) == 1


def test_every_format_has_a_writer() -> None:
    assert tuple(WRITERS) == FORMATS
