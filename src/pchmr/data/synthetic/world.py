"""Rows of a recipe become posed, dressed, lit people with exact labels.

`World` holds what rows share (subjects, outfits, scenes, shots) and draws it on demand;
`render_rows` is the one path from rows to pictures and labels, on any device.
"""

from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pchmr.body import BodyModel
from pchmr.data.synthetic.activities import ACTIVITIES, finish
from pchmr.data.synthetic.contact import Planter, Stance, stance_of
from pchmr.data.synthetic.garments import Dress, draw_clothes, draw_person
from pchmr.data.synthetic.kinematics import contact_points, forward_kinematics
from pchmr.data.synthetic.poses import SIDES, Angles, Draw, compose, mirror
from pchmr.data.synthetic.recipe import FRAMES_PER_SECOND, Rows, SyntheticRecipe, first_ids
from pchmr.data.synthetic.scenes import Scene, Shot, draw_scene, draw_shot
from pchmr.data.synthetic.settings import Setting, draw_setting
from pchmr.data.synthetic.subjects import (
    Outfit,
    Subject,
    Surface,
    Wardrobe,
    draw_headset_subject,
    draw_outfit,
    draw_subject,
)
from pchmr.data.synthetic.tailor import Tailor

NUM_LATENTS = 80
CARRYING_PARTS = ("pelvis", "hip", "knee", "ankle", "foot")


@dataclass(frozen=True)
class Motion:
    """A clip's random functions of time; see `Draw`."""

    constant: Float[np.ndarray, " latents"]
    frequency: Float[np.ndarray, "2 latents"]
    start: Float[np.ndarray, "2 latents"]
    rate: float
    mirrored: bool

    def drift(self, seconds: float) -> Float[np.ndarray, " latents"]:
        """Unit-variance latents at a time."""
        return np.sin(2 * np.pi * (self.frequency * seconds + self.start)).sum(axis=0)

    def phase(self, seconds: float) -> float:
        """Of the activity's cycle, radians."""
        return 2 * np.pi * (self.rate * seconds + self.start[0, 0])


@dataclass(frozen=True, kw_only=True)
class Posed:
    """Bodies in their own frame, feet on y = 0.

    Attributes:
        rotmat: Local rotations, root first.
        betas: Shape.
        rise: Metres by which the skinned body was moved up.
        vertices: Dressed surface.
        angles: Joint angles in degrees, as shown.
        stance: What carries each body, before mirroring.
        mirrored: Rows in which left and right were swapped.
        surfaces: What each body wears.
    """

    rotmat: Float[np.ndarray, "batch 24 3 3"]
    betas: Float[np.ndarray, "batch betas"]
    rise: Float[np.ndarray, " batch"]
    vertices: Float[Tensor, "batch vertices 3"]
    angles: Angles
    stance: Stance
    mirrored: Bool[np.ndarray, " batch"]
    surfaces: list[Surface | Dress]


