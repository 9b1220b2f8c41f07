"""What people of world 2 wear: layers with sharp borders, folds and hair over one body.

A layer is a signed field on the template, positive where it is worn; fields are interpolated to
each pixel, so a hem is a line and not a row of triangles. Later layers cover earlier ones. Labels
stay those of the naked body; only the rendered surface is moved.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pchmr.data.synthetic.cloth import Layers
from pchmr.data.synthetic.patterns import PATTERNS
from pchmr.data.synthetic.subjects import Subject, Wardrobe

LAYERS = ("trousers", "shirt", "jacket", "shoes", "sole", "hair", "strap", "headset")
NUM_COATS = len(LAYERS) + 1  # skin first
NEVER = -1.0
EASE = 0.012  # metres over which a layer rises from the skin

DYES = {
    "white": (0.80, 0.80, 0.78),
    "light gray": (0.55, 0.55, 0.56),
    "gray": (0.28, 0.28, 0.29),
    "charcoal": (0.09, 0.09, 0.10),
    "black": (0.035, 0.035, 0.04),
    "navy": (0.04, 0.06, 0.15),
    "denim": (0.12, 0.20, 0.36),
    "light denim": (0.30, 0.40, 0.55),
    "khaki": (0.42, 0.33, 0.20),
    "olive": (0.16, 0.17, 0.08),
    "brown": (0.18, 0.10, 0.06),
    "beige": (0.60, 0.51, 0.40),
    "burgundy": (0.22, 0.03, 0.05),
    "red": (0.48, 0.05, 0.05),
    "pink": (0.66, 0.36, 0.40),
    "orange": (0.60, 0.22, 0.05),
    "mustard": (0.52, 0.36, 0.07),
    "green": (0.07, 0.25, 0.10),
    "teal": (0.06, 0.28, 0.30),
    "light blue": (0.36, 0.50, 0.68),
    "royal blue": (0.07, 0.13, 0.50),
    "purple": (0.20, 0.09, 0.32),
}
"""Linear reflectances of common cloth; approximate, by eye."""

SOBER = ("charcoal", "black", "navy", "denim", "light denim", "khaki", "olive", "gray", "brown")
SHOES = ("white", "black", "brown", "charcoal", "light gray", "red", "navy")


@dataclass(frozen=True, kw_only=True)
class Coat:
    """How a layer looks.

    Attributes:
        color: Linear reflectance.
        second: That of the pattern.
        kind: Value of `PATTERNS`.
        scale: Period in metres.
        fold: Strength of folds: how far they tilt the normal.
        weave: Spread of the fine grain of the reflectance.
    """

    color: Float[np.ndarray, "3"]
    second: Float[np.ndarray, "3"]
    kind: int = 0
    scale: float = 0.1
    fold: float = 0.0
    weave: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Clothes:
    """What a person wears in one scene; lengths are shares of arm and leg, offsets metres."""

    trousers: Coat
    shirt: Coat
    jacket: Coat | None
    shoes: Coat
    leg: float
    leg_offset: float
    flare: float
    sleeve: float
    hem: float
    neckline: float
    shirt_offset: float
    opening: float
    boot: float


@dataclass(frozen=True, kw_only=True)
class Person:
    """What stays when the clothes change."""

    betas: Float[np.ndarray, " betas"]
    skin: Coat
    hair: Coat
    brow: Float[np.ndarray, "3"]
    lips: Float[np.ndarray, "3"]
    iris: Float[np.ndarray, "3"]
    style: str
    hair_height: float
    headset: Coat | None


@dataclass(frozen=True, kw_only=True)
class Dress:
    """A dressed template.

    Attributes:
        offsets: Metres from the skin.
        fields: Of `LAYERS`, metres; positive where worn.
        coats: Skin first, then the layers.
        features: Linear reflectance of brows, lips and irises.
    """

    offsets: Float[np.ndarray, "vertices 3"]
    fields: Float[np.ndarray, "vertices layers"]
    coats: tuple[Coat, ...]
    features: Float[np.ndarray, "3 3"]


def linear(color: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Reflectance of a color as a screen shows it."""
    return np.clip(color, 0, 1) ** 2.2


