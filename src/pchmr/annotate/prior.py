"""What poses are likely: a small Gaussian mixture over log rotations, and joint limits.

The shipped prior is learned from the activity templates and so free of any licence; `fit_prior`
learns one from your own motion data. Nothing here knows a picture.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pchmr.body.joints import SMPL_24
from pchmr.config import UserError
from pchmr.door import FileError
from pchmr.door.arrays import read_arrays
from pchmr.runs import file_sha256, replacing, shipped

ASSET = Path(__file__).parent / "assets" / "pose_prior_v1.npz"
INFLATION, FLOOR = 1.3, 0.01
EM_STEPS = 40
FEW_POSES = 100  # a component, below which a prior is told to be weak
NARROW = 0.1  # radians, root mean square of the poses' spread, likewise
FEW_WAYS = 25  # in which poses of a component differ; as many poses less one, where they are few
LEAST_WAY = 0.02  # of the floor's variance
TABLES = ("mean", "whitening", "constant", "limits")
LARGEST_ENTRY = 1e6


class PriorError(UserError):
    """A prior that cannot be read or learned."""


@dataclass(frozen=True, kw_only=True)
class PosePrior:
    """A mixture of Gaussians over the rotation vectors of the 23 joints below the root.

    Attributes:
        mean: Of each component, radians.
        whitening: L with L'L the inverse of the component's widened covariance.
        constant: Energy of each component at its mean: -2 log(share det L), smallest is 0.
        limits: Lowest and highest value of every coordinate, radians.
        sha256: Of the file it came from; empty for one made in memory.
    """

    mean: Float[Tensor, "components coordinates"]
    whitening: Float[Tensor, "components coordinates coordinates"]
    constant: Float[Tensor, " components"]
    limits: Float[Tensor, "coordinates 2"]
    sha256: str = ""

    def to(self, like: Tensor) -> "PosePrior":
        """The prior on the device and in the precision of a tensor."""
        arrays = {n: v.to(like) for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **arrays)

    @property
    def center(self) -> Float[Tensor, "joints 3"]:
        """Mean of the likeliest component's neighborhood: the mean over all components."""
        share = torch.softmax(-self.constant / 2, dim=0)
        return (share[:, None] * self.mean).sum(dim=0).unflatten(-1, (-1, 3))

    def whiten(
        self, rotvec: Float[Tensor, "batch joints 3"]
    ) -> tuple[Tensor, Tensor, Float[Tensor, " batch"]]:
        """Whitened residual (B, C) and whitening (B, C, C) of the best component, its constant."""
        offset = rotvec.flatten(start_dim=1)[:, None] - self.mean
        whitened = (self.whitening @ offset[..., None])[..., 0]
        best = (whitened.square().sum(dim=-1) + self.constant).argmin(dim=-1)
        row = torch.arange(len(rotvec), device=rotvec.device)
        return whitened[row, best], self.whitening[best], self.constant[best]

    def beyond_limits(
        self, rotvec: Float[Tensor, "batch joints 3"]
    ) -> Float[Tensor, "batch coordinates"]:
        """Radians above the highest or (negative) below the lowest allowed value."""
        flat = rotvec.flatten(start_dim=1)
        low, high = self.limits.unbind(dim=-1)
        return (flat - high).clamp_min(0) + (flat - low).clamp_max(0)


def fit_prior(
    poses: Float[np.ndarray, "poses joints 3"],
    *,
    num_components: int = 1,
    limits: Float[np.ndarray, "coordinates 2"] | None = None,
    generator: np.random.Generator | None = None,
) -> PosePrior:
    """Learns a prior from body poses.

    Args:
        poses: Rotation vectors of the 23 joints below the root, radians, any motion data.
        num_components: Gaussians in the mixture.
        limits: Range of every coordinate; without it, that of the poses and a tenth of a radian.
        generator: Draws the first centers of a mixture.

    Raises:
        PriorError: Too few poses, or values that are not finite.
    """
    flat = np.asarray(poses, dtype=np.float64).reshape(len(poses), -1)
    if len(flat) < 10 * num_components or not np.isfinite(flat).all():
        raise PriorError(
            f"a prior of {num_components} components needs at least {10 * num_components} finite "
            f"poses, got {len(flat)}: add motion data or ask for fewer components"
        )
    _warn_of_weakness(flat, num_components)
    share = _cluster(flat, num_components, generator or np.random.default_rng(0))
    eye = np.eye(flat.shape[1])
    means, roots, constants = [], [], []
    for weight in share.T:
        mean = weight @ flat / weight.sum()
        centered = flat - mean
        covariance = (weight[:, None] * centered).T @ centered / weight.sum()
        root = np.linalg.cholesky(np.linalg.inv(INFLATION * covariance + FLOOR * eye)).T
        means.append(mean)
        roots.append(root)
        constants.append(-2 * np.log(weight.mean()) - 2 * np.log(np.diag(root)).sum())
    if limits is None:
        limits = np.stack([flat.min(axis=0) - 0.1, flat.max(axis=0) + 0.1], axis=-1)
    table = (np.stack(means), np.stack(roots), np.array(constants) - min(constants), limits)
    mean, whitening, constant, bounds = (torch.from_numpy(a.astype(np.float32)) for a in table)
    return PosePrior(mean=mean, whitening=whitening, constant=constant, limits=bounds)