class World:
    """Everything that rows of one recipe share, drawn when first asked for."""

    def __init__(self, recipe: SyntheticRecipe, body: BodyModel) -> None:
        on_cpu = body.v_template.device.type == "cpu"
        self.body = body if on_cpu else deepcopy(body).cpu()
        self.recipe, self.spec = recipe, recipe.spec
        self.wardrobe = Wardrobe(body)
        self.tailor = Tailor(self.wardrobe)
        self.points = contact_points(body)
        part = np.char.rpartition(self.wardrobe.part, "_")[:, 2]
        self.carries = torch.from_numpy(np.isin(part, CARRYING_PARTS))
        self.hips = np.isin(part, ("pelvis", "hip")) & (self.wardrobe.along_leg < 0.3)
        self.shins = np.isin(part, ("knee", "ankle", "foot")) & (self.wardrobe.along_leg > 0.6)
        left, right = (
            np.isin(self.wardrobe.part, (f"{side}_ankle", f"{side}_foot")) for side in SIDES
        )
        self.feet = (left, right)
        self.body_on = lru_cache(maxsize=None)(self._body_on)
        self.subject = lru_cache(maxsize=None)(self._subject)
        self.scene = lru_cache(maxsize=None)(self._scene)
        self.surface = lru_cache(maxsize=64)(self._surface)
        self.setting = lru_cache(maxsize=None)(self._setting)
        self.dressed = lru_cache(maxsize=64)(self._dress)
        self.motion = lru_cache(maxsize=1024)(self._motion)
        self.shot = lru_cache(maxsize=1024)(self._shot)

    def _body_on(self, device: str) -> BodyModel:
        """The body on a device; labels are always made from the one on the CPU."""
        return self.body if device == "cpu" else deepcopy(self.body).to(device)

    def _subject(self, subject: int) -> Subject:
        rng = self.recipe.generator("subject", subject)
        if self.spec.headsets:
            rank = subject - first_ids(self.recipe)[0]
            return draw_headset_subject(rng, rank)
        return draw_subject(rng)

    def _outfit(self, subject: int, scene: int) -> Outfit:
        return draw_outfit(self.recipe.generator("outfit", subject, scene), self.spec.palette)

    def _scene(self, scene: int) -> Scene:
        return draw_scene(self.recipe.generator("scene", scene), self.spec)

    def _surface(self, subject: int, scene: int) -> Surface:
        return self.wardrobe.dress(self.subject(subject), self._outfit(subject, scene))

    def _setting(self, scene: int) -> Setting:
        return draw_setting(self.recipe.generator("setting", scene), self.spec, self.scene(scene))

    def _dress(self, subject: int, scene: int) -> Dress:
        person = draw_person(self.subject(subject), self.recipe.generator("looks", subject))
        clothes = draw_clothes(self.recipe.generator("clothes", subject, scene), self.spec.palette)
        return self.tailor.dress(person, clothes)

    def _shot(self, clip: int, scene: int) -> Shot:
        return draw_shot(self.recipe.generator("shot", clip), self.spec, self.scene(scene))

    def _motion(self, clip: int, action: str) -> Motion:
        rng = self.recipe.generator("motion", clip)
        shape = (2, NUM_LATENTS)
        return Motion(
            constant=rng.standard_normal(NUM_LATENTS),
            frequency=rng.uniform(0.04, 0.35, shape),
            start=rng.random(shape),
            rate=float(rng.uniform(*ACTIVITIES[action].rate)),
            mirrored=bool(rng.random() < 0.5),
        )

    def pose(self, rows: Rows, device: torch.device | str = "cpu") -> Posed:
        """Bodies of the rows, dressed and on the ground."""
        subjects, scenes = rows.subject.tolist(), rows.scene.tolist()
        betas = np.stack([self.subject(s).betas for s in subjects])
        dressed = self.surface if self.recipe.version == 1 else self.dressed
        surfaces = [dressed(s, c) for s, c in zip(subjects, scenes, strict=True)]
        offsets = np.stack([s.offsets for s in surfaces])
        angles = self._angles(rows)
        steps = np.array(
            [self.shot(*at).step for at in zip(rows.clip.tolist(), scenes, strict=True)]
        )
        stance = stance_of(rows.action, angles, steps)
        Planter(self.points, betas, offsets[:, self.points.vertex]).plant(angles, stance)
        mirrored = np.array([m.mirrored for m in self._motions(rows)])
        mirror(angles, mirrored)
        rotmat = compose(angles)
        vertices = self.skin(rotmat, betas, offsets, device)
        rise = -vertices[:, self.carries.to(device), 1].amin(dim=1)
        vertices[..., 1] += rise[:, None]
        return Posed(
            rotmat=rotmat,
            betas=betas,
            rise=rise.double().cpu().numpy(),
            vertices=vertices,
            angles=angles,
            stance=stance,
            mirrored=mirrored,
            surfaces=surfaces,
        )

    def _motions(self, rows: Rows) -> list[Motion]:
        return [
            self.motion(c, a) for c, a in zip(rows.clip.tolist(), rows.action.tolist(), strict=True)
        ]

    def _angles(self, rows: Rows) -> Angles:
        """Templates of all activities, put back into the order of the rows."""
        motions, seconds = self._motions(rows), (rows.frame / FRAMES_PER_SECOND).tolist()
        constant = np.stack([m.constant for m in motions])
        drift = np.stack([m.drift(t) for m, t in zip(motions, seconds, strict=True)])
        phase = np.array([m.phase(t) for m, t in zip(motions, seconds, strict=True)])
        merged: Angles = {}
        for action in np.unique(rows.action):
            at = np.flatnonzero(rows.action == action)
            draw = Draw(constant[at], drift[at])
            for name, value in finish(str(action), draw, phase[at], self.spec.noise_scale).items():
                merged.setdefault(name, np.zeros((len(rows), *value.shape[1:])))[at] = value
        return merged

    def skin(
        self, rotmat: np.ndarray, betas: np.ndarray, offsets: np.ndarray, device: torch.device | str
    ) -> Tensor:
        """Dressed vertices; offsets turn with the skin below them."""
        body = self.body_on(str(device))
        rest = self.points.rest_joints(betas)
        world, _ = forward_kinematics(rotmat, rest, self.points.parents)
        local, shape, cloth, turns = (
            torch.from_numpy(value).float().to(device) for value in (rotmat, betas, offsets, world)
        )
        with torch.no_grad():
            skin = body(local[:, 0], local[:, 1:], shape).vertices
            blended = body.weights @ turns.flatten(start_dim=2)
            return skin + (blended.unflatten(-1, (3, 3)) @ cloth[..., None])[..., 0]