def draw_person(subject: Subject, rng: np.random.Generator) -> Person:
    """The looks of a subject of either world."""
    skin = linear(subject.skin)
    hair = linear(subject.hair)
    plain = {"second": np.zeros(3)}
    headset = None
    if subject.headset is not None:
        shade = linear(subject.headset)
        headset = Coat(color=0.03 + 0.8 * shade, **plain, weave=0.02)
    return Person(
        betas=subject.betas,
        skin=Coat(color=skin, second=skin * np.array([1.0, 0.78, 0.72]), weave=0.05),
        hair=Coat(color=hair, second=0.45 * hair, kind=PATTERNS["noise"], scale=0.02, fold=0.5,
                  weave=0.25),
        brow=0.3 * skin + 0.6 * hair,
        lips=skin * np.array([0.85, 0.45, 0.45]),
        iris=np.array([(0.03, 0.02, 0.01), (0.08, 0.05, 0.02), (0.06, 0.10, 0.14)][rng.integers(3)]),
        style=subject.hair_style,
        hair_height=subject.hair_height + 0.006,
        headset=headset,
    )  # fmt: skip


def draw_clothes(rng: np.random.Generator, palette: str) -> Clothes:
    """Clothes at random; `vivid` has more color and pattern than `mixed`."""
    patterned = {"mixed": 0.22, "vivid": 0.4, "sober": 0.1}[palette]
    jacket = None
    if rng.random() < 0.28:
        jacket = _cloth(rng, _dye(rng, palette), 0.1, rng.uniform(0.25, 0.5))
    sleeve = float(rng.choice([rng.uniform(0.12, 0.3), rng.uniform(0.3, 0.55), 0.96, 0.96]))
    return Clothes(
        trousers=_cloth(rng, _trousers_dye(rng, palette), 0.3 * patterned, rng.uniform(0.2, 0.45)),
        shirt=_cloth(rng, _dye(rng, palette), patterned, rng.uniform(0.25, 0.55)),
        jacket=jacket,
        shoes=_cloth(rng, DYES[SHOES[rng.integers(len(SHOES))]], 0.0, 0.1),
        leg=float(rng.choice([rng.uniform(0.3, 0.5), rng.uniform(0.75, 0.9), 0.97, 0.97, 0.97])),
        leg_offset=float(rng.uniform(0.006, 0.02)),
        flare=float(rng.uniform(0.0, 0.03)),
        sleeve=sleeve,
        hem=float(rng.uniform(-0.08, 0.1)),
        neckline=float(rng.uniform(0.0, 0.07)),
        shirt_offset=float(rng.uniform(0.008, 0.026)),
        opening=float(rng.uniform(0.02, 0.09)),
        boot=float(rng.choice([0.0, 0.0, 0.0, rng.uniform(0.04, 0.2)])),
    )


def _dye(rng: np.random.Generator, palette: str) -> Float[np.ndarray, "3"]:
    """A color of cloth; one in five of `vivid` is a bright color of its own."""
    if palette == "vivid" and rng.random() < 0.2:
        return linear(np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.5, 0.85), 0.8)))
    names = list(DYES)
    return np.array(DYES[names[rng.integers(len(names))]]) * rng.uniform(0.85, 1.15, 3)


def _trousers_dye(rng: np.random.Generator, palette: str) -> Float[np.ndarray, "3"]:
    if rng.random() < 0.75:
        return np.array(DYES[SOBER[rng.integers(len(SOBER))]]) * rng.uniform(0.85, 1.15, 3)
    return _dye(rng, palette)


def _cloth(rng: np.random.Generator, dye: object, patterned: float, fold: float) -> Coat:
    color = np.clip(np.asarray(dye, dtype=float), 0.02, 0.85)
    other = _dye(rng, "mixed")
    name = ("rows", "columns", "checker", "dots", "noise")[rng.integers(5)]
    kind = PATTERNS[name] if rng.random() < patterned else 0
    scale = float(rng.uniform(0.03, 0.12))
    return Coat(
        color=color,
        second=np.clip(0.35 * color + 0.65 * other, 0.02, 0.85),
        kind=kind,
        scale=scale,
        fold=float(fold),
        weave=0.07,
    )


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
        dark = Coat(color=np.full(3, 0.05), second=np.zeros(3))
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
        line = 0.042 + 0.9 * np.clip(at[:, 2], -0.06, 0.08) + ragged
        line = np.where(at[:, 2] < 0, np.minimum(line, 0.0 + 0.6 * at[:, 2] + ragged), line)
        if person.style in ("full", "long"):
            line = line - 0.05 * np.clip((np.abs(at[:, 0]) - 0.045) / 0.02, 0, 1)
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


def _sole_of(shoes: Coat) -> Coat:
    pale = shoes.color.mean() < 0.2
    return Coat(color=np.full(3, 0.5 if pale else 0.08), second=np.zeros(3))


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
