"""Losses against the published code's values on rule-made inputs, and on cases worked by hand."""

import json
import zlib
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pchmr.body.joints import EVALUATION_14, H36M_17
from pchmr.config import SettingError
from pchmr.geometry import project_weak_perspective, rotvec_to_rotmat
from pchmr.losses import LOSSES, Target, targets
from pchmr.losses.terms import (
    edge_loss,
    itp_loss,
    joint_loss,
    keypoint_loss,
    map_loss,
    normal_loss,
    occupancy,
    smpl_loss,
    vertex_loss,
)
from pchmr.models import HMROutput

HAS = torch.tensor([True, False, True])


def drawn(name: str, shape: tuple[int, ...], low: float = -1, high: float = 1) -> Tensor:
    """The goldens' rule: uniform numbers from a seed made of the name."""
    u = np.random.RandomState(zlib.crc32(name.encode())).uniform(0, 1, size=shape)
    return torch.from_numpy((low + (high - low) * u).astype(np.float32))


@pytest.fixture
def golden(shared):
    return json.loads((shared / "goldens" / "losses.json").read_text())


def confidence(name: str) -> Tensor:
    return (drawn(name, (3, 14)) > -0.3).float()


def close(value: Tensor, wanted: float) -> None:
    assert value.item() == pytest.approx(wanted, rel=1e-6)


def test_keypoints_match_the_published_code(golden):
    truth = drawn("gt2d", (3, 14, 3))[..., :2]
    value = keypoint_loss(drawn("pred2d", (3, 14, 2)), truth, confidence("conf2d"), HAS, paper=True)
    close(value, golden["fm/keypoint_2d_loss"])


def test_joints_match_the_published_code(golden):
    truth = drawn("gt3d", (3, 14, 4))[..., :3]
    value = joint_loss(drawn("pred3d", (3, 14, 3)), truth, confidence("conf3d"), HAS, paper=True)
    close(value, golden["fm/keypoint_3d_loss"])


def test_vertices_match_the_published_code(golden):
    value = vertex_loss(drawn("predv", (3, 1723, 3)), drawn("gtv", (3, 1723, 3)), HAS)
    close(value, golden["fm/vertices_loss_1723"])


def test_smpl_parameters_match_the_published_code(golden):
    rotmat = rotvec_to_rotmat(drawn("pose", (3, 72)).view(3, 24, 3))
    value = smpl_loss(
        drawn("pred_rotmat", (3, 24, 3, 3)), drawn("pred_betas", (3, 10)),
        rotmat, drawn("betas", (3, 10)), HAS,
    )  # fmt: skip
    close(value, golden["fm/smpl_param_loss"])
    first = torch.tensor(golden["rodrigues_first"]).view(3, 3)
    assert torch.allclose(rotmat[0, 0], first, atol=1e-6)


def test_projection_matches_the_published_code(golden):
    projected = project_weak_perspective(drawn("pred3d", (3, 14, 3)), drawn("cam", (3, 3)))
    assert torch.allclose(projected, torch.tensor(golden["ortho_proj"]), rtol=1e-6, atol=1e-7)


def test_pooling_supervision_matches_the_published_code(golden):
    heat = drawn("heat", (3, 39, 49), -3, 3).softmax(dim=-1)
    mesh = drawn("mesh2d", (3, 6890, 2), -0.6, 0.45)
    close(itp_loss(heat, mesh, HAS, paper=True), golden["tore/itp_loss"])
    assert occupancy(mesh, 7)[0].tolist() == golden["tore/itp_mask_gt_sample0"]


def synthetic_faces() -> np.ndarray:
    f = np.random.RandomState(zlib.crc32(b"faces")).randint(0, 6890, (13776, 3))
    first = (f[:, 0] + 1 + f[:, 1] % 6888) % 6890
    clash = (f[:, 2] == f[:, 0]) | (f[:, 2] == first)
    return np.stack([f[:, 0], first, np.where(clash, (f[:, 0] + first + 3) % 6890, f[:, 2])], 1)


def test_surface_terms_match_the_published_code(golden):
    faces = torch.from_numpy(synthetic_faces())
    predicted, truth = drawn("predvf", (3, 6890, 3)), drawn("gtvf", (3, 6890, 3))
    close(normal_loss(predicted, truth, faces, HAS), golden["tore/normal_vector_loss_6890"])
    edges = torch.cat([faces[:, [0, 1]], faces[:, [0, 2]], faces[:, [1, 2]]])
    value = edge_loss(predicted, truth, edges, HAS, epsilon=1e-6)
    close(value, golden["tore/edge_length_loss_6890"])


