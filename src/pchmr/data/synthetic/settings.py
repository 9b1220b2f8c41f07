"""Where and how people of world 2 are photographed: place, light and the camera's sensor.

What world 1 draws of a scene (walls, furniture, camera) stays; its colors are muted here, and light
and background come from an environment.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float

from pchmr.data.synthetic.domains import DomainSpec
from pchmr.data.synthetic.environments import NUM_BASIS, environments, turned_irradiance
from pchmr.data.synthetic.garments import linear
from pchmr.data.synthetic.poses import rotation
from pchmr.data.synthetic.scenes import Coat, Scene
from pchmr.data.synthetic.sensor import Sensor
from pchmr.data.synthetic.surroundings import Surroundings

INDOOR = ("apartment", "bridge", "hall", "lobby", "warehouse")
OUTDOOR = ("city", "dawn", "forest", "night", "park", "sunrise", "sunset", "venice")
ROOM_LIGHT = (*INDOOR, "esplanade", "lab", "workshop", "studio", "city", "venice")
SATURATION = 0.3


@dataclass(frozen=True, kw_only=True)
class Setting(Sensor):
    """A place of world 2.

    Attributes:
        scene: Walls and furniture, colors muted and linear; none where the place is seen.
        place: Name of the environment.
        shown: Whether the environment is seen or only lights a room.
        turn: Degrees of the environment about the vertical.
        center: Where its camera stood, metres.
        radius: Of its dome.
        softness: Of shadow edges, texels.
        light: Direction and irradiance of the key light on the stage.
        irradiance: Of all other light on the stage.
    """

    scene: Scene
    place: str
    shown: bool
    turn: float
    center: Float[np.ndarray, "3"]
    radius: float
    softness: float
    light_direction: Float[np.ndarray, "3"]
    light_color: Float[np.ndarray, "3"]
    irradiance: Float[np.ndarray, "9 3"]


def draw_setting(rng: np.random.Generator, spec: DomainSpec, scene: Scene) -> Setting:
    """The place of a scene of world 2."""
    indoor = bool(rng.random() < spec.indoor)
    shown = bool(rng.random() < spec.panorama)
    names = (INDOOR if indoor else OUTDOOR) if shown else ROOM_LIGHT
    place = names[rng.integers(len(names))]
    turn = float(rng.uniform(-180, 180))
    back = rotation("y", np.array(turn))
    found = environments()[place]
    kept = scene.furniture if rng.random() < 0.4 else ()
    bare = replace(scene, walls=(), wall_distance=(), furniture=kept)
    dark = rng.random() < 0.08
    return Setting(
        scene=_muted(bare if shown else scene, rng),
        place=place,
        shown=shown,
        turn=turn,
        center=np.array([rng.uniform(-1.5, 1.5), rng.uniform(1.4, 2.2), rng.uniform(-0.5, 2.5)]),
        radius=float(rng.uniform(9.0, 30.0)),
        softness=float(rng.uniform(0.4, 4.0)),
        light_direction=back @ found.light_direction,
        light_color=found.light_color,
        irradiance=turned_irradiance(found.irradiance, back),
        white=np.clip(rng.normal(1.0, 0.06, 3), 0.85, 1.15),
        aim=float(rng.uniform(0.07, 0.12) if dark else rng.uniform(0.13, 0.3)),
        noise=float(rng.uniform(0.002, 0.6 * spec.noise)),
        blur=float(rng.choice([0.0, 0.0, rng.uniform(0.0, 0.002), rng.uniform(0.001, 0.004)])),
        vignette=float(rng.uniform(0.0, 0.25)),
        contrast=float(rng.uniform(0.9, 1.25)),
    )


def _muted(scene: Scene, rng: np.random.Generator) -> Scene:
    """Rooms as they are painted: mostly pale walls, wood and stone below."""
    pale = rng.random() < 0.7
    walls = tuple(_mute(coat, rng, pale=pale) for coat in scene.walls)
    furniture = tuple(replace(f, coat=_mute(f.coat, rng)) for f in scene.furniture)
    return replace(scene, ground=_mute(scene.ground, rng), walls=walls, furniture=furniture)


def _mute(coat: Coat, rng: np.random.Generator, *, pale: bool = False) -> Coat:
    gray = coat.color.mean()
    level = rng.uniform(0.55, 0.9) if pale else gray
    shift = level - gray
    warm = np.array([1.03, 1.0, 0.94])
    color = np.clip((gray + SATURATION * (coat.color - gray) + shift) * warm, 0.05, 0.92)
    spread = SATURATION * (coat.second - coat.color)
    return replace(coat, color=linear(color), second=linear(np.clip(color + spread, 0.04, 0.95)))


def muted_coat(coat: Coat) -> Coat:
    """A prop's or an occluder's color as linear reflectance, less saturated."""
    gray = coat.color.mean()
    color = gray + 0.25 * (coat.color - gray)
    second = gray + 0.25 * (coat.second - gray)
    return replace(coat, color=linear(color), second=linear(second))


def surroundings_of(settings: list[Setting]) -> Surroundings:
    """The places of a batch, as the renderer takes them."""
    known = environments()
    names = list(known)

    def column(values: list) -> torch.Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float32))

    turns = np.stack([rotation("y", np.array(-s.turn)) for s in settings])
    irradiance = np.stack([s.irradiance for s in settings])
    assert irradiance.shape[1] == NUM_BASIS
    return Surroundings(
        pictures=_pictures(),
        which=torch.tensor([names.index(s.place) for s in settings]),
        shown=torch.tensor([s.shown for s in settings]),
        turn=torch.from_numpy(turns).float(),
        center=column([s.center for s in settings]),
        radius=column([s.radius for s in settings]),
        gain=torch.ones(len(settings)),
        irradiance=torch.from_numpy(irradiance).float(),
        softness=column([s.softness for s in settings]),
    )


@lru_cache(maxsize=1)
def _pictures() -> torch.Tensor:
    """Panoramas of all places, kept once a process."""
    stacked = np.stack([e.picture for e in environments().values()])
    return torch.from_numpy(stacked).float().permute(0, 3, 1, 2).contiguous()
