"""Every loss term of FastMETRO, TORE and XS as a pure function.

Sources: FastMETRO (Cho et al., ECCV 2022), TORE (Dou et al., ICCV 2023) and their published code.
Where that code has a trap, `paper=True` reproduces it and the docstring names it.
"""

from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pchmr.losses.target import about_hips

Points = Float[Tensor, "batch points axes"]
Weights = Float[Tensor, "batch points"]

PAPER_BATCH_SIZE, PAPER_TOKENS = 16, 39


def weighted_l1(
    predicted: Points, truth: Points, weights: Weights, has: Bool[Tensor, " batch"], *, paper: bool
) -> Float[Tensor, ""]:
    """Mean absolute difference over the points that count; 0 where none does.

    The published code also counts points of zero confidence of the samples that have labels, so an
    occluded batch weighs less; the correct mode takes the mean over confidence.
    """
    error = ((predicted - truth).abs().sum(dim=-1) * weights * has[:, None]).sum()
    counted = has.sum() * weights.shape[1] if paper else (weights * has[:, None]).sum()
    number = counted * predicted.shape[-1]
    return error / torch.where(number > 0, number, torch.ones_like(number))


def keypoint_loss(
    predicted: Float[Tensor, "batch 14 2"],
    truth: Float[Tensor, "batch 14 2"],
    weights: Float[Tensor, "batch 14"],
    has: Bool[Tensor, " batch"],
    *,
    paper: bool = False,
) -> Float[Tensor, ""]:
    """L1 in crop coordinates. The published code ignores which samples have keypoints."""
    has = torch.ones_like(has) if paper else has
    return weighted_l1(predicted, truth, weights, has, paper=paper)


def map_loss(
    logits: Float[Tensor, "batch joints rows columns"],
    truth: Float[Tensor, "batch joints 2"],
    weights: Float[Tensor, "batch joints"],
) -> Float[Tensor, ""]:
    """Cross entropy of heat maps against each true place, shared by its four nearest cells."""
    rows, columns = logits.shape[-2:]
    size = truth.new_tensor([columns, rows])
    place = (truth + 1) * size / 2 - 0.5
    corner = place.floor()
    part = place - corner
    surprise = -logits.flatten(2).log_softmax(dim=-1)
    total = torch.zeros_like(weights)
    for step in product((0, 1), repeat=2):
        offset = truth.new_tensor(step)
        share = (part * offset + (1 - part) * (1 - offset)).prod(dim=-1)
        cell = (corner + offset).clamp_min(0).minimum(size - 1).long()
        index = cell[..., 1] * columns + cell[..., 0]
        total = total + share * surprise.gather(-1, index[..., None])[..., 0]
    return (total * weights).sum() / weights.sum().clamp_min(1)


def joint_loss(
    predicted: Float[Tensor, "batch 14 3"],
    truth: Float[Tensor, "batch 14 3"],
    weights: Float[Tensor, "batch 14"],
    has: Bool[Tensor, " batch"],
    *,
    paper: bool = False,
) -> Float[Tensor, ""]:
    """L1 in metres, both sides about the mean of their hips."""
    return weighted_l1(about_hips(predicted), about_hips(truth), weights, has, paper=paper)


