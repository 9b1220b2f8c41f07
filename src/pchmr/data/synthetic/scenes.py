"""Where people are seen: rooms and outdoors, their light, cameras and what stands about.

Only draws live here; `staging.py` turns them into geometry around a posed person. The stage frame
has y up, the person near the origin, and the camera on the +z side looking along -z.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from pchmr.data.synthetic.domains import DomainSpec
from pchmr.data.synthetic.patterns import PATTERNS
from pchmr.data.synthetic.subjects import draw_color

GROUNDS = ("tiles", "planks", "noise", "checker", "plain")
WALLS = ("plain", "plain", "bricks", "columns", "noise", "dots")
OUTDOOR_FAR, INDOOR_FAR = 45.0, 60.0
MAX_FURNITURE, MAX_OCCLUDERS = 3, 3


@dataclass(frozen=True, kw_only=True)
class Coat:
    """Color of a surface: two reflectances and the pattern that mixes them."""

    color: Float[np.ndarray, "3"]
    second: Float[np.ndarray, "3"]
    kind: int
    scale: float


@dataclass(frozen=True, kw_only=True)
class Furniture:
    """A box on the ground; position in metres on the stage, size along its own axes."""

    position: tuple[float, float]
    size: Float[np.ndarray, "3"]
    turn: float
    coat: Coat


@dataclass(frozen=True, kw_only=True)
class CameraDraw:
    """A camera in words: degrees, and the share of the picture that the person fills."""

    fov: float
    pitch: float
    roll: float
    framing: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A place with its light and, where the domain fixes it, its camera.

    Attributes:
        ground: Of the floor.
        walls: Back, left and right; outdoors at most one far wall.
        wall_distance: From the person, metres.
        turn: Of the walls about the vertical, degrees.
        sky: RGB at horizon and zenith.
        far: Metres at which the ground has faded into the horizon.
        light_direction: Towards the light.
        light_color: RGB with strength.
        ambient_above: RGB.
        ambient_below: RGB.
        furniture: Boxes about the person.
        camera: Kept by all clips of a scene with a fixed camera.
        blur: Standard deviation as a share of the crop's side.
        noise: Standard deviation of sensor noise.
        exposure: Mean brightness that the camera's automatic gain aims at.
        gamma: Exponent of the sensor.
    """

    ground: Coat
    walls: tuple[Coat, ...]
    wall_distance: tuple[float, ...]
    turn: float
    sky: Float[np.ndarray, "2 3"]
    far: float
    light_direction: Float[np.ndarray, "3"]
    light_color: Float[np.ndarray, "3"]
    ambient_above: Float[np.ndarray, "3"]
    ambient_below: Float[np.ndarray, "3"]
    furniture: tuple[Furniture, ...]
    camera: CameraDraw
    blur: float
    noise: float
    exposure: float
    gamma: float


@dataclass(frozen=True, kw_only=True)
class Occluder:
    """A box between camera and person.

    Attributes:
        depth: Share of the person's distance.
        across: Center, in half sides of the crop; 0 is the middle.
        top: Height of its upper edge as seen on the person, as a share of the person's height.
        size: Width as a share of the crop, thickness in metres.
        turn: About the vertical, degrees.
        coat: Its color.
    """

    depth: float
    across: float
    top: float
    size: tuple[float, float]
    turn: float
    coat: Coat


@dataclass(frozen=True, kw_only=True)
class Shot:
    """How one clip is taken."""

    camera: CameraDraw
    heading: float
    turn_rate: float
    sway: float
    offset: tuple[float, float]
    occluders: tuple[Occluder, ...] = field(default=())
    seat_back: bool = False
    prop: Coat
    step: float = 0.25


def draw_scene(rng: np.random.Generator, spec: DomainSpec) -> Scene:
    """A room or an outdoor place of the domain."""
    indoor = bool(rng.random() < spec.indoor)
    ground = _coat(rng, spec.palette, GROUNDS, (0.2, 0.7))
    walls, distances = _walls(rng, spec.palette, indoor)
    elevation = np.deg2rad(rng.uniform(*spec.light_elevation))
    azimuth = rng.uniform(0, 2 * np.pi)
    level = np.cos(elevation)
    tint = np.array([1.0, rng.uniform(0.9, 1.0), rng.uniform(0.78, 1.0)])
    ambient = rng.uniform(*spec.ambient)
    sky_tint = np.array([rng.uniform(0.85, 1.0), rng.uniform(0.92, 1.0), 1.0])
    horizon = rng.uniform(0.55, 0.95) * np.array([1.0, 1.0, rng.uniform(0.95, 1.1)])
    zenith = horizon * np.array([rng.uniform(0.4, 0.9), rng.uniform(0.6, 0.95), 1.05])
    return Scene(
        ground=ground,
        walls=walls,
        wall_distance=distances,
        turn=float(rng.uniform(-38, 38)),
        sky=np.clip(np.stack([horizon, zenith]), 0, 1),
        far=INDOOR_FAR if indoor else OUTDOOR_FAR,
        light_direction=np.array(
            [level * np.cos(azimuth), np.sin(elevation), level * np.sin(azimuth)]
        ),
        light_color=rng.uniform(*spec.light_strength) * tint,
        ambient_above=ambient * sky_tint,
        ambient_below=ambient * (0.35 + 0.4 * ground.color),
        furniture=_furniture(rng, spec.palette),
        camera=_camera(rng, spec),
        blur=float(rng.choice([0.0, 0.0, rng.uniform(0.001, 0.004), rng.uniform(0.004, 0.008)])),
        noise=float(rng.uniform(0, spec.noise)),
        exposure=float(rng.uniform(*spec.exposure)),
        gamma=float(rng.uniform(0.75, 1.2)),
    )


