"""One crafted model that every client is shown: traps that fire on a picture the server looks for.

The units of a feed-forward layer are set so that each fires only on pictures that look like one
candidate. A unit that fires nowhere in a client's data has no gradient, so its weights stay; AdamW
makes even the faintest firing a whole step. The sum over a cohort then tells whether anybody in it
holds the picture, without any single update. All clients get the same weights, so binding masks to
the model's hash does not help.

Low-rank corrections leave no room: their server sends two narrow factors and no unit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pchmr.data.augment import DEFAULT, augment
from pchmr.federated.vector import Slot
from pchmr.privacy.audit.membership import Candidates
from pchmr.privacy.audit.replay import Replay, Values
from pchmr.seeds import derive_seed

LAYER = "transformer_1.encoder.layers.0.linear1"
VIEWS = 6  # augmented copies of a candidate
SMALL = 0.05  # of the mean variance, added where tokens hardly vary
GAIN = 1.0
BATCH = 32


@dataclass(frozen=True)
class Traps:
    """A crafted model.

    Attributes:
        weights: As they travel.
        place: Rows of the trapped layer in an update: (units, inputs).
        shape: Of that layer.
        start: The layer's crafted rows, which weight decay shrinks where nothing fires.
    """

    weights: Values
    place: slice
    shape: tuple[int, int]
    start: Float[np.ndarray, "units inputs"]

    def moved(self, update: Values, decay: float) -> Float[np.ndarray, "units inputs"]:
        """What an update did to the trapped units beyond weight decay."""
        rows = update[self.place].reshape(self.shape)
        return rows + np.float32(decay) * self.start


def slots_of(replay: Replay) -> tuple[Slot, Slot] | None:
    """Weight and bias of the layer that takes traps; None where they do not travel."""
    named = {slot.name: slot for slot in replay.spec.parameters}
    if f"{LAYER}.weight" not in named or f"{LAYER}.bias" not in named:
        return None
    return named[f"{LAYER}.weight"], named[f"{LAYER}.bias"]


@torch.no_grad()
def tokens_of(model: nn.Module, images: Tensor) -> Float[Tensor, "images tokens inputs"]:
    """What reaches the layer from each picture."""
    seen: list[Tensor] = []
    layer = model.get_submodule(LAYER)
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for start in range(0, len(images), BATCH):
                model(images[start : start + BATCH])
    finally:
        handle.remove()
    return torch.cat([part.transpose(0, 1) for part in seen]).float()


def views_of(replay: Replay, row: int) -> Tensor:
    """A candidate as its client may see it: augmented where the run augments."""
    sample = replay.cast.people.batch([row])
    if not replay.config.optim_options.augment:
        return sample.images
    many = sample.taken(torch.zeros(VIEWS, dtype=torch.int64))
    generator = torch.Generator().manual_seed(derive_seed(row, "audit views"))
    return augment(many, generator, DEFAULT).images


def crafted(replay: Replay, found: Candidates, reference: np.ndarray) -> Traps | None:
    """A model with a trap for each of the first candidates, as many as the layer has units.

    Args:
        replay: Of the run.
        found: Pictures to look for.
        reference: Rows of pictures that no trap shall fire on, of nobody who is attacked.
    """
    slots = slots_of(replay)
    if slots is None:
        return None
    replay.load(replay.start)
    usual = torch.cat(
        [
            tokens_of(replay.model, replay.cast.people.batch([row]).images)
            for row in reference.tolist()
        ]
    )
    flat = usual.flatten(0, 1)
    center, cov = flat.mean(0), torch.cov(flat.T)
    width = cov.shape[0]
    inverse = torch.linalg.inv(cov + SMALL * cov.diagonal().mean() * torch.eye(width))
    weight, bias = slots
    units = weight.shape[0]
    weights = replay.start.copy()
    rows = weights[weight.start : weight.stop].reshape(weight.shape)
    offsets = weights[bias.start : bias.stop]
    for unit, row in enumerate(found.rows[:units]):
        views = tokens_of(replay.model, views_of(replay, int(row)))
        direction, threshold = _trap(views, flat, center, inverse)
        rows[unit] = GAIN * direction.numpy()
        offsets[unit] = -GAIN * threshold
    place = slice(weight.start, weight.stop)
    return Traps(weights, place, (weight.shape[0], weight.shape[1]), rows.copy())


def _trap(
    views: Float[Tensor, "views tokens inputs"],
    usual: Float[Tensor, "all inputs"],
    center: Float[Tensor, " inputs"],
    inverse: Float[Tensor, "inputs inputs"],
) -> tuple[Float[Tensor, " inputs"], float]:
    """Direction and threshold for the token of a picture that stands out most."""
    wanted = views.mean(0) - center
    directions = wanted @ inverse
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
    answers = torch.einsum("vti,ti->tv", views, directions)
    loudest = (usual @ directions.T).max(0).values
    margin = (answers.mean(1) - loudest) / answers.std(1).clamp_min(1e-6)
    best = int(margin.argmax())
    threshold = 0.5 * (
        float(loudest[best]) + max(float(answers[best].mean()), float(loudest[best]))
    )
    return directions[best], threshold