def vertex_loss(predicted: Points, truth: Points, has: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    """L1 in metres over the samples that have a mesh; centring is the caller's."""
    return over_samples((predicted - truth).abs().mean(dim=(1, 2)), has)


def over_samples(values: Float[Tensor, " batch"], has: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Mean over the samples that count; 0 where none does."""
    return (values * has).sum() / has.sum().clamp_min(1)


def edge_lengths(
    vertices: Points, edges: Int[Tensor, "edges 2"], epsilon: float
) -> Float[Tensor, "batch edges"]:
    """Lengths in metres, with `epsilon` under the root so that the gradient stays finite."""
    ends = vertices[:, edges]
    return (ends[:, :, 0] - ends[:, :, 1]).square().sum(dim=-1).add(epsilon).sqrt()


def edge_loss(
    predicted: Points,
    truth: Points,
    edges: Int[Tensor, "edges 2"],
    has: Bool[Tensor, " batch"],
    epsilon: float = 1e-8,
) -> Float[Tensor, ""]:
    """Mean absolute difference of edge lengths (FastMETRO 1e-8; TORE 1e-6, faces' own edges)."""
    wanted = edge_lengths(truth, edges, epsilon)
    difference = (edge_lengths(predicted, edges, epsilon) - wanted).abs()
    return over_samples(difference.mean(dim=1), has)


def normal_loss(
    predicted: Points,
    truth: Points,
    faces: Int[Tensor, "faces 3"],
    has: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Mean |cosine| between each predicted face's three unit edges and the true unit normal."""
    corners = truth[:, faces]
    sides = corners.roll(-1, dims=2) - corners
    normal = unit(torch.linalg.cross(unit(sides[:, :, 0]), unit(sides[:, :, 1])))
    corners = predicted[:, faces]
    edges = unit(corners.roll(-1, dims=2) - corners)
    cosines = (edges * normal[:, :, None]).sum(dim=-1).abs()
    return over_samples(cosines.mean(dim=(1, 2)), has)


def unit(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Vectors of length 1; the zero vector stays."""
    return torch.nn.functional.normalize(vectors, dim=-1)


def smpl_loss(
    rotmat: Float[Tensor, "batch 24 3 3"],
    betas: Float[Tensor, "batch 10"],
    true_rotmat: Float[Tensor, "batch 24 3 3"],
    true_betas: Float[Tensor, "batch 10"],
    has: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Mean squared difference of rotation matrices, plus a tenth of that of betas."""
    pose = (rotmat - true_rotmat).square().mean(dim=(1, 2, 3))
    shape = (betas - true_betas).square().mean(dim=1)
    return over_samples(pose + 0.1 * shape, has)


def occupancy(
    points: Float[Tensor, "batch points 2"], side: int
) -> Float[Tensor, "batch side side"]:
    """1 in the cells [y, x] of a grid over the crop that hold a point; points outside count not."""
    cell = ((points + 1) * (side / 2)).floor()
    inside = ((cell >= 0) & (cell < side)).all(dim=-1)
    flat = (cell[..., 1] * side + cell[..., 0]).clamp(0, side * side - 1).long()
    grid = points.new_zeros(len(points), side * side)
    return grid.scatter_reduce(1, flat, inside.to(grid), "amax").unflatten(1, (side, side))


def itp_loss(
    heatmap: Float[Tensor, "batch tokens cells"],
    mesh_2d: Float[Tensor, "batch points 2"],
    has: Bool[Tensor, " batch"],
    *,
    paper: bool = False,
) -> Float[Tensor, ""]:
    """TORE's pooling supervision: heat of each token, scaled to [0, 1], outside the body.

    The published sum over batch and tokens changes its weight with both, so federated clients of
    different batch sizes would optimize different losses; the correct mode gives every batch the
    weight that the paper's batch of 16 with 39 tokens has.

    Args:
        heatmap: Where each token looks, on a square grid over the crop.
        mesh_2d: Vertices in crop coordinates.
        has: Whether the sample has a mesh.
        paper: The published sum.
    """
    low, high = heatmap.amin(dim=-1, keepdim=True), heatmap.amax(dim=-1, keepdim=True)
    heat = (heatmap - low) / (high - low + 1e-12)
    empty = 1 - occupancy(mesh_2d.detach(), round(heatmap.shape[-1] ** 0.5)).flatten(1)
    per_token = (heat * empty[:, None]).sum(dim=-1)
    if paper:
        return (per_token.sum(dim=1) * has).sum()
    return over_samples(per_token.mean(dim=1), has) * PAPER_BATCH_SIZE * PAPER_TOKENS
