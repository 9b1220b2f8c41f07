"""Which people there are: recipes, the three domains, and what row i of a split shows.

A row is a frame of a clip; a clip is one subject doing one thing in one scene. Row i depends on
(version, domain, split, seed, i) alone: a smaller `num_samples` is a prefix, spread evenly over
subjects, scenes and clips, and a larger one fills the clips up before it adds more.
"""

import dataclasses
import hashlib
import io
import json
import tokenize
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np
from jaxtyping import Int

from pchmr.config import Domain, require
from pchmr.recipes import derive_seed

RECIPE_VERSION = 1
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
FRAMES_PER_SECOND = 10
SPLIT_STRIDE, DOMAIN_STRIDE = 100_000, 1_000_000
SESSION_CLIPS = {"train": (0, 0, 5), "validation": (0, 5, 8), "test": (1, 0, 8)}
"""Headset domain: session, first clip and last clip (exclusive) of each split."""


@dataclass(frozen=True, kw_only=True)
class Pools:
    """How many subjects and scenes a split holds, and how they meet."""

    num_subjects: int
    num_scenes: int
    scenes_per_subject: int = 3
    clips_per_scene: int = 3
    frames: float = 40.0
    volume_spread: float = 0.6


@dataclass(frozen=True, kw_only=True)
class DomainSpec:
    """What distinguishes a domain. Angles in degrees, ranges uniform.

    Attributes:
        activities: Names in `ACTIVITIES`.
        pools: Subjects and scenes per split.
        noise_scale: Factor on the spread of joint angles.
        action_skew: Dirichlet concentration of a subject's activities in a scene; small is skewed.
        palette: Of clothes and rooms, see `draw_color`.
        fov: Field of view of the whole picture.
        pitch: Camera angle; positive looks down.
        roll: Spread of the camera about its axis.
        framing: Share of the picture's height that the person fills; with `fov` it sets distance.
        scene_camera: Whether a scene's camera stays for all its clips.
        yaw_sd: Spread of the heading about facing the camera; None is all the way round.
        indoor: Share of scenes in rooms.
        light_elevation: Of the light above the horizon.
        light_strength: Reflected share of the direct light.
        ambient: Light without direction.
        exposure: Mean brightness that the camera aims at.
        noise: Largest standard deviation of sensor noise.
        truncation: Share of crops that cut the person.
        occlusion: Share of clips with boxes in front of the person.
    """

    activities: tuple[str, ...]
    pools: dict[str, Pools]
    noise_scale: float = 1.0
    action_skew: float = 2.0
    palette: str = "mixed"
    fov: tuple[float, float]
    pitch: tuple[float, float]
    roll: float = 2.0
    framing: tuple[float, float] = (0.45, 0.9)
    scene_camera: bool = False
    yaw_sd: float | None = None
    indoor: float = 0.7
    light_elevation: tuple[float, float] = (28.0, 75.0)
    light_strength: tuple[float, float] = (0.4, 0.9)
    ambient: tuple[float, float] = (0.3, 0.6)
    exposure: tuple[float, float] = (0.28, 0.5)
    noise: float = 0.03
    truncation: float = 0.15
    occlusion: float = 0.35


