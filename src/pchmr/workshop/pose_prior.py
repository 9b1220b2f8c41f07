"""Poses and joint limits of the activity templates, and the shipped pose prior made from them.

Run `python -m pchmr.workshop.pose_prior` to write the asset again. The poses are those of
domain A's training people, so that people of domain B are strangers to the prior.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from pchmr.annotate.prior import ASSET, fit_prior, save_prior
from pchmr.body import BodyModel, load_body
from pchmr.config import Domain
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.poses import LIMITS, compose, neutral
from pchmr.data.synthetic.recipe import SyntheticRecipe
from pchmr.data.synthetic.world import World
from pchmr.geometry import rotmat_to_rotvec

NUM_POSES = 6000
NUM_LIMIT_DRAWS = 20_000
OUTSIDE = 0.005  # share of draws within anatomical limits that may lie beyond the range, each side
CHUNK = 128


def template_poses(
    body: BodyModel, count: int, *, domain: Domain = "A", seed: int = 0
) -> Float[np.ndarray, "poses 23 3"]:
    """Rotation vectors of what training people of a domain do."""
    recipe = SyntheticRecipe(domain=domain, split="train", num_samples=count, seed=seed)
    world, rows = World(recipe, body), layout(recipe)
    found = [world.pose(rows.take(slice(at, at + CHUNK))).rotmat for at in range(0, count, CHUNK)]
    rotmat = torch.from_numpy(np.concatenate(found)[:, 1:])
    return rotmat_to_rotvec(rotmat).numpy()


def limit_ranges(seed: int = 0) -> Float[np.ndarray, "coordinates 2"]:
    """Range of every rotation vector entry when all angles lie within their anatomical limits."""
    rng = np.random.default_rng(seed)
    angles = neutral(NUM_LIMIT_DRAWS)
    for name, (low, high) in LIMITS.items():
        angles[name] = rng.uniform(low, high, angles[name].shape)
    rotvec = rotmat_to_rotvec(torch.from_numpy(compose(angles)[:, 1:])).flatten(start_dim=1).numpy()
    return np.quantile(rotvec, [OUTSIDE, 1 - OUTSIDE], axis=0).T


def build(path: Path = ASSET) -> None:
    """Writes the shipped prior."""
    poses = template_poses(load_body(), NUM_POSES)
    save_prior(path, fit_prior(poses, limits=limit_ranges()))


if __name__ == "__main__":
    build()
