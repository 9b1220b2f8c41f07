"""People that are rendered while a network trains on them, on its device; nothing is stored.

Epoch 0 shows what a cached rendering of the same recipe holds, picture for picture on the CPU;
every later epoch goes on with the next rows of the recipe: other moments and clips of the same
training subjects.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from pchmr.body import BodyModel
from pchmr.data.sample import COLUMNS, Origin, Sample
from pchmr.data.synthetic import SyntheticRecipe, origin_of
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.people import LABELS
from pchmr.data.synthetic.render import render_rows
from pchmr.data.synthetic.sensor import decode, encode
from pchmr.data.synthetic.world import World


class LivePeople:
    """Rendered people of one epoch; see `PeopleDataset` and `RenewedPeople`.

    Attributes:
        recipe: What is rendered; `num_samples` is the length of an epoch.
        epoch: Which of the epochs this is.
        image_size: Side of the crops in pixels.
        content_hash: Over recipe, rendering code, body and epoch.
        origin: See `origin_of`.
        columns: `COLUMNS` of this epoch's rows.
    """

    is_private = False

    def __init__(self, recipe: SyntheticRecipe, body: BodyModel, *, epoch: int = 0) -> None:
        """Prepares the people of an epoch; nothing is rendered yet.

        Args:
            recipe: What to render.
            body: Whom; its device renders.
            epoch: How many times as many rows come before.
        """
        self.recipe, self.epoch, self.image_size = recipe, epoch, recipe.image_size
        self.origin: Origin | None = origin_of(recipe)
        key = f"{recipe.content_hash()}{body.sha256}live{epoch}"
        self.content_hash = hashlib.sha256(key.encode()).hexdigest()
        count = recipe.num_samples
        rows = layout(replace(recipe, num_samples=(epoch + 1) * count))
        self._rows = rows.take(slice(epoch * count, None))
        self.columns = {name: np.asarray(getattr(self._rows, name)) for name in COLUMNS}
        self._body, self._world = body, World(recipe, body)

    def __len__(self) -> int:
        return len(self._rows)

    def of_epoch(self, epoch: int) -> "LivePeople":
        """The people of another epoch."""
        return self if epoch == self.epoch else LivePeople(self.recipe, self._body, epoch=epoch)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, in that order, rendered now; compressed as stored pictures are."""
        rows = np.asarray(indices, dtype=np.int64)
        device = self._body.v_template.device
        rendered = render_rows(self._world, self._rows.take(rows), device)
        pictures = np.stack([decode(encode(image)) for image in rendered.images])
        images = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
        known = torch.ones(len(rows), dtype=torch.bool)
        return Sample(
            images=images,
            **{name: torch.from_numpy(rendered.labels[name]).to(device) for name in LABELS},
            has_smpl=known,
            has_joints=known.clone(),
            has_keypoints_2d=known.clone(),
            index=torch.from_numpy(rows),
        ).to(device)
