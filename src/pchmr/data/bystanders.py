"""What stands around people on photos and not on rendered crops: others, and the picture's edge.

Rendered people stand alone in their crop, so that a network learns to follow whoever it sees; on a
photo it then takes limbs of a neighbor. Here other rendered people, cut out along their masks, are
laid beside the one in the middle, who may be hidden by them in part, and beyond the person a crop
is cut off black, as where a picture ends. Labels stay those of the person in the middle.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from pchmr.body import load_body
from pchmr.data.sample import Sample
from pchmr.data.synthetic import SyntheticRecipe
from pchmr.data.synthetic.crowds import whole_rows
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.render import render_rows
from pchmr.data.synthetic.world import World

NUM_RENDERED, SEED = 640, 90_210
SECOND = 0.4  # share of crops with somebody beside that have another
SIZES = (0.6, 1.2)  # of a bystander, whose own crop is like that of the person in the middle
ASIDE = (0.35, 0.95)  # crops between the middles of both
UP = 0.12  # crops that a bystander stands higher or lower at most
GAIN = 0.25
EDGE = 0.3  # share of crops, among those with surroundings, that the picture's edge cuts off
BEYOND = 0.06  # crops between the outermost joint and what may be cut off
FAR = 2.0  # crop coordinates from the middle, which no pixel has


@cache
def cut_outs(
    side: int, count: int = NUM_RENDERED, seed: int = SEED
) -> UInt8[Tensor, "people 4 side side"]:
    """Training people of domain A, drawn apart, without surroundings; rendered once a process.

    Args:
        side: Of their crops.
        count: How many are rendered; who is not whole is left out.
        seed: Draws who they are.

    Returns:
        8-bit RGB and, last, how much of a pixel is the person's, 255 for all of it.
    """
    body = load_body()
    recipe = SyntheticRecipe(
        domain="A", split="train", num_samples=count, image_size=side, seed=seed
    )
    shown = render_rows(World(recipe, body), layout(recipe))
    rows = whole_rows(shown)
    mask = torch.from_numpy(shown.person_mask[rows].astype(np.float32))[:, None]
    soft = (255 * F.avg_pool2d(mask, 3, stride=1, padding=1) * mask).to(torch.uint8)
    return torch.cat([torch.from_numpy(shown.images[rows]).permute(0, 3, 1, 2), soft], dim=1)


def surrounded(
    sample: Sample,
    people: UInt8[Tensor, "people 4 side side"],
    share: float,
    generator: torch.Generator,
) -> Sample:
    """A copy of the batch, in a share of whose crops others stand, or the picture ends.

    Args:
        sample: People, one a crop; pictures may hold more than their crops.
        people: Who may stand beside them (see `cut_outs`), in crops as large as the sample's.
        share: Of the crops.
        generator: Draws all that is random.
    """
    batch, images = len(sample), sample.images.clone()
    inner = people.shape[-1] / images.shape[-1]  # share of the picture that the crop is

    def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    def sign() -> Tensor:
        return torch.where(uniform() < 0.5, -1.0, 1.0)

    chosen = uniform() < share
    for layer in (chosen, chosen & (uniform() < SECOND)):
        who = torch.randint(len(people), (batch,), generator=generator)
        place = torch.stack([sign() * uniform(*ASIDE), uniform(-UP, UP)], dim=-1)
        size, mirror, gain = uniform(*SIZES), sign(), uniform(1 - GAIN, 1 + GAIN)
        rows = layer.nonzero()[:, 0]
        if not len(rows):
            continue
        plane = _plane(2 * inner * place[rows], inner * size[rows], mirror[rows])
        grid = F.affine_grid(plane, [len(rows), 4, *images.shape[2:]], align_corners=False)
        laid = F.grid_sample(people[who[rows]].float() / 255, grid, align_corners=False)
        color = (laid[:, :3] * gain[rows, None, None, None]).clamp(0, 1)
        images[rows] += laid[:, 3:] * (color - images[rows])
    is_cut, which, where = chosen & (uniform() < EDGE), uniform(), uniform()
    ends = _reaches(sample) * inner
    edges = F.one_hot((4 * which).long(), 4).bool() & is_cut[:, None]
    limits = torch.where(edges, ends + where[:, None] * (inner - ends), FAR)
    return replace(sample, images=images * _inside(limits, images.shape[-1]))


def _plane(
    place: Float[Tensor, "rows 2"], size: Float[Tensor, " rows"], mirror: Float[Tensor, " rows"]
) -> Float[Tensor, "rows 2 3"]:
    """From picture to cut-out: where to look each pixel up."""
    plane = torch.zeros(len(size), 2, 3)
    plane[:, 0, 0], plane[:, 1, 1] = mirror / size, 1 / size
    plane[:, :, 2] = -place / size[:, None]
    plane[:, 0, 2] *= mirror
    return plane


def _reaches(sample: Sample) -> Float[Tensor, "batch 4"]:
    """How far a person reaches to the left, right, top and bottom, in crop coordinates."""
    places = sample.keypoints_2d[..., :2].clamp(-1, 1)
    low, high = -places.amin(dim=1), places.amax(dim=1)
    ends = torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], dim=1)
    return (ends + 2 * BEYOND).clamp(max=1)


def _inside(limits: Float[Tensor, "batch 4"], side: int) -> Float[Tensor, "batch 1 side side"]:
    """One within limits on the left, right, top and bottom, zero beyond."""
    steps = (2 * torch.arange(side) + 1) / side - 1
    kept = [sign * steps <= limits[:, n, None] for n, sign in enumerate((-1, 1, -1, 1))]
    across, down = kept[0] & kept[1], kept[2] & kept[3]
    return (across[:, None, None, :] & down[:, None, :, None]).float()
