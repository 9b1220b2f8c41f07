import io
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from figure import HEIGHT, WIDTH, RedModel, picture
from PIL import Image

from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14
from pchmr.geometry import project_pinhole
from pchmr.inference import Person, Predictor, write_person
from pchmr.inference.outputs import glb, overlay, parameters

BOX = (150, 40, 180, 120)


@pytest.fixture
def image() -> np.ndarray:
    return picture(*BOX)


@pytest.fixture
def person(image: np.ndarray, body: BodyModel) -> Person:
    return Predictor(RedModel(body), body, RedModel.image_size).find(image)


def test_overlay_covers_the_person_and_nothing_far_from_it(
    image: np.ndarray, person: Person, body: BodyModel
) -> None:
    drawn = overlay(image, person, body.faces).astype(int)
    assert drawn.shape == image.shape
    rows, columns = np.nonzero(np.abs(drawn - image).sum(axis=-1) > 30)
    assert (rows.min(), rows.max()) == pytest.approx((BOX[1], BOX[3]), abs=5)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(165, abs=5)


def test_overlay_of_a_large_photo_is_shrunk(person: Person, body: BodyModel) -> None:
    assert overlay(np.zeros((1000, 3200, 3), np.uint8), person, body.faces).shape == (500, 1600, 3)


def test_a_person_outside_the_image_or_with_a_useless_camera_draws_little(
    image: np.ndarray, person: Person, body: BodyModel
) -> None:
    for camera in ([1.0, 50.0, 0.0], [0.0, 0.0, 0.0], [-2.0, 0.0, 0.0]):
        lost = Person(**{**vars(person), "camera": torch.tensor(camera)})
        changed = (overlay(image, lost, body.faces) != image).any(axis=-1)
        assert changed.mean() < 0.05
        assert np.isfinite(parameters(image, lost, body)["translation"]).all()


def test_glb_is_upright_and_faces_the_viewer(person: Person, body: BodyModel) -> None:
    scene = trimesh.load(io.BytesIO(glb(person.vertices, body.faces)), file_type="glb")
    (mesh,) = scene.geometry.values()
    assert mesh.faces.shape == body.faces.shape
    head = body.regress(torch.tensor(mesh.vertices, dtype=torch.float32), EVALUATION_14)
    at = {name: head[i] for i, name in enumerate(EVALUATION_14.names)}
    assert at["head_top"][1] > 0.4 and at["right_ankle"][1] < -0.5
    assert at["left_wrist"][0] > 0.3, "one's left is to the right of who looks at one"
    assert mesh.volume > 0, "faces point outward"


def test_parameters_rebuild_the_mesh_and_its_place(
    image: np.ndarray, person: Person, body: BodyModel
) -> None:
    arrays = parameters(image, person, body, exif_focal=300.0)
    fitted = [
        torch.from_numpy(arrays[name])[None]
        for name in ("global_orient", "body_pose", "betas", "transl")
    ]
    rebuilt = body(*fitted).vertices[0]
    assert float((rebuilt - person.vertices).norm(dim=-1).mean()) < 0.005
    assert arrays["fit_error_mm"] < 5 and arrays["exif_focal_length"] == 300
    seen = project_pinhole(
        torch.from_numpy(arrays["vertices"] + arrays["translation"]),
        torch.from_numpy(arrays["intrinsics"]),
    )
    height = seen[:, 1].amax() - seen[:, 1].amin()
    assert float(height) == pytest.approx(BOX[3] - BOX[1], rel=0.1)
    assert list(arrays["image_size"]) == [WIDTH, HEIGHT]


def test_files_are_written_whole(
    tmp_path: Path, image: np.ndarray, person: Person, body: BodyModel
) -> None:
    write_person(tmp_path / "new" / "a.b", image, person, body)
    folder = tmp_path / "new"
    assert sorted(p.name for p in folder.iterdir()) == ["a.b.glb", "a.b.npz", "a.b_overlay.png"]
    with np.load(folder / "a.b.npz", allow_pickle=False) as file:
        assert list(file["joint_names"]) == list(EVALUATION_14.names)
        assert np.isnan(file["exif_focal_length"])
    assert Image.open(folder / "a.b_overlay.png").size == (WIDTH, HEIGHT)
