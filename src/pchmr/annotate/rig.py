"""Points carried by bones: keypoints, vertices and joints reduced to what skinning needs of them.

A regressor row K and skinning weights W meet in three small tables per point and bone, `sum_v K W
v_template`, `sum_v K W shapedirs` and `sum_v K W`, so a posed keypoint and its derivative are exact
and no sum over vertices stands inside the solver.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.body.joints import SMPL_24
from pchmr.body.skinning import NUM_BETAS, Skinning


@dataclass(frozen=True, kw_only=True)
class Rig:
    """What bones carry of some points, metres.

    Attributes:
        template: Weighted rest position of each point on each bone.
        shapedirs: Its change per beta.
        weights: Share of each bone; rows sum to 1.
        posedirs: Its change per entry of the 23 local rotation matrices minus identity, or None.
    """

    template: Float[Tensor, "points bones 3"]
    shapedirs: Float[Tensor, "points bones 3 betas"]
    weights: Float[Tensor, "points bones"]
    posedirs: Tensor | None = None

    def __len__(self) -> int:
        return len(self.weights)

    def take(self, rows: Sequence[int] | Int[Tensor, " rows"]) -> "Rig":
        """Some of the points, in the order given."""
        rows = torch.as_tensor(rows, device=self.weights.device)
        return Rig(
            template=self.template[rows],
            shapedirs=self.shapedirs[rows],
            weights=self.weights[rows],
            posedirs=None if self.posedirs is None else self.posedirs[rows],
        )


def rig_regressor(body: Skinning, rows: Float[Tensor, "points vertices"]) -> Rig:
    """Points that are fixed linear combinations of posed vertices; rows sum to 1."""
    used = (rows != 0).any(dim=0).nonzero()[:, 0]
    share = rows[:, used, None] * body.weights[used]
    shapes = body.shapedirs[used, :, :NUM_BETAS]
    correctives = None
    if body.posedirs is not None:
        correctives = torch.einsum("kvj,vxp->kjxp", share, body.posedirs[used])
    return Rig(
        template=torch.einsum("kvj,vx->kjx", share, body.v_template[used]),
        shapedirs=torch.einsum("kvj,vxs->kjxs", share, shapes),
        weights=share.sum(dim=1),
        posedirs=correctives,
    )


def rig_vertices(body: Skinning, vertices: Int[Tensor, " points"]) -> Rig:
    """Vertices of the body."""
    rows = torch.zeros(len(vertices), body.num_vertices).to(body.weights)
    rows[torch.arange(len(vertices)), vertices] = 1
    return rig_regressor(body, rows)


def rig_joints(body: Skinning, names: Sequence[str]) -> Rig:
    """Joints of the kinematic chain by their SMPL names; each rides on its own bone."""
    bones = torch.tensor(SMPL_24.indices(tuple(names)), device=body.weights.device)
    regressor = body.J_regressor[bones]
    weights = torch.zeros(len(bones), len(body.parents)).to(regressor)
    weights[torch.arange(len(bones)), bones] = 1
    shapes = torch.einsum("kv,vxs->kxs", regressor, body.shapedirs[..., :NUM_BETAS])
    correctives = None
    if body.posedirs is not None:
        correctives = weights.new_zeros(*weights.shape, 3, body.posedirs.shape[-1])
    return Rig(
        template=weights[..., None] * (regressor @ body.v_template)[:, None],
        shapedirs=weights[..., None, None] * shapes[:, None],
        weights=weights,
        posedirs=correctives,
    )


def join(rigs: Sequence[Rig]) -> Rig:
    """One rig with the points of all, in order."""
    correctives = [rig.posedirs for rig in rigs if rig.posedirs is not None]
    return Rig(
        template=torch.cat([rig.template for rig in rigs]),
        shapedirs=torch.cat([rig.shapedirs for rig in rigs]),
        weights=torch.cat([rig.weights for rig in rigs]),
        posedirs=torch.cat(correctives) if correctives else None,
    )
