"""The domains: A for pretraining, B for clients, V for four or twelve headset wearers, W for many.

B is shifted against A in every respect that a recipe has: other activities and wider joint angles,
steeper and tilted cameras, low and strong light, saturated clothes and rooms, more noise. V is four
people with headsets under a close, steep camera, each in two sessions (twelve in three in world 2).
W, of world 2 alone, is filmed as V is: other wearers in every split, each in a room of their own.
"""

from dataclasses import dataclass, replace
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Pools:
    """How many subjects and scenes a split holds, and how they meet."""

    num_subjects: int
    num_scenes: int
    scenes_per_subject: int = 3
    clips_per_scene: int = 3
    frames: float = 40.0
    volume_spread: float = 0.6
    own_scene: bool = False
    """Whether every subject has a scene that nobody else visits."""


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
        panorama: Share of scenes of world 2 that stand in a photographed place.
        headsets: Whether people wear one.
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
    panorama: float = 0.6
    headsets: bool = False


WORLD_1: dict[str, DomainSpec] = {
    "A": DomainSpec(
        activities=(
            "stand",
            "walk",
            "run",
            "sit",
            "squat",
            "reach",
            "wave",
            "phone",
            "box",
            "bend",
            "lunge",
            "vr",
        ),
        pools={
            "train": Pools(num_subjects=400, num_scenes=300),
            "validation": Pools(num_subjects=40, num_scenes=40),
            "test": Pools(num_subjects=80, num_scenes=80),
        },
        action_skew=20.0,
        fov=(35.0, 75.0),
        pitch=(-8.0, 25.0),
    ),
    "B": DomainSpec(
        activities=(
            "kneel",
            "half_kneel",
            "floor_sit",
            "stretch",
            "dance",
            "throw",
            "climb",
            "kick",
            "swing",
            "bend",
            "sit",
            "lunge",
            "reach",
            "walk",
        ),
        pools={
            "train": Pools(num_subjects=150, num_scenes=60),
            "validation": Pools(num_subjects=40, num_scenes=30),
            "test": Pools(num_subjects=60, num_scenes=40),
        },
        noise_scale=1.35,
        action_skew=0.7,
        palette="vivid",
        fov=(50.0, 80.0),
        pitch=(5.0, 42.0),
        roll=5.0,
        framing=(0.5, 0.85),
        scene_camera=True,
        indoor=0.45,
        light_elevation=(14.0, 45.0),
        light_strength=(0.6, 1.05),
        ambient=(0.18, 0.4),
        exposure=(0.22, 0.42),
        noise=0.04,
    ),
    "V": DomainSpec(
        activities=("vr", "box", "reach", "squat"),
        pools=dict.fromkeys(SPLITS, Pools(num_subjects=4, num_scenes=8, frames=60.0)),
        palette="mixed",
        fov=(76.0, 84.0),
        pitch=(18.0, 32.0),
        framing=(0.6, 0.9),
        scene_camera=True,
        yaw_sd=29.0,
        indoor=1.0,
        light_elevation=(45.0, 75.0),
        ambient=(0.22, 0.3),
        noise=0.02,
        truncation=0.1,
        occlusion=0.2,
        headsets=True,
    ),
}

WORLD_2: dict[str, DomainSpec] = {
    "A": replace(
        WORLD_1["A"],
        activities=(
            *WORLD_1["A"].activities,
            "arms_crossed",
            "hands_to_head",
            "turn_about",
            "kneel",
            "floor_sit",
            "stretch",
            "anything",
            "anything",
        ),
        noise_scale=1.2,
        truncation=0.05,
        occlusion=0.1,
        roll=5.0,
        pitch=(-12.0, 30.0),
    ),
    "B": replace(
        WORLD_1["B"],
        activities=(*WORLD_1["B"].activities, "cross_legged", "anything"),
        pools={
            "train": Pools(num_subjects=150, num_scenes=60),
            "validation": Pools(num_subjects=120, num_scenes=60),
            "test": Pools(num_subjects=600, num_scenes=200, scenes_per_subject=2),
        },
        truncation=0.04,
        occlusion=0.08,
        roll=7.0,
        pitch=(0.0, 34.0),
    ),
    "V": replace(
        WORLD_1["V"],
        pools=dict.fromkeys(SPLITS, Pools(num_subjects=12, num_scenes=36, frames=60.0)),
        truncation=0.04,
        occlusion=0.08,
    ),
}
WORLD_2["W"] = replace(
    WORLD_2["V"],
    pools={
        split: Pools(
            num_subjects=count,
            num_scenes=count,
            scenes_per_subject=1,
            clips_per_scene=5,
            frames=60.0,
            own_scene=True,
        )
        for split, count in (("train", 60), ("validation", 120), ("test", 600))
    },
)
"""World 2: the same contrasts, fewer cut and hidden people, more of them to be scored on."""

WORLDS = {1: WORLD_1, 2: WORLD_2}
DOMAINS = tuple(WORLD_2)
