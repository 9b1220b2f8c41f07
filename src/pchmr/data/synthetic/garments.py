"""What people of world 2 look like and wear, as draws; `tailor.py` puts it on a body."""

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pchmr.data.synthetic.patterns import PATTERNS
from pchmr.data.synthetic.subjects import Subject

LAYERS = ("trousers", "shirt", "jacket", "shoes", "sole", "hair", "strap", "headset")
IRISES = ((0.03, 0.02, 0.01), (0.08, 0.05, 0.02), (0.06, 0.10, 0.14))

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
class Cloth:
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

    trousers: Cloth
    shirt: Cloth
    jacket: Cloth | None
    shoes: Cloth
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
    skin: Cloth
    hair: Cloth
    brow: Float[np.ndarray, "3"]
    lips: Float[np.ndarray, "3"]
    iris: Float[np.ndarray, "3"]
    style: str
    hair_height: float
    headset: Cloth | None


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
    coats: tuple[Cloth, ...]
    features: Float[np.ndarray, "3 3"]


def linear(color: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Reflectance of a color as a screen shows it."""
    return np.clip(color, 0, 1) ** 2.2


def draw_person(subject: Subject, rng: np.random.Generator) -> Person:
    """The looks of a subject of either world."""
    skin = linear(subject.skin)
    hair = linear(subject.hair)
    headset = None
    if subject.headset is not None:
        shade = linear(subject.headset)
        headset = Cloth(color=0.03 + 0.8 * shade, second=np.zeros(3), weave=0.02)
    return Person(
        betas=subject.betas,
        skin=Cloth(color=skin, second=skin * np.array([1.0, 0.78, 0.72]), weave=0.05),
        hair=Cloth(
            color=hair, second=0.45 * hair, kind=PATTERNS["noise"], scale=0.02, fold=0.5, weave=0.25
        ),
        brow=0.3 * skin + 0.6 * hair,
        lips=skin * np.array([0.85, 0.45, 0.45]),
        iris=np.array(IRISES[rng.integers(len(IRISES))]),
        style=subject.hair_style,
        hair_height=0.6 * subject.hair_height + 0.006,
        headset=headset,
    )


def draw_clothes(rng: np.random.Generator, palette: str) -> Clothes:
    """Clothes at random; `vivid` has more color and pattern than `mixed`."""
    patterned = {"mixed": 0.22, "vivid": 0.4, "sober": 0.1}[palette]
    jacket = None
    if rng.random() < 0.28:
        jacket = _draw_cloth(rng, _dye(rng, palette), 0.1, rng.uniform(0.25, 0.5))
    sleeve = float(rng.choice([rng.uniform(0.12, 0.3), rng.uniform(0.3, 0.55), 0.96, 0.96]))
    below = _trousers_dye(rng, palette)
    return Clothes(
        trousers=_draw_cloth(rng, below, 0.3 * patterned, rng.uniform(0.2, 0.45)),
        shirt=_draw_cloth(rng, _dye(rng, palette), patterned, rng.uniform(0.25, 0.55)),
        jacket=jacket,
        shoes=_draw_cloth(rng, DYES[SHOES[rng.integers(len(SHOES))]], 0.0, 0.1),
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


def _draw_cloth(rng: np.random.Generator, dye: object, patterned: float, fold: float) -> Cloth:
    color = np.clip(np.asarray(dye, dtype=float), 0.02, 0.85)
    other = _dye(rng, "mixed")
    name = ("rows", "columns", "checker", "dots", "noise")[rng.integers(5)]
    kind = PATTERNS[name] if rng.random() < patterned else 0
    scale = float(rng.uniform(0.03, 0.12))
    return Cloth(
        color=color,
        second=np.clip(0.35 * color + 0.65 * other, 0.02, 0.85),
        kind=kind,
        scale=scale,
        fold=float(fold),
        weave=0.07,
    )
