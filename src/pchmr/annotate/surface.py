"""The part of the body's surface that meets dense depth: spread vertices and normals."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.annotate.kinematics import Chain, points
from pchmr.annotate.rig import Rig, rig_vertices
from pchmr.body import BodyModel
from pchmr.data.synthetic.normals import vertex_normals

NUM_SURFACE = 440
CLOTHING = 0.01  # metres by which the seen surface lies outside the skin on average
AWAY = 1e3  # metres added to vertices that the camera cannot see


@dataclass(frozen=True)
class Surface:
    """Spread vertices.

    Attributes:
        rig: Of the vertices.
        rest_normals: Unit normals of the rest pose.
    """

    rig: Rig
    rest_normals: Float[Tensor, "points 3"]

    @classmethod
    def of(cls, body: BodyModel, num_points: int = NUM_SURFACE) -> "Surface":
        """Farthest-point vertices of the template, moved out by the mean thickness of clothes."""
        rows = farthest_points(body.v_template, num_points)
        normals = vertex_normals(body.v_template[None], body.faces)[0]
        rig = rig_vertices(body, rows)
        dressed = rig.template + CLOTHING * rig.weights[..., None] * normals[rows, None]
        return cls(replace(rig, template=dressed), normals[rows])

    def normals(self, chain: Chain) -> Float[Tensor, "batch points 3"]:
        """Unit normals in the camera frame, turned with the blended bones."""
        world = chain.world.flatten(start_dim=2)
        blended = (self.rig.weights @ world).unflatten(-1, (3, 3))
        turned = (blended @ self.rest_normals[..., None])[..., 0]
        return torch.nn.functional.normalize(turned, dim=-1)

    def nearest(
        self,
        chain: Chain,
        betas: Tensor,
        observed: Float[Tensor, "batch rays 3"],
        *,
        on_all_sides: Float[Tensor, " batch"] | None = None,
    ) -> Int[Tensor, "batch rays"]:
        """The nearest vertex that faces the camera, for each observed point.

        Args:
            chain: Posed skeleton.
            betas: Shape.
            observed: Points, metres.
            on_all_sides: 1 where any vertex will do, as the points come from all sides.
        """
        vertices = points(self.rig, chain, betas)
        hidden = (self.normals(chain) * vertices).sum(dim=-1) > 0
        if on_all_sides is not None:
            hidden = hidden & (on_all_sides[:, None] == 0)
        square = vertices.square().sum(dim=-1) + AWAY * hidden
        return (square[:, None] - 2 * observed @ vertices.mT).argmin(dim=-1)


def farthest_points(vertices: Float[Tensor, "vertices 3"], count: int) -> Int[Tensor, " count"]:
    """Vertices each of which lies farthest from those before it, starting at the first."""
    count = min(count, len(vertices))
    chosen = [0]
    distance = (vertices - vertices[0]).norm(dim=-1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (vertices - vertices[chosen[-1]]).norm(dim=-1))
    return torch.tensor(chosen, device=vertices.device)