DOMAINS: dict[str, DomainSpec] = {
    "A": DomainSpec(
        activities=(
            "stand", "walk", "run", "sit", "squat", "reach", "wave", "phone", "box", "bend",
            "lunge", "vr",
        ),
        pools={
            "train": Pools(num_subjects=400, num_scenes=300),
            "validation": Pools(num_subjects=40, num_scenes=40),
            "test": Pools(num_subjects=80, num_scenes=80),
        },
        action_skew=20.0,
        fov=(35, 75),
        pitch=(-8, 25),
    ),
    "B": DomainSpec(
        activities=(
            "kneel", "half_kneel", "floor_sit", "stretch", "dance", "throw", "climb", "kick",
            "swing", "bend", "sit", "lunge", "reach", "walk",
        ),
        pools={
            "train": Pools(num_subjects=150, num_scenes=60),
            "validation": Pools(num_subjects=40, num_scenes=30),
            "test": Pools(num_subjects=60, num_scenes=40),
        },
        noise_scale=1.35,
        action_skew=0.7,
        palette="vivid",
        fov=(60, 95),
        pitch=(5, 42),
        roll=5.0,
        framing=(0.5, 0.85),
        scene_camera=True,
        indoor=0.45,
        light_elevation=(14, 45),
        light_strength=(0.6, 1.05),
        ambient=(0.18, 0.4),
        exposure=(0.2, 0.38),
        noise=0.04,
    ),
    "V": DomainSpec(
        activities=("vr", "box", "reach", "squat"),
        pools=dict.fromkeys(SPLITS, Pools(num_subjects=4, num_scenes=8, frames=60.0)),
        palette="mixed",
        fov=(76, 84),
        pitch=(18, 32),
        framing=(0.6, 0.9),
        scene_camera=True,
        yaw_sd=29.0,
        indoor=1.0,
        light_elevation=(45, 75),
        ambient=(0.22, 0.3),
        noise=0.02,
        truncation=0.1,
        occlusion=0.2,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SyntheticRecipe:
    """Everything that decides a set of rendered people, apart from the body.

    Attributes:
        domain: "A" pretraining, "B" clients, "V" headset.
        split: Disjoint in subjects and scenes (V: in clips, and test in the session).
        num_samples: Rows; any number.
        image_size: Side of the crops in pixels.
        seed: Draws the people.
        version: Of the world; only the current one can be rendered.
    """

    domain: Domain = "B"
    split: Split = "train"
    num_samples: int = 2000
    image_size: int = 128
    seed: int = 0
    version: int = RECIPE_VERSION

    def __post_init__(self) -> None:
        require(self.domain in DOMAINS, f"domain {self.domain!r} must be one of {[*DOMAINS]}")
        require(self.split in SPLITS, f"split {self.split!r} must be one of {[*SPLITS]}")
        require(self.num_samples >= 1, "num_samples must be at least 1")
        require(self.image_size >= 32, "image_size must be at least 32 pixels")
        require(
            self.version == RECIPE_VERSION,
            f"recipe version {self.version} cannot be rendered here: this is {RECIPE_VERSION}",
        )

    @property
    def spec(self) -> DomainSpec:
        """The domain's ranges."""
        return DOMAINS[self.domain]

    def content_hash(self) -> str:
        """Changes with any setting and with the code that draws and renders."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256((text + source_sha256()).encode()).hexdigest()

    def generator(self, *names: str | int) -> np.random.Generator:
        """Random numbers that belong to a named thing of this split."""
        split = "all" if self.domain == "V" else self.split
        place = (self.version, self.domain, split)
        return np.random.default_rng(derive_seed(self.seed, "people", *place, *names))


@dataclass(frozen=True)
class Rows:
    """What rows show: one value per row; ids are unique over all domains and splits."""

    subject: np.ndarray
    scene: np.ndarray
    action: np.ndarray
    clip: np.ndarray
    frame: np.ndarray
    session: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, index: np.ndarray | slice) -> "Rows":
        """Some of the rows."""
        return Rows(**{f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)})


def layout(recipe: SyntheticRecipe) -> Rows:
    """What each row of a recipe shows."""
    clips = _clips(recipe)
    length = clips.pop("length")
    clip, frame = _spread(length, recipe.generator("spread", recipe.split))
    total = len(clip)
    taken, slot = np.divmod(np.arange(recipe.num_samples), total)
    base = DOMAIN_STRIDE * 100 * list(DOMAINS).index(recipe.domain)
    base += SPLIT_STRIDE * 100 * SPLITS.index(recipe.split)
    columns = {name: values[clip[slot]] for name, values in clips.items()}
    return Rows(**columns, clip=base + taken * len(length) + clip[slot], frame=frame[slot])


def first_ids(recipe: SyntheticRecipe) -> tuple[int, int]:
    """Ids of the first subject and of the first scene of a split."""
    start = DOMAIN_STRIDE * list(DOMAINS).index(recipe.domain)
    split = 0 if recipe.domain == "V" else SPLIT_STRIDE * SPLITS.index(recipe.split)
    return start + split, start + split


def _clips(recipe: SyntheticRecipe) -> dict[str, np.ndarray]:
    return _session_clips(recipe) if recipe.domain == "V" else _pool_clips(recipe)


def _pool_clips(recipe: SyntheticRecipe) -> dict[str, np.ndarray]:
    """Clips of subjects that each visit a few scenes, with log-normal volumes."""
    pools, spec = recipe.spec.pools[recipe.split], recipe.spec
    rng, first = recipe.generator("layout"), first_ids(recipe)
    columns: dict[str, list] = {name: [] for name in ("subject", "scene", "action", "length")}
    volume = rng.lognormal(-(pools.volume_spread**2) / 2, pools.volume_spread, pools.num_subjects)
    for subject in range(pools.num_subjects):
        for scene in rng.choice(pools.num_scenes, pools.scenes_per_subject, replace=False):
            share = rng.dirichlet(np.full(len(spec.activities), spec.action_skew))
            actions = rng.choice(len(spec.activities), pools.clips_per_scene, p=share)
            length = pools.frames * volume[subject] * rng.lognormal(-0.08, 0.4, len(actions))
            columns["subject"] += [first[0] + subject] * len(actions)
            columns["scene"] += [first[1] + int(scene)] * len(actions)
            columns["action"] += [spec.activities[a] for a in actions]
            columns["length"] += list(np.clip(length, 8, 400).astype(int))
    found = {name: np.array(values) for name, values in columns.items()}
    return {**found, "session": np.zeros(len(found["length"]), dtype=np.int64)}


def _session_clips(recipe: SyntheticRecipe) -> dict[str, np.ndarray]:
    """Clips of the headset domain: every subject in its own room, another room each session."""
    pools, spec = recipe.spec.pools[recipe.split], recipe.spec
    session, first, last = SESSION_CLIPS[recipe.split]
    start = first_ids(recipe)
    subject, clip = np.divmod(np.arange(pools.num_subjects * (last - first)), last - first)
    action = (clip + first + subject) % len(spec.activities)
    length = recipe.generator("layout", recipe.split).lognormal(np.log(pools.frames), 0.25, len(clip))
    return {
        "subject": start[0] + subject,
        "scene": start[1] + session * pools.num_subjects + subject,
        "action": np.array(spec.activities)[action],
        "length": np.clip(length, 24, 200).astype(int),
        "session": np.full(len(clip), session),
    }


def _spread(
    length: Int[np.ndarray, " clips"], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """An order of all frames of all clips in which every prefix is spread over clips and time."""
    clip = np.repeat(np.arange(len(length)), length)
    rank = np.arange(len(clip)) - np.repeat(np.cumsum(length) - length, length)
    due = (rank + rng.random(len(length))[clip]) / length[clip]
    frame = np.concatenate([_bit_reversed(n) for n in length])
    order = np.argsort(due, kind="stable")
    return clip[order], frame[order]


@lru_cache(maxsize=512)
def _bit_reversed(count: int) -> np.ndarray:
    """0 .. count - 1, each prefix spread over the range (van der Corput)."""
    bits = max(int(count - 1).bit_length(), 1)
    value = np.arange(1 << bits)
    reverse = sum(((value >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return reverse[reverse < count]


@lru_cache(maxsize=1)
def source_sha256() -> str:
    """Hash of the code of this package, blind to comments, docstrings and layout."""
    digest = hashlib.sha256()
    package = resources.files("pchmr.data.synthetic")
    for name in sorted(f.name for f in package.iterdir() if f.name.endswith(".py")):
        if name not in ("__init__.py", "check.py", "people.py"):
            digest.update(code_text((package / name).read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def code_text(source: str) -> str:
    """Source text without comments, docstrings and white space; indentation becomes marks."""
    marks = {tokenize.INDENT: "{", tokenize.DEDENT: "}", tokenize.NEWLINE: ";"}
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER)
    parts: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        starts = not parts or parts[-1] in marks.values()
        if token.type in skipped or (token.type == tokenize.STRING and starts):
            continue
        parts.append(marks.get(token.type, "".join(token.string.split())))
    return "".join(part for part in parts if part)
