"""Dresses a body in the clothes of world 2: layers with sharp borders, folds and hair.

A layer is a signed field on the template, positive where it is worn; fields are interpolated to
each pixel, so a hem is a line and not a row of triangles. Later layers cover earlier ones. Labels
stay those of the naked body; only the rendered surface is moved.
"""

import numpy as np
import torch

from pchmr.data.synthetic.cloth import Layers
from pchmr.data.synthetic.garments import LAYERS, Cloth, Clothes, Dress, Person
from pchmr.data.synthetic.subjects import Wardrobe

NEVER = -1.0
EASE = 0.012  # metres over which a layer rises from the skin


class Tailor:
    """Dresses one body in the clothes of world 2; knows where things lie on its template."""

    def __init__(self, wardrobe: Wardrobe) -> None:
        self.wardrobe = wardrobe
        self.size, self.joint = wardrobe.size, wardrobe.joint
        x, self.height, self.forward = wardrobe.template.T
        self.aside = np.abs(x)
        head = wardrobe.template[wardrobe.on_head]
        self.nose = head[head[:, 2].argmax()] if len(head) else self.joint["head"]
        self.at_nose = (wardrobe.template - self.nose) / self.size
        middle = head.mean(axis=0) if len(head) else self.joint["head"]
        self.at_head = (wardrobe.template - middle) / self.size
        self.arm = float(abs(self.joint["left_wrist"][0] - self.joint["left_shoulder"][0]))
        self.leg = float(self.joint["left_hip"][1] - self.joint["left_ankle"][1])

    def dress(self, person: Person, clothes: Clothes) -> Dress:
        """The dressed template of a person."""
        jacket = clothes.jacket
        fields = {
            "trousers": self._trousers(clothes),
            "shirt": self._top(clothes.sleeve, clothes.hem, clothes.neckline),
            "jacket": self._jacket(clothes) if jacket else self._never(),
            "shoes": self._shoes(clothes),
            "sole": self._sole(),
            "hair": self._hair(person),
            "strap": self._strap() if person.headset else self._never(),
            "headset": self._headset() if person.headset else self._never(),
        }
        rise = {
            "trousers": clothes.leg_offset
            + clothes.flare * np.clip(self.wardrobe.along_leg - 0.3, 0, 0.7),
            "shirt": np.full(len(self.height), clothes.shirt_offset) + self._drape(),
            "jacket": np.full(len(self.height), clothes.shirt_offset + 0.014) + self._drape(),
            "shoes": np.full(len(self.height), 0.007),
            "sole": np.full(len(self.height), 0.01),
            "hair": self._hair_height(person),
            "strap": np.full(len(self.height), 0.012),
            "headset": np.zeros(len(self.height)),
        }
        offsets = np.zeros_like(self.wardrobe.template)
        for name in LAYERS:
            on = np.clip(fields[name] / EASE, 0, 1)[:, None]
            moved = self.wardrobe.normals * rise[name][:, None]
            if name == "headset":
                moved = self._box_offsets()
            offsets = offsets + on * (moved - offsets)
        dark = Cloth(color=np.full(3, 0.05), second=np.zeros(3))
        looks = (
            clothes.trousers,
            clothes.shirt,
            jacket or dark,
            clothes.shoes,
            _sole_of(clothes.shoes),
        )
        helmet = person.headset or dark
        coats = (person.skin, *looks, person.hair, dark, helmet)
        features = np.stack([person.brow, person.lips, person.iris])
        stacked = np.stack([fields[name] for name in LAYERS], axis=-1)
        return Dress(offsets=offsets, fields=stacked, coats=coats, features=features)

    def _never(self) -> np.ndarray:
        return np.full(len(self.height), NEVER)

    def _trousers(self, clothes: Clothes) -> np.ndarray:
        waist = self.joint["spine1"][1] - 0.01 * self.size
        return np.minimum(waist - self.height, (clothes.leg - self.wardrobe.along_leg) * self.leg)

    def _top(self, sleeve: float, hem: float, neckline: float) -> np.ndarray:
        low = self.joint["pelvis"][1] + hem * self.size
        front = np.clip(self.forward / self.size, 0, 0.1)
        collar = self.joint["neck"][1] + (0.035 - neckline * 10 * front) * self.size
        collar = collar + 0.2 * np.clip(self.aside - 0.05 * self.size, 0, 0.03)
        reach = (sleeve - self.wardrobe.along_arm) * self.arm
        return np.minimum(np.minimum(self.height - low, collar - self.height), reach)

    def _jacket(self, clothes: Clothes) -> np.ndarray:
        whole = self._top(0.97, clothes.hem - 0.03, 0.0)
        open_front = np.where(self.forward > 0, self.aside - clothes.opening * self.size, 1.0)
        return np.minimum(whole, open_front)

    def _drape(self) -> np.ndarray:
        """A loose top hangs off the belly and below the arms."""
        low, high = self.joint["pelvis"][1], self.joint["spine3"][1]
        share = np.clip((high - self.height) / (high - low), 0, 1)
        return 0.012 * share

    def _shoes(self, clothes: Clothes) -> np.ndarray:
        ankle = self.joint["left_ankle"][1]
        return ankle - 0.005 * self.size + clothes.boot * self.leg - self.height

    def _sole(self) -> np.ndarray:
        return self.height.min() + 0.02 * self.size - self.height

    def _hair(self, person: Person) -> np.ndarray:
        if person.style == "bald":
            return self._never()
        at = self.at_head
        ragged = 0.006 * np.sin(180 * at[:, 0]) * np.sin(130 * at[:, 2] + 1)
        line = 0.05 + 0.9 * np.clip(at[:, 2], -0.06, 0.08) + ragged
        line = np.where(at[:, 2] < 0, np.minimum(line, 0.0 + 0.6 * at[:, 2] + ragged), line)
        if person.style in ("full", "long"):
            line = line - 0.045 * np.clip((np.abs(at[:, 0]) - 0.05) / 0.02, 0, 1)
        field = np.where(self.wardrobe.on_head | self.wardrobe.on_neck, at[:, 1] - line, NEVER)
        if person.style == "long":
            back = np.minimum(-at[:, 2] + 0.01, 0.12 - np.abs(at[:, 0]))
            back = np.where(self.wardrobe.on_arm, NEVER, np.minimum(back, at[:, 1] + 0.26))
            field = np.maximum(field, np.where(self.wardrobe.normals[:, 2] < 0.3, back, NEVER))
        return np.clip(field * self.size, NEVER, 1.0)

    def _hair_height(self, person: Person) -> np.ndarray:
        at = self.at_head
        rough = 1 + 0.35 * np.sin(95 * at[:, 0] + 1) * np.sin(80 * at[:, 1]) * np.sin(70 * at[:, 2])
        height = person.hair_height * rough
        if person.style == "long":
            height = height + 0.03 * np.clip(-at[:, 1] * 5, 0, 1)
        if person.style == "bun":
            spot = np.array([0.0, 0.1, -0.085])
            height = height + 0.06 * np.exp(-((at - spot) ** 2).sum(axis=1) / (2 * 0.028**2))
        return height

    def _strap(self) -> np.ndarray:
        band = 0.02 - np.abs(self.at_nose[:, 1] - 0.045)
        return np.where(self.wardrobe.on_head, band * self.size, NEVER)

    def _headset(self) -> np.ndarray:
        at = self.at_nose
        box = np.minimum(0.045 - np.abs(at[:, 1] - 0.038), at[:, 2] + 0.09)
        box = np.minimum(box, self.wardrobe.normals[:, 2] - 0.1)
        return np.where(self.wardrobe.on_head, box * self.size, NEVER)

    def _box_offsets(self) -> np.ndarray:
        at = self.at_nose
        aside, ahead = 0.25 * self.size * at[:, 0], self.size * (0.06 - at[:, 2])
        return np.stack([aside, np.zeros_like(aside), ahead], axis=-1)


def _sole_of(shoes: Cloth) -> Cloth:
    pale = shoes.color.mean() < 0.2
    return Cloth(color=np.full(3, 0.5 if pale else 0.08), second=np.zeros(3))


def layers_of(tailor: Tailor, dresses: list[Dress]) -> Layers:
    """The clothes of a batch, as the renderer takes them."""

    def table(name: str) -> torch.Tensor:
        values = np.array([[getattr(coat, name) for coat in dress.coats] for dress in dresses])
        tensor = torch.from_numpy(values)
        return tensor.float() if tensor.is_floating_point() else tensor

    return Layers(
        fields=torch.from_numpy(np.stack([d.fields for d in dresses])).float(),
        color=table("color"),
        second=table("second"),
        kind=table("kind"),
        scale=table("scale"),
        fold=table("fold"),
        weave=table("weave"),
        features=torch.from_numpy(np.stack([d.features for d in dresses])).float(),
        nose=torch.from_numpy(tailor.nose).float(),
        size=torch.tensor(tailor.size),
    )
