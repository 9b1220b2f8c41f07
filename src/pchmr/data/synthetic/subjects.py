"""Who is seen: shape, skin, hair, and clothes as colored shells a few millimetres off the skin.

Regions are cut from the template's coordinates and skinning weights, so any SMPL-format body can be
dressed. Labels stay those of the naked body; only the rendered surface is moved.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pchmr.body import BodyModel
from pchmr.body.joints import SMPL_24
from pchmr.body.skinning import NUM_BETAS
from pchmr.data.synthetic.patterns import PATTERNS

MAX_BETA = 2.2
SKIN_TONES = np.array(
    [
        [0.93, 0.77, 0.67],
        [0.87, 0.68, 0.55],
        [0.77, 0.57, 0.42],
        [0.62, 0.43, 0.30],
        [0.46, 0.30, 0.20],
        [0.31, 0.20, 0.14],
    ]
)
HAIR_COLORS = np.array(
    [
        [0.07, 0.06, 0.05],
        [0.20, 0.13, 0.08],
        [0.38, 0.25, 0.14],
        [0.72, 0.56, 0.33],
        [0.55, 0.27, 0.13],
        [0.62, 0.61, 0.60],
    ]
)
HAIR_STYLES = ("bald", "short", "full", "long", "bun")
CLOTH_PATTERNS = ("rows", "columns", "checker", "noise", "dots")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One person: what stays when the clothes change."""

    betas: Float[np.ndarray, " betas"]
    skin: Float[np.ndarray, "3"]
    hair: Float[np.ndarray, "3"]
    hair_style: str
    hair_height: float
    headset: Float[np.ndarray, "3"] | None = None


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """What a person wears in one scene; lengths are shares of arm and leg, offsets metres."""

    shirt: Float[np.ndarray, "3"]
    shirt_second: Float[np.ndarray, "3"]
    shirt_pattern: int
    shirt_scale: float
    shirt_offset: float
    sleeve: float
    waist: float
    trousers: Float[np.ndarray, "3"]
    trousers_second: Float[np.ndarray, "3"]
    trousers_pattern: int
    trousers_offset: float
    leg: float
    flare: float
    shoes: Float[np.ndarray, "3"]
    sole: float
    boot: float


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The dressed template: offsets in metres and colors per vertex."""

    offsets: Float[np.ndarray, "vertices 3"]
    colors: Float[np.ndarray, "vertices 3"]
    pattern_kind: np.ndarray
    pattern_scale: np.ndarray
    pattern_color: Float[np.ndarray, "vertices 3"]


def draw_subject(rng: np.random.Generator) -> Subject:
    """A person at random."""
    betas = np.clip(rng.standard_normal(NUM_BETAS), -MAX_BETA, MAX_BETA)
    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    low = int(tone)
    skin = SKIN_TONES[low] + (tone - low) * (SKIN_TONES[min(low + 1, 5)] - SKIN_TONES[low])
    return Subject(
        betas=betas,
        skin=np.clip(skin * rng.uniform(0.93, 1.07, 3), 0, 1),
        hair=np.clip(HAIR_COLORS[rng.integers(len(HAIR_COLORS))] * rng.uniform(0.8, 1.2), 0, 1),
        hair_style=HAIR_STYLES[rng.choice(len(HAIR_STYLES), p=(0.1, 0.3, 0.25, 0.2, 0.15))],
        hair_height=float(rng.uniform(0.008, 0.028)),
    )


def draw_headset_subject(rng: np.random.Generator, rank: int) -> Subject:
    """A headset wearer; four in a row differ clearly in size, build and skin."""
    subject, rank = draw_subject(rng), rank % 4
    betas = 0.4 * subject.betas
    betas[:2] += np.array([(-1.3, 0.9), (1.3, 1.1), (-0.4, -1.3), (0.9, -0.9)][rank])
    shade = np.array([0.06, 0.85, 0.25, 0.5][rank]) * np.ones(3)
    return Subject(
        betas=np.clip(betas, -MAX_BETA, MAX_BETA),
        skin=SKIN_TONES[(1, 4, 2, 0)[rank]] * rng.uniform(0.95, 1.05),
        hair=subject.hair,
        hair_style=("short", "bun", "long", "full")[rank],
        hair_height=subject.hair_height,
        headset=shade,
    )


def draw_outfit(rng: np.random.Generator, palette: str) -> Outfit:
    """Clothes at random; the palettes differ in saturation, lightness and pattern."""
    patterned = {"mixed": 0.45, "vivid": 0.75, "sober": 0.2}[palette]
    return Outfit(
        shirt=draw_color(rng, palette),
        shirt_second=draw_color(rng, palette),
        shirt_pattern=_pattern(rng, patterned),
        shirt_scale=float(rng.uniform(0.05, 0.16)),
        shirt_offset=float(rng.uniform(0.006, 0.022)),
        sleeve=float(rng.choice([rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.6), 0.97])),
        waist=float(rng.uniform(0.15, 0.85)),
        trousers=draw_color(rng, "sober" if rng.random() < 0.5 else palette),
        trousers_second=draw_color(rng, palette),
        trousers_pattern=_pattern(rng, 0.4 * patterned),
        trousers_offset=float(rng.uniform(0.005, 0.018)),
        leg=float(rng.choice([rng.uniform(0.2, 0.5), rng.uniform(0.6, 0.8), 0.96, 0.96])),
        flare=float(rng.uniform(0.0, 0.02)),
        shoes=draw_color(rng, "sober" if rng.random() < 0.6 else palette),
        sole=float(rng.uniform(0.012, 0.03)),
        boot=float(rng.choice([0.0, 0.0, 0.0, rng.uniform(0.1, 0.35)])),
    )


def draw_color(rng: np.random.Generator, palette: str) -> Float[np.ndarray, "3"]:
    """RGB reflectance: `mixed` spans everything, `vivid` is saturated, `sober` dark or gray."""
    saturation, value = {
        "mixed": (rng.uniform(0, 0.8), rng.uniform(0.12, 0.95)),
        "vivid": (rng.uniform(0.6, 1.0), rng.uniform(0.35, 0.95)),
        "sober": (rng.uniform(0, 0.35), rng.uniform(0.08, 0.6)),
    }[palette]
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value))


def _pattern(rng: np.random.Generator, probability: float) -> int:
    name = CLOTH_PATTERNS[rng.integers(len(CLOTH_PATTERNS))]
    return PATTERNS[name] if rng.random() < probability else PATTERNS["plain"]


class Wardrobe:
    """Dresses one body: knows its regions, normals and landmarks; computed once."""

    def __init__(self, body: BodyModel) -> None:
        self.template = body.v_template.detach().cpu().double().numpy()
        self.normals = _vertex_normals(self.template, body.faces.cpu().numpy())
        joints = body.J_regressor.detach().cpu().double().numpy() @ self.template
        self.joint = {name: joints[i] for i, name in enumerate(SMPL_24.names)}
        strongest = body.weights.detach().cpu().numpy().argmax(axis=1)
        self.part = np.array(SMPL_24.names)[strongest]
        self.size = float(self.joint["head"][1] - self.joint["left_ankle"][1]) / 1.46
        self.along_arm = self._share(0, "left_shoulder", "left_wrist")
        self.along_leg = self._share(1, "left_hip", "left_ankle")
        self.on_arm = self._on("shoulder", "elbow", "wrist", "hand")
        self.on_leg = self._on("hip", "knee", "ankle", "foot") & (self.along_leg > 0)
        self.on_foot = self._on("ankle", "foot")
        self.on_head = self._on("head")
        self.on_neck = self._on("neck")

    def dress(self, subject: Subject, outfit: Outfit) -> Surface:
        """The surface of a person in an outfit; later layers cover earlier ones."""
        count = len(self.template)
        surface = Surface(
            offsets=np.zeros((count, 3)),
            colors=np.tile(subject.skin, (count, 1)),
            pattern_kind=np.zeros(count, dtype=np.int64),
            pattern_scale=np.full(count, outfit.shirt_scale),
            pattern_color=np.zeros((count, 3)),
        )
        self._face(surface, subject)
        self._trousers(surface, outfit)
        self._shirt(surface, outfit)
        self._shoes(surface, outfit)
        self._hair(surface, subject)
        if subject.headset is not None:
            self._headset(surface, subject.headset)
        return surface

    def _share(self, axis: int, start: str, end: str) -> np.ndarray:
        """Position of each vertex along an axis, 0 at one joint and 1 at another."""
        first, last = self.joint[start][axis], self.joint[end][axis]
        value = np.abs(self.template[:, 0]) if axis == 0 else self.template[:, axis]
        return (value - first) / (last - first)

    def _on(self, *parts: str) -> np.ndarray:
        names = [f"{side}{part}" for part in parts for side in ("left_", "right_", "")]
        return np.isin(self.part, names)

    def _paint(
        self, surface: Surface, rows: np.ndarray, color: np.ndarray, offset: np.ndarray | float
    ) -> None:
        surface.colors[rows] = color
        surface.pattern_kind[rows] = 0
        surface.offsets[rows] = (self.normals * np.broadcast_to(offset, len(rows))[:, None])[rows]

    def _shirt(self, surface: Surface, outfit: Outfit) -> None:
        low, high = self.joint["pelvis"][1], self.joint["spine2"][1]
        hem = low + outfit.waist * 0.7 * (high - low) - 0.06 * self.size
        torso = ~self.on_arm & ~self.on_head & ~self.on_leg & (self.template[:, 1] > hem)
        collar = self.joint["neck"][1] + 0.01 * self.size - 0.5 * np.clip(self.template[:, 2], 0, 1)
        rows = (torso & (self.template[:, 1] < collar)) | (
            self.on_arm & (self.along_arm < outfit.sleeve)
        )
        self._paint(surface, rows, outfit.shirt, outfit.shirt_offset)
        surface.pattern_kind[rows] = outfit.shirt_pattern
        surface.pattern_color[rows] = outfit.shirt_second

    def _trousers(self, surface: Surface, outfit: Outfit) -> None:
        waist = self.joint["spine1"][1] + 0.02 * self.size
        torso = ~self.on_arm & ~self.on_leg & (self.template[:, 1] < waist)
        rows = torso | (self.on_leg & (self.along_leg < outfit.leg))
        offset = outfit.trousers_offset + outfit.flare * np.clip(self.along_leg - 0.3, 0, 0.7)
        self._paint(surface, rows, outfit.trousers, offset)
        surface.pattern_kind[rows] = outfit.trousers_pattern
        surface.pattern_color[rows] = outfit.trousers_second

    def _shoes(self, surface: Surface, outfit: Outfit) -> None:
        rows = self.on_foot & (self.along_leg > 0.97)
        rows |= self.on_leg & (self.along_leg > 1 - outfit.boot)
        self._paint(surface, rows, outfit.shoes, 0.007)
        under = rows & (self.normals[:, 1] < -0.35)
        surface.offsets[under, 1] -= outfit.sole
        edge = rows & (self.template[:, 1] < self.template[:, 1].min() + 0.012 * self.size)
        surface.colors[edge] = 0.6 * outfit.shoes + 0.3

    def _face(self, surface: Surface, subject: Subject) -> None:
        """Eyes, brows and mouth as shades, so that front and back of a head differ."""
        if not self.on_head.any():
            return
        head = self.template[self.on_head]
        nose = head[head[:, 2].argmax()]
        at = (self.template - nose) / self.size
        front = self.on_head & (self.normals[:, 2] > 0.2)
        aside = np.abs(np.abs(at[:, 0]) - 0.033)
        eyes = front & (aside < 0.016) & (np.abs(at[:, 1] - 0.035) < 0.011)
        brows = front & (aside < 0.024) & (np.abs(at[:, 1] - 0.056) < 0.01)
        mouth = front & (np.abs(at[:, 0]) < 0.026) & (np.abs(at[:, 1] + 0.042) < 0.011)
        surface.colors[brows] = 0.4 * subject.skin + 0.5 * subject.hair
        surface.colors[eyes] = 0.15
        surface.colors[mouth] = subject.skin * np.array([0.85, 0.55, 0.55])

    def _hair(self, surface: Surface, subject: Subject) -> None:
        if subject.hair_style == "bald" or not self.on_head.any():
            return
        at = (self.template - self.template[self.on_head].mean(axis=0)) / self.size
        hairline = 0.045 + 0.9 * np.clip(at[:, 2], -0.06, 0.08)
        if subject.hair_style in ("full", "long"):
            hairline = hairline - 0.07 * (np.abs(at[:, 0]) > 0.055) - 0.05 * (at[:, 2] < 0)
        rows = self.on_head & (at[:, 1] > hairline)
        height = np.full(len(rows), subject.hair_height)
        if subject.hair_style == "long":
            back = (at[:, 2] < 0.0) & (np.abs(at[:, 0]) < 0.11) & (at[:, 1] > -0.26)
            rows |= back & ~self.on_arm & (self.normals[:, 2] < 0.35)
            height = height + 0.03 * np.clip(-at[:, 1] * 5, 0, 1)
        if subject.hair_style == "bun":
            spot = np.array([0.0, 0.1, -0.085])
            height = height + 0.06 * np.exp(-((at - spot) ** 2).sum(axis=1) / (2 * 0.028**2))
        self._paint(surface, rows, subject.hair, height)

    def _headset(self, surface: Surface, color: np.ndarray) -> None:
        """A box before the eyes and a strap around the head."""
        head = self.template[self.on_head]
        nose = head[head[:, 2].argmax()] if len(head) else self.joint["head"]
        at = (self.template - nose) / self.size
        strap = self.on_head & (np.abs(at[:, 1] - 0.045) < 0.02)
        self._paint(surface, strap, 0.5 * color, 0.012)
        box = self.on_head & (np.abs(at[:, 1] - 0.038) < 0.045) & (at[:, 2] > -0.09)
        box &= self.normals[:, 2] > 0.1
        self._paint(surface, box, color, 0.0)
        surface.offsets[box, 0] = 0.25 * self.size * at[box, 0]
        surface.offsets[box, 2] = self.size * (0.06 - at[box, 2])


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], across)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
