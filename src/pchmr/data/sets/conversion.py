"""What it costs to say a set's people on another body and back: a floor under every score.

Whoever trains on the embedded mesh and scores on SMPL's, or the reverse, converts parameters. Two
bodies share a skeleton of names, not its places: the best fit of one to the other's joints leaves
an error that no network can go below.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.body.fit import fit_points
from pchmr.body.joints import EVALUATION_14, H36M_TO_EVALUATION
from pchmr.data.sample import PeopleDataset, Sample
from pchmr.geometry import centered, rotvec_to_rotmat
from pchmr.metrics import MM_PER_METRE

NUM_PEOPLE, MAX_STEPS = 6, 8


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Mean errors in millimetres.

    Attributes:
        there_mpjpe_mm: The 14 joints of the other body against those of the set's.
        back_mpjpe_mm: The same after the way back.
        back_mpvpe_mm: Vertices after the way back.
        num_people: Of the set, over which these are means.
    """

    there_mpjpe_mm: float
    back_mpjpe_mm: float
    back_mpvpe_mm: float
    num_people: int


@torch.no_grad()
def conversion_floor(people: PeopleDataset, body: BodyModel, other: BodyModel) -> Floor | None:
    """The floor over people from all over a set; None where no mesh of it is known.

    Args:
        people: With parameters of a body.
        body: Theirs.
        other: To which they are converted, and back.
    """
    known = np.flatnonzero(people.detail("has_smpl") > 0)  # type: ignore[attr-defined]
    if not len(known):
        return None
    rows = known[np.unique(np.linspace(0, len(known) - 1, NUM_PEOPLE).astype(int))]
    given = _parameters(people.batch(rows))
    vertices = body(*given).vertices
    wanted = _regressor(body) @ vertices
    there = _fitted(other, given, wanted)
    seen = _regressor(other) @ other(*there).vertices
    mesh = body(*_fitted(body, there, seen)).vertices
    again = _regressor(body) @ mesh
    about = [v - v.mean(dim=1, keepdim=True) for v in (mesh, vertices)]
    return Floor(
        there_mpjpe_mm=_mpjpe_mm(seen, wanted),
        back_mpjpe_mm=_mpjpe_mm(again, wanted),
        back_mpvpe_mm=float((about[0] - about[1]).norm(dim=-1).mean()) * MM_PER_METRE,
        num_people=len(rows),
    )


Parameters = tuple[Tensor, Tensor, Tensor, Tensor]


def _parameters(sample: Sample) -> Parameters:
    return sample.global_orient, sample.body_pose, sample.betas, torch.zeros_like(sample.transl)


def _regressor(body: BodyModel) -> Float[Tensor, "38 vertices"]:
    """The 14 evaluation joints, then the 24 of the skeleton, out of posed vertices."""
    evaluated = body.get_buffer("J_regressor_h36m")[list(H36M_TO_EVALUATION)]
    return torch.cat([evaluated, body.J_regressor])


def _mpjpe_mm(found: Tensor, wanted: Tensor) -> float:
    pair = [centered(v[:, : len(EVALUATION_14)], EVALUATION_14.root) for v in (found, wanted)]
    return float((pair[0] - pair[1]).norm(dim=-1).mean()) * MM_PER_METRE


def _fitted(body: BodyModel, start: Parameters, wanted: Tensor) -> Parameters:
    """The parameters of a body whose joints lie closest to those wanted, from another's pose."""
    rotmat = rotvec_to_rotmat(torch.cat([start[0][:, None], start[1]], dim=1))
    found = fit_points(body, wanted, _regressor(body), rotmat, max_steps=MAX_STEPS)
    return found.global_orient, found.body_pose, found.betas, found.transl
