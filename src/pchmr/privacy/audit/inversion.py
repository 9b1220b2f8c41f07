"""A picture from one step of a client that has one picture.

Two attacks. The learned one is a kernel ridge regression from the sketch of an update to a small
picture, taught by shadow clients of one picture each. The matching one goes on from there: it looks
for the small picture whose gradient points like the update, labels known, with a price on variation
(Geiping et al. 2020, arXiv 2003.14053). Both see the augmented picture; that is what they are held
against.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pchmr.data.sample import Sample
from pchmr.privacy.audit.figures import Figure, interval_of
from pchmr.privacy.audit.replay import Replay
from pchmr.privacy.audit.shape import left_out
from pchmr.training import step_terms

SMALL_SIDE = 14  # of the picture that is looked for
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
VARIATION = 0.02
RATE = 0.02
TINY = 1e-12
Pictures = Float[Tensor, "n 3 side side"]


def shrunk(images: Float[Tensor, "n 3 height width"]) -> Float[np.ndarray, "n pixels"]:
    """Small versions, flat."""
    return F.interpolate(images, size=SMALL_SIDE, mode="area").flatten(1).numpy()


def grown(small: Float[np.ndarray, "n pixels"], side: int) -> Float[Tensor, "n 3 side side"]:
    """Small pictures at full size."""
    shaped = torch.from_numpy(np.asarray(small, dtype=np.float32))
    shaped = shaped.unflatten(1, (3, SMALL_SIDE, SMALL_SIDE))
    return F.interpolate(shaped, size=side, mode="bilinear", align_corners=False).clamp(0, 1)


def ratio_db(
    guess: Float[Tensor, "n 3 height width"], truth: Float[Tensor, "n 3 height width"]
) -> Float[np.ndarray, " n"]:
    """Peak signal-to-noise ratio of each picture, in decibels."""
    error = (guess - truth).square().flatten(1).mean(1).clamp_min(1e-10)
    return (-10 * torch.log10(error)).numpy()


@dataclass(frozen=True)
class LearnedInversion:
    """A linear map from sketches to small pictures."""

    center: Float[np.ndarray, " sketch"]
    weights: Float[np.ndarray, "sketch pixels"]
    mean: Float[np.ndarray, " pixels"]

    def __call__(self, features: Float[np.ndarray, "n sketch"]) -> Float[np.ndarray, "n pixels"]:
        """Small pictures."""
        return (features - self.center) @ self.weights + self.mean


def learned(
    features: Float[np.ndarray, "n sketch"],
    small: Float[np.ndarray, "n pixels"],
    places: Sequence[slice],
) -> LearnedInversion:
    """Fits the map; the ridge is chosen by leaving each shadow picture out."""
    center, mean = features.mean(0), small.mean(0)
    known, truth = features - center, small - mean
    factor = np.concatenate(
        [
            np.full(place.stop - place.start, 1 / max(float(np.linalg.norm(known[:, place])), TINY))
            for place in places
        ]
    )
    scaled = known * factor
    kernel = scaled @ scaled.T
    tried = [(ridge, left_out(kernel, truth, ridge)) for ridge in RIDGES]
    _, (dual, _) = min(tried, key=lambda t: float(np.square(truth - t[1][1]).sum()))
    weights = factor[:, None] * (scaled.T @ dual)
    return LearnedInversion(center, weights.astype(np.float32), mean)


def matched(
    replay: Replay,
    sample: Sample,
    update: Float[np.ndarray, " size"],
    start: Float[np.ndarray, " pixels"],
    steps: int,
) -> Float[np.ndarray, " pixels"]:
    """A small picture whose gradient points against an update, searched for from a first guess.

    AdamW's first step keeps signs and loses sizes, so gradients are squashed to near their signs.
    """
    named = dict(replay.model.named_parameters())
    wanted = [named[slot.name] for slot in replay.spec.parameters]
    aim = [
        torch.from_numpy(-update[s.start : s.stop].reshape(s.shape).copy())
        for s in replay.spec.parameters
    ]
    length = torch.stack([a.square().sum() for a in aim]).sum().sqrt()
    small = torch.from_numpy(np.asarray(start, dtype=np.float32).copy())
    small = small.view(1, 3, SMALL_SIDE, SMALL_SIDE).requires_grad_()
    optimizer = torch.optim.Adam([small], lr=RATE)
    side = sample.images.shape[-1]
    best, found = float("inf"), small.detach().clone()
    for _ in range(steps):
        picture = F.interpolate(small, size=side, mode="bilinear", align_corners=False)
        loss = 1 - _cosine(replay, replace(sample, images=picture), wanted, aim, length)
        if float(loss.detach()) < best:
            best, found = float(loss.detach()), small.detach().clone()
        steep = (small[..., 1:] - small[..., :-1]).abs().mean()
        steep = steep + (small[..., 1:, :] - small[..., :-1, :]).abs().mean()
        (small.grad,) = torch.autograd.grad(loss + VARIATION * steep, small)
        optimizer.step()
        with torch.no_grad():
            small.clamp_(0, 1)
    return found.flatten().numpy()


def _cosine(
    replay: Replay, sample: Sample, wanted: Sequence[Tensor], aim: Sequence[Tensor], length: Tensor
) -> Tensor:
    """Between an update and the squashed gradient of a picture."""
    with sdpa_kernel(SDPBackend.MATH), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        terms = step_terms(
            replay.model, replay.body, sample, replay.config.optim_options, epoch=0.0
        )
        total = torch.stack(list(terms.values())).sum()
        found = torch.autograd.grad(total, wanted, create_graph=True, allow_unused=True)
    along, square = torch.zeros(()), torch.zeros(())
    for piece, target in zip(found, aim, strict=True):
        if piece is not None:
            squashed = torch.tanh(piece / (piece.detach().abs().mean() + TINY))
            along = along + (squashed * target).sum()
            square = square + squashed.square().sum()
    return along / (square.sqrt() * length + TINY)


def figures(
    name: str,
    guess: Float[np.ndarray, "n pixels"],
    truth: Float[Tensor, "n 3 side side"],
    usual: Float[np.ndarray, " pixels"],
    seed: int,
    what: str,
) -> list[Figure]:
    """Mean PSNR beside the mean picture (chance) and the picture's own small version (ceiling)."""
    side = truth.shape[-1]
    reached = ratio_db(grown(guess, side), truth)
    blind = ratio_db(grown(np.tile(usual, (len(truth), 1)), side), truth)
    best = ratio_db(grown(shrunk(truth), side), truth)
    return [
        Figure(
            attack="reconstruction",
            name=name,
            value=float(reached.mean()),
            interval=interval_of(lambda d: float(reached[d].mean()), len(reached), seed),
            chance=float(blind.mean()),
            ceiling=float(best.mean()),
            unit="dB",
            n=len(reached),
            means=f"PSNR of a picture that one step was taken on, {what}",
        )
    ]