def draw_shot(rng: np.random.Generator, spec: DomainSpec, scene: Scene) -> Shot:
    """Camera, heading and foreground of a clip."""
    camera = _camera(rng, spec)
    if spec.scene_camera:
        fixed = scene.camera
        camera = CameraDraw(
            fov=fixed.fov, pitch=fixed.pitch, roll=fixed.roll, framing=camera.framing
        )
    heading = rng.uniform(-180, 180) if spec.yaw_sd is None else rng.normal(0, spec.yaw_sd)
    blocked = rng.random() < spec.occlusion
    occluders = tuple(_occluder(rng, spec.palette) for _ in range(rng.integers(1, 4)))
    return Shot(
        camera=camera,
        heading=float(heading),
        turn_rate=float(rng.normal(0, 12)),
        sway=float(rng.uniform(5, 30)),
        offset=(float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.15, 0.15))),
        occluders=occluders if blocked else (),
        seat_back=bool(rng.random() < 0.5),
        prop=_coat(rng, spec.palette, ("plain", "planks", "noise"), (0.1, 0.3)),
        step=float(rng.uniform(0.12, 0.38)),
    )


def _camera(rng: np.random.Generator, spec: DomainSpec) -> CameraDraw:
    return CameraDraw(
        fov=float(rng.uniform(*spec.fov)),
        pitch=float(rng.uniform(*spec.pitch)),
        roll=float(np.clip(rng.normal(0, spec.roll), -2.5 * spec.roll, 2.5 * spec.roll)),
        framing=float(rng.uniform(*spec.framing)),
    )


def _coat(
    rng: np.random.Generator, palette: str, kinds: tuple[str, ...], scale: tuple[float, float]
) -> Coat:
    color = draw_color(rng, "mixed" if palette == "sober" else palette)
    color = 0.55 * color + 0.45 * color.mean()
    second = np.clip(color * rng.uniform(0.55, 1.45) + rng.normal(0, 0.06, 3), 0.02, 0.98)
    kind = PATTERNS[kinds[rng.integers(len(kinds))]]
    return Coat(color=color, second=second, kind=kind, scale=float(rng.uniform(*scale)))


def _walls(
    rng: np.random.Generator, palette: str, indoor: bool
) -> tuple[tuple[Coat, ...], tuple[float, ...]]:
    """Back wall and, in a room, often one or two side walls; outdoors at times a far house."""
    if indoor:
        count = 1 + int(rng.choice(3, p=(0.25, 0.5, 0.25)))
        distance = (rng.uniform(0.8, 4.0), *rng.uniform(1.4, 4.5, 2))
        coat = _coat(rng, palette, WALLS, (0.15, 0.6))
        other = _coat(rng, palette, WALLS, (0.15, 0.6))
        kept = (coat, coat if rng.random() < 0.6 else other, coat)
        order = (0, 1, 2) if rng.random() < 0.5 else (0, 2, 1)
        reach = [float(distance[i]) if order.index(i) < count else np.inf for i in range(3)]
        return kept, tuple(reach)
    if rng.random() < 0.4:
        return (_coat(rng, palette, ("bricks", "tiles", "columns"), (0.4, 2.0)),), (
            float(rng.uniform(6, 25)),
        )
    return (), ()


def _furniture(rng: np.random.Generator, palette: str) -> tuple[Furniture, ...]:
    found = []
    for _ in range(int(rng.integers(0, MAX_FURNITURE + 1))):
        side = rng.choice([-1.0, 1.0])
        found.append(
            Furniture(
                position=(float(side * rng.uniform(0.4, 2.2)), float(-rng.uniform(1.2, 3.0))),
                size=rng.uniform((0.35, 0.3, 0.3), (1.4, 1.9, 0.7)),
                turn=float(rng.uniform(-45, 45)),
                coat=_coat(rng, palette, ("plain", "planks", "noise"), (0.1, 0.4)),
            )
        )
    return tuple(found)


def _occluder(rng: np.random.Generator, palette: str) -> Occluder:
    """A low box before the legs, or a narrow post to one side."""
    post = rng.random() < 0.3
    return Occluder(
        depth=float(rng.uniform(0.6, 0.88)),
        across=float(rng.uniform(-0.75, 0.75)),
        top=float(rng.uniform(1.0, 1.4) if post else rng.uniform(0.12, 0.55)),
        size=(
            float(rng.uniform(0.05, 0.12) if post else rng.uniform(0.12, 0.45)),
            float(rng.uniform(0.05, 0.3)),
        ),
        turn=float(rng.uniform(-45, 45)),
        coat=_coat(rng, palette, ("plain", "planks", "noise", "checker"), (0.05, 0.3)),
    )
