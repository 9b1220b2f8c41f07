"""The embedded prior: its geometry with a planted spot, its labels, its training, its weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.perception.test_priors import BOX, SPOT, spot_picture
from torch import Tensor

from pchmr.annotate.deposer import MODES, Annotator
from pchmr.annotate.kinematics import points, pose
from pchmr.annotate.observed import Observations
from pchmr.annotate.pictures import PictureReader
from pchmr.body import BodyModel
from pchmr.config import OptimOptions, SettingError
from pchmr.data import load_people
from pchmr.data.augment import augment
from pchmr.models import build_model, save_checkpoint
from pchmr.perception.embedded import WEIGHTS, Embedded
from pchmr.perception.interfaces import PersonPrior
from pchmr.perception.network import (
    IMAGE_SIZE,
    NAMES,
    PriorNetwork,
    Seen,
    load_network,
    save_network,
)
from pchmr.workshop.keypoint_prior import Labeled, PriorConfig, loss_terms, train


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    torch.manual_seed(0)
    save_network(path, PriorNetwork(), {})
    return path


class Bright(torch.nn.Module):
    """Every point at the brightest place, the left eye left of the crop's middle, each image."""

    def forward(self, pixels: Tensor) -> Seen:
        count, side = len(pixels), pixels.shape[-1]
        flat = pixels[:, 0].flatten(1).argmax(dim=-1)
        place = torch.stack([flat % side, flat // side], dim=-1) + 0.5
        places = (2 * place / side - 1)[:, None].repeat(1, len(NAMES), 1)
        left, right = NAMES.index("left_eye"), NAMES.index("right_eye")
        places[:, left, 0], places[:, right, 0] = -0.5, 0.5
        depths = torch.zeros(count, len(NAMES))
        depths[:, left], depths[:, right] = 0.2, -0.1
        spread = torch.full((count, len(NAMES)), 0.05)
        return Seen(places, depths, spread, spread, torch.zeros(count, len(NAMES), 2, 2))


def test_a_spot_comes_back_through_crop_padding_and_flip(weights: Path) -> None:
    prior = Embedded(weights)
    assert isinstance(prior, PersonPrior)
    assert np.isfinite(prior.keypoints(spot_picture(), BOX)).all()
    prior.network = Bright()  # pyright: ignore[reportAttributeAccessIssue]
    view = prior.look(spot_picture(), BOX)
    nose, left, right = (NAMES.index(name) for name in ("nose", "left_eye", "right_eye"))
    np.testing.assert_allclose(view.keypoints[nose, :2], SPOT, atol=0.7)
    assert view.keypoints[left, 0] < BOX.center[0] < view.keypoints[right, 0]
    # In the mirror image what it calls left is the right eye: both get the mean of 0.2 and -0.1.
    assert view.depth[[left, right]] == pytest.approx([0.05, 0.05])
    side = BOX.height * 1.25
    assert view.sigma[nose] == pytest.approx(np.sqrt(2) * 0.05 * side / 2)
    assert view.keypoints[nose, 2] == pytest.approx(1 - np.exp(-2))


def test_weights_survive_their_file_and_others_are_refused(weights: Path, tmp_path: Path) -> None:
    assert not load_network(weights).training
    (tmp_path / "junk").write_bytes(b"junk")
    for path in (tmp_path / "junk", tmp_path / "absent"):
        with pytest.raises(SettingError, match="cannot read the embedded prior"):
            load_network(path)


def test_labels_are_the_bodys_points_and_turn_with_the_picture(body: BodyModel, cached) -> None:
    labeled, sample = Labeled(body), cached.batch([0, 1, 2, 3])
    truth = labeled.truth(sample)
    joints = {"left_knee": 4, "right_wrist": 6}
    for name, row in joints.items():
        near = (truth.places[:, NAMES.index(name)] - sample.keypoints_2d[:, row, :2]).norm(dim=-1)
        assert near.max() < 0.12, name
    turned = augment(sample, torch.Generator().manual_seed(1))
    moved = labeled.truth(turned)
    near = (moved.places[:, NAMES.index("left_knee")] - turned.keypoints_2d[:, 4, :2]).norm(dim=-1)
    assert near.max() < 0.12
    hips = [NAMES.index(f"{side}_hip") for side in ("left", "right")]
    assert moved.depths[:, hips].mean(dim=1).abs().max() < 1e-5


def test_training_starts_resumes_and_lowers_the_loss(
    body: BodyModel, cached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = build_model("fastmetro_xs", body.hierarchy)
    save_checkpoint(tmp_path / "start.safetensors", model)
    monkeypatch.setattr("pchmr.workshop.keypoint_prior._people", lambda *args: cached)
    config = PriorConfig(
        start=tmp_path / "start.safetensors", output=tmp_path / "run", num_epochs=2, num_samples=16,
        optim_options=OptimOptions(batch_size=8, learning_rate=1e-3),
    )  # fmt: skip
    whole = train(config).read_bytes()
    first, second = (
        json.loads(line)["losses"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    )
    assert second["maps"] < first["maps"]
    assert train(replace(config, resume=True)).read_bytes() == whole
    network = load_network(tmp_path / "run" / "model.safetensors")
    terms = loss_terms(
        network(cached.batch([0, 1]).images), Labeled(body).truth(cached.batch([0, 1]))
    )
    assert all(torch.isfinite(value) for value in terms.values())
    with pytest.raises(SettingError, match="start-keypoints"):
        train(replace(config, start=tmp_path / "absent"))
    save_network(tmp_path / "other.safetensors", PriorNetwork(), {})
    with pytest.raises(SettingError, match="no XS backbone"):
        train(replace(config, start=tmp_path / "other.safetensors"))


@pytest.fixture(scope="module")
def cached(body: BodyModel, tmp_path_factory: pytest.TempPathFactory):
    from pchmr.config import DataOptions

    options = DataOptions(
        domain="A", num_samples=16, cache=tmp_path_factory.mktemp("people"), image_size=IMAGE_SIZE
    )
    return load_people(options, "train", body=body, seed=0, image_size=IMAGE_SIZE)


def test_the_shipped_weights_are_small_and_have_a_card() -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert WEIGHTS.stat().st_size <= 6 * 2**20 and card["bytes"] == WEIGHTS.stat().st_size
    for domain in "ABV":
        scores = card["scores_of_stored_weights"][domain]
        assert 0 < scores["px_of_112"] < 20 and 0 < scores["depth_cm"] < 30
        assert 0 < scores["pck_0.05"] < scores["pck_0.1"] < 1
    view = Embedded().look(spot_picture(), BOX)
    assert view.keypoints.shape == (len(NAMES), 3)


def test_what_is_surer_pulls_harder(annotator: Annotator, noisy: Observations) -> None:
    """Keypoints and depths with a large spread hardly move a fit."""
    rows = noisy.take(slice(0, 2))
    wrong = rows.keypoints_2d.copy()
    wrong[:, 0, :2] += 120
    sigma = np.full(wrong.shape[:2], 4.0)
    sigma[:, 0] = 400
    doubtful = replace(rows, keypoints_2d=wrong, keypoint_sigma=sigma)
    certain = replace(doubtful, keypoint_sigma=np.full(wrong.shape[:2], 4.0))
    objective = annotator.objective(doubtful, depth=False, dense=False)
    other = annotator.objective(certain, depth=False, dense=False)
    state = annotator.fit(rows, MODES["strong-2d"]).state
    weights = MODES["strong-2d"].refine[-1].weights
    soft, hard = (o.terms_at(o.frame(state), weights)[0] for o in (objective, other))
    assert (soft.residual[:, 0].norm(dim=-1) < 0.05 * hard.residual[:, 0].norm(dim=-1)).all()
    torch.testing.assert_close(soft.residual[:, 1:], hard.residual[:, 1:])


def test_relative_depth_is_metres_about_any_distance(
    annotator: Annotator, clean: Observations
) -> None:
    """Shifting all depths by ten metres changes nothing, and their scale is believed."""
    rows = clean.take(slice(0, 3))
    assert rows.keypoint_depth is not None
    fits = []
    for shift in (0.0, -10.0):
        moved = replace(
            rows, points=None, depth_kind="relative", keypoint_depth=rows.keypoint_depth + shift
        )
        fits.append(annotator.fit(moved, MODES["deposer-keypoint"]).state)
    torch.testing.assert_close(fits[0].rotmat, fits[1].rotmat, atol=1e-3, rtol=0)
    xyz = points(annotator.points.rig, pose(annotator.skeleton, fits[0]), fits[0].betas)
    assert torch.isfinite(xyz).all() and (fits[0].depth[:, 0] - 1).abs().max() < 0.4


def test_a_reader_without_a_depth_model_takes_the_networks_word(weights: Path) -> None:
    seen = PictureReader(Embedded(weights), box=BOX).observe_image(spot_picture())
    assert seen.depth_kind == "relative" and seen.keypoint_depth is not None
    assert seen.keypoint_sigma is not None and seen.keypoint_depth_sigma is not None
    assert seen.intrinsics is None and seen.keypoint_names == NAMES
