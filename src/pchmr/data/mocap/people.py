"""Rendered people who move as recordings do: the embedded worlds with other poses.

Subjects, clothes, scenes and cameras are those of a recipe; poses come from a `PoseSet`, and bodies
are lifted or lowered until what carries them touches the ground.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from pchmr.body import BodyModel
from pchmr.config import UserError
from pchmr.data.mocap.poses import PoseSet
from pchmr.data.synthetic import SyntheticPeople, SyntheticRecipe
from pchmr.data.synthetic.contact import stance_of
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.people import RENDER_BATCH, write_folder
from pchmr.data.synthetic.poses import neutral
from pchmr.data.synthetic.recipe import Rows
from pchmr.data.synthetic.render import render_rows
from pchmr.data.synthetic.sensor import encode
from pchmr.data.synthetic.world import Posed, World

ACTIVITY = "stand"
"""Which of the worlds' activities recordings count as: one without furniture."""


class RecordedWorld(World):
    """A world whose people move as recordings do."""

    def __init__(self, recipe: SyntheticRecipe, body: BodyModel, poses: PoseSet) -> None:
        super().__init__(recipe, body)
        self._poses = poses
        self._own = poses.of_split(recipe.split)
        if not len(self._own):
            raise UserError(f"--poses hold no recording for {recipe.split}: import more of them")

    def recordings(self, rows: Rows) -> np.ndarray:
        """Which recording each row shows: one a clip."""
        return self._own[rows.clip % len(self._own)]

    def pose(self, rows: Rows, device: torch.device | str = "cpu") -> Posed:
        """Bodies of the rows, dressed and on the ground."""
        recording = self.recordings(rows)
        start, end = self._poses.start[recording], self._poses.start[recording + 1]
        rotvec = self._poses.rotvec[start + rows.frame % (end - start)].astype(np.float64)
        count = len(rows)
        rotmat = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix().reshape(count, -1, 3, 3)
        subjects, scenes = rows.subject.tolist(), rows.scene.tolist()
        betas = np.stack([self.subject(subject).betas for subject in subjects])
        dressed = self.surface if self.recipe.version == 1 else self.dressed
        surfaces = [dressed(s, c) for s, c in zip(subjects, scenes, strict=True)]
        offsets = np.stack([surface.offsets for surface in surfaces])
        vertices = self.skin(rotmat, betas, offsets, device)
        rise = -vertices[:, self.carries.to(device), 1].amin(dim=1)
        vertices[..., 1] += rise[:, None]
        angles = neutral(count)
        return Posed(
            rotmat=rotmat,
            betas=betas,
            rise=rise.double().cpu().numpy(),
            vertices=vertices,
            angles=angles,
            stance=stance_of(rows.action, angles, np.zeros(count)),
            mirrored=np.zeros(count, dtype=bool),
            surfaces=surfaces,
        )


def write_recorded(
    folder: Path,
    recipe: SyntheticRecipe,
    body: BodyModel,
    poses: PoseSet,
    progress: Callable[[int, int], None] | None = None,
) -> SyntheticPeople:
    """Renders a split with recorded poses into a folder that `--data` reads."""
    key = f"{recipe.content_hash()}{body.sha256}{poses.sha256}"
    content_hash = hashlib.sha256(key.encode()).hexdigest()
    write_folder(folder, recipe, content_hash, _rendered(recipe, body, poses), progress)
    return SyntheticPeople.open(folder)


def _rendered(
    recipe: SyntheticRecipe, body: BodyModel, poses: PoseSet
) -> Iterator[tuple[list[bytes], dict[str, np.ndarray]]]:
    world = RecordedWorld(recipe, body, poses)
    whole = layout(recipe)
    whole = replace(whole, action=np.full(len(whole), ACTIVITY))
    for start in range(0, len(whole), RENDER_BATCH):
        rows = whole.take(slice(start, start + RENDER_BATCH))
        shown = render_rows(world, rows)
        columns = {f.name: getattr(rows, f.name) for f in fields(rows)}
        columns["action"] = np.array([poses.names[k][:64] for k in world.recordings(rows)])
        yield [encode(image) for image in shown.images], {**shown.labels, **columns}
