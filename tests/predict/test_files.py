import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from tests.inference.figure import HEIGHT, WIDTH, RedModel, picture
from tests.predict.watchers import RedWatcher

from pchmr.body import BodyModel
from pchmr.body.joints import COCO_17
from pchmr.data.exif import FocalLength
from pchmr.inference import Predictor
from pchmr.predict import People, Tools, people_of, write_people
from pchmr.predict.drawing import glb, overlay
from pchmr.predict.files import meshes_of

BOX = (150, 40, 180, 120)


@pytest.fixture
def image() -> np.ndarray:
    return np.maximum(picture(*BOX), picture(40, 60, 60, 120))


@pytest.fixture(scope="module")
def tools(body: BodyModel) -> Tools:
    red = RedWatcher()
    return Tools(predictor=Predictor(RedModel(body), body, 64), prior=red, detector=red)


@pytest.fixture
def people(image: np.ndarray, tools: Tools) -> People:
    return people_of(image, tools)


def test_overlay_covers_the_people_and_nothing_far_from_them(
    image: np.ndarray, people: People, body: BodyModel
) -> None:
    drawn = overlay(image, people, body.faces).astype(int)
    assert drawn.shape == image.shape
    rows, columns = np.nonzero(np.abs(drawn - image)[:, WIDTH // 2 :].sum(axis=-1) > 30)
    assert (rows.min(), rows.max()) == pytest.approx((BOX[1], BOX[3]), abs=6)
    assert WIDTH // 2 + (columns.min() + columns.max()) / 2 == pytest.approx(165, abs=5)
    left = np.nonzero(np.abs(drawn - image)[:, : WIDTH // 2].sum(axis=-1) > 30)[1]
    assert (left.min() + left.max()) / 2 == pytest.approx(50, abs=5)


def test_overlay_of_a_large_photo_is_shrunk(people: People, body: BodyModel) -> None:
    assert overlay(np.zeros((1000, 3200, 3), np.uint8), people, body.faces).shape == (500, 1600, 3)


def test_the_network_alone_is_placed_where_it_saw_them(
    image: np.ndarray, people: People, body: BodyModel
) -> None:
    assert people.track_id.tolist() == [1, 2] and people.vertices[..., 2].min() > 0
    seen = people.joints @ people.intrinsics.T
    seen = seen[..., :2] / seen[..., 2:]
    rows = [people.joint_names.index(name) for name in COCO_17.names]
    middle = seen[:, rows, 0].mean(axis=1)
    assert middle == pytest.approx([50, 165], abs=4)
    parameters = (people.global_orient, people.body_pose, people.betas, people.transl)
    rebuilt = body(*map(torch.from_numpy, parameters)).vertices.numpy()
    assert np.linalg.norm(rebuilt - people.vertices, axis=-1).mean() < 0.005


def test_a_focal_length_that_is_given_is_the_camera(image: np.ndarray, tools: Tools) -> None:
    near = people_of(image, tools, FocalLength(100.0, 0.0))
    assert near.intrinsics[0, 0] == 100 and near.intrinsics[:2, 2].tolist() == [WIDTH / 2, 80]
    far = people_of(image, tools, FocalLength(1000.0, 0.0))
    assert far.transl[0, 2] == pytest.approx(10 * near.transl[0, 2], rel=0.3)


def test_glb_is_one_scene_upright_that_faces_the_viewer(people: People, body: BodyModel) -> None:
    written = glb(people.vertices, people.track_id, body.faces)
    scene = trimesh.load_scene(io.BytesIO(written), file_type="glb")
    assert set(scene.geometry) == {"person_1", "person_2"}
    mesh = scene.geometry["person_2"]
    assert mesh.faces.shape == body.faces.shape and mesh.volume > 0, "faces point outward"
    points = body.regress(torch.tensor(mesh.vertices, dtype=torch.float32), COCO_17)
    at = {name: points[i] for i, name in enumerate(COCO_17.names)}
    assert at["nose"][1] - at["right_ankle"][1] > 1.2
    assert at["left_wrist"][0] > at["right_wrist"][0] + 0.5, "one's left is to who looks right"


def test_files_are_written_whole(
    tmp_path: Path, image: np.ndarray, people: People, body: BodyModel
) -> None:
    write_people(tmp_path / "new" / "a.b", image, people, body)
    folder = tmp_path / "new"
    assert sorted(p.name for p in folder.iterdir()) == ["a.b.glb", "a.b.npz", "a.b_overlay.png"]
    with np.load(folder / "a.b.npz", allow_pickle=False) as file:
        assert set(COCO_17.names) <= set(file["joint_names"].tolist())
        assert file["image_size"].tolist() == [WIDTH, HEIGHT]
        assert file["vertices"].shape == (2, body.num_vertices, 3)
        assert file["keypoints_2d"].shape == (2, 17, 3) and file["bbox_xyxy"].shape == (2, 4)
    assert Image.open(folder / "a.b_overlay.png").size == (WIDTH, HEIGHT)


def test_a_scene_holds_the_mean_shape_unless_asked(people: People, body: BodyModel) -> None:
    """Another shape leaves the same scene, up to where the people stand; the pixels nearly stay."""
    assert meshes_of(people, body, "fitted") is people.vertices
    large = replace(people, betas=people.betas + 0.5)
    plain, other = meshes_of(people, body, "neutral"), meshes_of(large, body, "neutral")
    assert np.allclose(plain - plain[:, :1], other - other[:, :1], atol=1e-5)
    own = replace(people, betas=np.zeros_like(people.betas))
    assert np.allclose(meshes_of(own, body, "neutral"), meshes_of(own, body, "fitted"), atol=0.05)


def test_nobody_is_a_picture_of_no_people(tmp_path: Path, tools: Tools, body: BodyModel) -> None:
    blank = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    nobody = people_of(blank, tools)
    (tmp_path / "a.glb").touch()
    write_people(tmp_path / "a", blank, nobody, body)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "a_overlay.png"]
    with np.load(tmp_path / "a.npz") as file:
        assert {len(file[name]) for name in ("vertices", "joints", "transl", "track_id")} == {0}
        assert file["body_pose"].shape == (0, 23, 3) and file["intrinsics"].shape == (3, 3)
    assert (np.array(Image.open(tmp_path / "a_overlay.png")) == 255).all()


def test_a_useless_camera_puts_nobody_behind_the_lens(image: np.ndarray, body: BodyModel) -> None:
    class Lost(RedModel):
        def forward(self, images):
            output = super().forward(images)
            output.camera = torch.tensor([[9.0, 50.0, 0.0]])
            return output

    red = RedWatcher()
    lost = people_of(
        image, Tools(predictor=Predictor(Lost(body), body, 64), prior=red, detector=red)
    )
    assert np.isfinite(lost.vertices).all() and lost.vertices[..., 2].min() > 0


def test_a_picture_comes_in_the_formats_that_are_asked_for(
    image: np.ndarray, people: People, body: BodyModel, tmp_path: Path
) -> None:
    write_people(tmp_path / "p", image, people, body, formats=("csv", "bvh", "gltf", "npz"))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"p.csv", "p_person1.bvh", "p_person2.bvh", "p.gltf", "p.npz"}
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in lines[1:]] == ["1", "2"]
    assert "Frames: 1" in (tmp_path / "p_person1.bvh").read_text()