def perfect(target, camera) -> HMROutput:
    """The prediction that says the truth."""
    return HMROutput(
        camera, target.joints, target.vertices_coarse, target.vertices_mid, target.vertices
    )


def close_to(target, camera, noise: float, **more) -> HMROutput:
    """A prediction off by noise, with gradients."""
    generator = torch.Generator().manual_seed(0)

    def off(x):
        return (x + noise * torch.randn(x.shape, generator=generator)).requires_grad_()

    parts = (off(x) for x in perfect(target, camera)[:5])
    return HMROutput(*parts, **{name: off(x) for name, x in more.items()})


@pytest.fixture
def scene(tiny_body, toy_people):
    sample = toy_people.batch(range(4))
    return tiny_body, sample, targets(sample, tiny_body)


def test_targets_are_centred(scene):
    body, _, target = scene
    pelvis = body.regress(target.vertices, H36M_17)[:, H36M_17.index("pelvis")]
    assert pelvis.abs().max() < 1e-6
    hips = target.joints[:, list(EVALUATION_14.root)].mean(dim=1)
    assert hips.abs().max() < 1e-6
    coarse = body.levels(target.vertices)[-1]
    assert torch.equal(coarse, target.vertices_coarse)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("paper", [False, True])
def test_the_truth_costs_least(name, paper, scene):
    body, _, target = scene
    camera = torch.tensor([[0.9, 0.0, 0.0]]).repeat(4, 1)

    def total(noise: float) -> float:
        terms = LOSSES[name](close_to(target, camera, noise), target, body, epoch=1.0, paper=paper)
        return sum(
            value.item() for key, value in terms.items() if key not in ("keypoints", "surface")
        )

    assert total(0.0) < 0.02 * total(0.05)
    assert total(0.05) < total(0.2)


@pytest.mark.parametrize("name", LOSSES)
def test_unlabelled_people_give_no_gradient(name, scene):
    body, sample, _ = scene
    nothing = torch.zeros(4, dtype=torch.bool)
    sample = replace(sample, has_smpl=nothing, has_joints=nothing, has_keypoints_2d=nothing)
    target = targets(sample, body)
    more = {"token_heatmap": torch.rand(4, 5, 9), "keypoints_2d": torch.rand(4, 14, 2)}
    more |= {"keypoint_depth": torch.rand(4, 14), "keypoint_maps": torch.rand(4, 14, 6, 6)}
    output = close_to(target, torch.ones(4, 3), 0.1, **more)
    terms = LOSSES[name](output, target, body, epoch=4.0, paper=False)
    torch.stack(list(terms.values())).sum().backward()
    for value in output:
        assert value is None or value.grad is None or value.grad.abs().max() == 0


def test_one_unlabelled_person_changes_nothing(scene):
    body, sample, target = scene
    output = close_to(target, torch.ones(4, 3), 0.1)
    has = torch.tensor([True, True, True, False])
    some = targets(replace(sample, has_smpl=has, has_joints=has, has_keypoints_2d=has), body)
    three = Target(**{f.name: getattr(target, f.name)[:3] for f in fields(Target)})
    cut = HMROutput(*(x[:3] for x in output[:5]))
    for name, loss in LOSSES.items():
        wanted, found = loss(cut, three, body), loss(output, some, body)
        for key in wanted:
            assert found[key].item() == pytest.approx(wanted[key].item(), rel=1e-5), (name, key)


def test_paper_losses_count_keypoints_of_people_without(scene):
    body, sample, _ = scene
    some = torch.tensor([True, True, False, False])
    target = targets(replace(sample, has_keypoints_2d=some), body)
    output = close_to(target, torch.ones(4, 3), 0.1)
    for name, loss in LOSSES.items():
        whole = loss(output, targets(sample, body), body, paper=True)["keypoints"].item()
        ignored = loss(output, target, body, paper=True)["keypoints"].item()
        assert ignored == whole, name
        assert loss(output, target, body)["keypoints"].item() != whole, name