def _warn_of_weakness(flat: np.ndarray, num_components: int) -> None:
    """Says where a prior will hold fits to poses that it has hardly seen."""
    spread = float(np.sqrt(flat.var(axis=0).mean()))
    if len(flat) < FEW_POSES * num_components:
        few = f"it was fitted to {len(flat)} poses, {FEW_POSES} a component are few"
    elif spread < NARROW:
        few = f"its poses hardly differ (by {spread:.3f} radians)"
    else:
        return
    warnings.warn(f"the pose prior is weak: {few}; add motion data", stacklevel=3)


def weakness(prior: PosePrior) -> str:
    """Why a prior at hand will hold fits to poses that it has hardly seen; empty if it is sound."""
    inverse = torch.linalg.inv(prior.whitening.double())
    learned = (inverse @ inverse.mT - FLOOR * torch.eye(inverse.shape[-1])) / INFLATION
    apart = (prior.mean - prior.center.flatten()).square().mean(dim=-1)
    spread = learned.diagonal(dim1=-2, dim2=-1).mean(dim=-1).clamp_min(0) + apart
    ways = (torch.linalg.eigvalsh(learned) > LEAST_WAY * FLOOR).sum(dim=-1)
    if int(ways.min()) < FEW_WAYS:
        return f"it knows {int(ways.min())} ways in which poses differ: it was fitted to few poses"
    if float(spread.max().sqrt()) < NARROW:
        return f"its poses hardly differ (by {float(spread.max().sqrt()):.3f} radians)"
    return ""


def _cluster(flat: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Shares (N, G) of each pose in each component: expectation maximization from k-means seeds."""
    if count == 1:
        return np.ones((len(flat), 1))
    centers = flat[generator.choice(len(flat), 1)]
    while len(centers) < count:
        square = ((flat[:, None] - centers) ** 2).sum(axis=-1).min(axis=1)
        centers = np.concatenate(
            [centers, flat[generator.choice(len(flat), 1, p=square / square.sum())]]
        )
    nearest = ((flat[:, None] - centers) ** 2).sum(axis=-1).argmin(axis=1)
    share = np.eye(count)[nearest]
    eye = np.eye(flat.shape[1])
    for _ in range(EM_STEPS):
        score = np.empty_like(share)
        for g, weight in enumerate(share.T):
            total = weight.sum() + 1e-9
            centered = flat - weight @ flat / total
            covariance = (weight[:, None] * centered).T @ centered / total + FLOOR * eye
            root = np.linalg.cholesky(np.linalg.inv(covariance)).T
            energy = ((centered @ root.T) ** 2).sum(axis=1)
            score[:, g] = np.log(total / len(flat)) + np.log(np.diag(root)).sum() - energy / 2
        share = np.exp(score - score.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
    return share


def save_prior(path: Path, prior: PosePrior) -> None:
    """Writes a prior as a small .npz."""
    arrays = {name: getattr(prior, name).cpu().numpy() for name in TABLES}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_prior(path: Path | None = None) -> PosePrior:
    """The prior of a file, or the shipped one.

    Raises:
        PriorError: The file is missing or not one of `save_prior`.
    """
    path = shipped(path or ASSET)
    try:
        arrays = read_arrays(path, TABLES)
        _check_tables(arrays)
    except (FileError, ValueError) as error:
        reason = error.reason if isinstance(error, FileError) else error
        raise PriorError(
            f"cannot read pose prior {path}: {reason}; make one with pchmr.annotate.save_prior"
        ) from None
    tables = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return PosePrior(**tables, sha256=file_sha256(path))


def _check_tables(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuses tables whose shapes contradict each other, or that hold anything but numbers."""
    missing = [name for name in TABLES if name not in arrays]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    count = len(arrays["constant"]) if arrays["constant"].ndim == 1 else 0
    size = 3 * (len(SMPL_24) - 1)
    shapes = {
        "mean": (count, size),
        "whitening": (count, size, size),
        "constant": (count,),
        "limits": (size, 2),
    }
    for name, array in arrays.items():
        if array.shape != shapes[name] or not count or array.dtype.kind != "f":
            raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {shapes[name]}")
        if not np.isfinite(array).all() or np.abs(array).max() > LARGEST_ENTRY:
            raise ValueError(f"{name} holds values that are not finite, or beyond all reason")
    if (arrays["limits"][:, 0] > arrays["limits"][:, 1]).any():
        raise ValueError("limits holds a lowest value above the highest")