def test_surface_terms_of_tore_are_optional(scene):
    body, _, target = scene
    output = close_to(target, torch.ones(4, 3), 0.02)
    plain, more = (LOSSES["tore"](output, target, body, surface=x) for x in (False, True))
    assert set(more) - set(plain) == {"normals", "edges"}
    faces = body.faces
    edges = torch.cat([faces[:, [0, 1]], faces[:, [0, 2]], faces[:, [1, 2]]])
    has = target.has_mesh
    wanted = 1000 * edge_loss(output.vertices, target.vertices, edges, has, epsilon=1e-6)
    assert more["edges"].item() == pytest.approx(wanted.item())
    wanted = 100 * normal_loss(output.vertices, target.vertices, faces, has)
    assert more["normals"].item() == pytest.approx(wanted.item())
    for name in ("fastmetro", "xs"):
        with pytest.raises(SettingError, match="--surface-terms is read by the loss tore only"):
            LOSSES[name](output, target, body, surface=True)


def test_levels_without_faces_are_told_once(scene, capsys):
    body, _, target = scene
    output, whole = close_to(target, torch.ones(4, 3), 0.02), body.hierarchy
    assert "surface" in LOSSES["fastmetro"](output, target, body)
    bare = replace(whole, faces=None)
    try:
        body.hierarchy = bare
        terms = [LOSSES["fastmetro"](output, target, body) for _ in range(2)]
    finally:
        body.hierarchy = whole
    assert all("surface" not in found for found in terms)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "edge and normal terms are left out" in said


@pytest.mark.parametrize("name", LOSSES)
def test_an_smpl_head_learns_in_every_recipe(name, scene):
    body, _, target = scene
    more = {"rotmat": target.rotmat, "betas": target.betas}
    output = close_to(target, torch.ones(4, 3), 0.01, **more)
    LOSSES[name](output, target, body)["smpl"].backward()
    assert output.rotmat.grad.abs().sum() > 0 and output.betas.grad.abs().sum() > 0
    assert output.vertices.grad is None and output.camera.grad is None


def test_smpl_head_terms(scene):
    body, _, target = scene
    more = {"rotmat": target.rotmat, "betas": target.betas}
    camera = torch.ones(4, 3)
    correct = LOSSES["fastmetro"](close_to(target, camera, 0.01, **more), target, body, paper=False)
    paper = LOSSES["fastmetro"](close_to(target, camera, 0.01, **more), target, body, paper=True)
    assert correct["smpl"] > 0
    assert paper["vertices"].item() == pytest.approx(1e-8 * correct["vertices"].item(), rel=1e-5)


def test_pooling_weight_does_not_depend_on_batch_or_tokens():
    heat, mesh = torch.rand(2, 3, 49), torch.rand(2, 50, 2)
    has = torch.tensor([True, True])
    once = itp_loss(heat, mesh, has)
    twice = itp_loss(heat.repeat(2, 2, 1), mesh.repeat(2, 1, 1), has.repeat(2))
    assert twice.item() == pytest.approx(once.item(), rel=1e-6)
    assert itp_loss(
        heat.repeat(2, 2, 1), mesh.repeat(2, 1, 1), has.repeat(2), paper=True
    ).item() == (pytest.approx(4 * itp_loss(heat, mesh, has, paper=True).item(), rel=1e-6))


def test_occupancy_by_hand():
    points = torch.tensor([[[-0.9, -0.9], [0.9, -0.2], [1.5, 0.0]]])
    assert occupancy(points, 2).tolist() == [[[1.0, 1.0], [0.0, 0.0]]]


def test_weighted_means_by_hand():
    predicted, truth = torch.ones(1, 14, 2), torch.zeros(1, 14, 2)
    weights, has = torch.tensor([[1.0, 0.0] * 7]), torch.tensor([True])
    assert keypoint_loss(predicted, truth, weights, has).item() == 1.0
    assert keypoint_loss(predicted, truth, weights, has, paper=True).item() == 0.5
    nobody = torch.tensor([False])
    assert keypoint_loss(predicted, truth, weights, nobody).item() == 0.0
    assert keypoint_loss(predicted, truth, weights, nobody, paper=True).item() == 0.5


def test_heat_maps_by_hand():
    place, weights = torch.zeros(1, 14, 2), torch.ones(1, 14)
    flat = torch.zeros(1, 14, 4, 4)
    assert map_loss(flat, place, weights).item() == pytest.approx(np.log(16))
    sharp = flat.clone()
    sharp[..., 1:3, 1:3] = 50.0
    assert map_loss(sharp, place, weights).item() == pytest.approx(np.log(4))
