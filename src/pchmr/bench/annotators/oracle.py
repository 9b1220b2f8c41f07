"""Labels of the synthetic people as if a detector and a depth network had seen them.

For the solver's own benchmarks only: no result about pictures may stand on it. The noise model is
`OracleNoise`; its defaults are the figures that the benchmark states.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pchmr.annotate.keypoints import BodyPoints
from pchmr.annotate.observed import Observations
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_23
from pchmr.config import Domain
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.overlays import rasterize
from pchmr.data.synthetic.poses import rotation
from pchmr.data.synthetic.recipe import Split, SyntheticRecipe
from pchmr.data.synthetic.staging import view_of
from pchmr.data.synthetic.world import World
from pchmr.geometry import project_pinhole
from pchmr.perception.interfaces import DepthKind
from pchmr.perception.names import KNUCKLES, SIDES
from pchmr.seeds import derive_seed

PICTURE_SIDE = 1024
DEPTH_SIDE = 160
NUM_POINTS = 300
BEHIND = 0.13  # metres behind the seen surface at which a keypoint counts as hidden
SMOOTH_CELLS = 6
CUT_BORDERS = (0.25, 0.05, 0.25, 0.45)  # how often left, top, right and bottom cut a person
CUT = (0.15, 0.45)  # share of a truncated person's height or width beyond the border
CHUNK = 32
ORACLE_NAMES = (
    *COCO_23.names,
    *(f"{side}_{finger}1" for side in SIDES for finger in KNUCKLES),
)


@dataclass(frozen=True, kw_only=True)
class OracleNoise:
    """What distinguishes observations from labels.

    Attributes:
        pixel_sd: Standard deviation of a keypoint in pixels of a picture 1024 high.
        hidden_factor: By how much worse a hidden keypoint is.
        outlier_share: Keypoints that lie elsewhere.
        outlier_px: Standard deviation of where.
        honest_share: Outliers that have a low confidence.
        swap_share: Frames in which left and right keypoints are exchanged.
        truncated_share: People whom a border of the picture cuts.
        depth_smooth: Metres, standard deviation of a smooth error over the person.
        depth_white: Metres, of each pixel's own error.
        scale_sd: Relative error of metric depth.
        shift_sd: Metres by which metric depth is off.
        focal_sd: Of the logarithm of the focal length.
        depth_kind: Metric, or up to scale and shift.
    """

    pixel_sd: float = 4.0
    hidden_factor: float = 3.0
    outlier_share: float = 0.05
    outlier_px: float = 50.0
    honest_share: float = 0.6
    swap_share: float = 0.0
    truncated_share: float = 0.0
    depth_smooth: float = 0.02
    depth_white: float = 0.008
    scale_sd: float = 0.05
    shift_sd: float = 0.15
    focal_sd: float = 0.10
    depth_kind: DepthKind = "metric"


@dataclass(frozen=True, kw_only=True)
class People:
    """People with everything known.

    Attributes:
        rotmat: Local rotations, root in the camera frame.
        betas: Shape.
        transl: Metres.
        vertices: The naked body in the camera frame.
        surface: What a depth sensor would see: the dressed body.
        intrinsics: Pixels of the whole picture.
        image_size: Width and height.
        action: What they do.
    """

    rotmat: Float[Tensor, "people 24 3 3"]
    betas: Float[Tensor, "people betas"]
    transl: Float[Tensor, "people 3"]
    vertices: Float[Tensor, "people vertices 3"]
    surface: Float[Tensor, "people vertices 3"]
    intrinsics: Float[Tensor, "people 3 3"]
    image_size: Int[np.ndarray, "people 2"]
    action: np.ndarray

    def __len__(self) -> int:
        return len(self.rotmat)


@torch.no_grad()
def draw_people(
    body: BodyModel, count: int, *, domain: Domain = "A", split: Split = "test", seed: int = 0
) -> People:
    """Synthetic people in front of whole-picture cameras, none rendered.

    Args:
        body: Neutral body.
        count: How many.
        domain: World of poses and cameras.
        split: Disjoint in people and clips.
        seed: Draws them.
    """
    recipe = SyntheticRecipe(domain=domain, split=split, num_samples=count, seed=seed)
    world, rows = World(recipe, body), layout(recipe)
    parts = [_pose_chunk(world, rows.take(slice(at, at + CHUNK))) for at in range(0, count, CHUNK)]
    rotmat, betas, transl, surface, intrinsics = (
        torch.cat(values) for values in zip(*parts, strict=True)
    )
    vertices = torch.cat(
        [
            body(
                rotmat[at : at + CHUNK, 0],
                rotmat[at : at + CHUNK, 1:],
                betas[at : at + CHUNK],
                transl[at : at + CHUNK],
            ).vertices
            for at in range(0, count, CHUNK)
        ]
    )
    return People(
        rotmat=rotmat,
        betas=betas,
        transl=transl,
        vertices=vertices,
        surface=surface,
        intrinsics=intrinsics,
        image_size=np.full((count, 2), PICTURE_SIDE),
        action=rows.action,
    )


def _pose_chunk(world: World, rows) -> tuple[Tensor, ...]:
    posed = world.pose(rows)
    rest = world.points.rest_joints(posed.betas)[:, 0]
    columns: tuple[list, ...] = ([], [], [], [])
    rotmat = posed.rotmat.copy()
    for row in range(len(rows)):
        clip, frame = int(rows.clip[row]), int(rows.frame[row])
        shot = world.shot(clip, int(rows.scene[row]))
        turn = rotation("y", np.array(shot.heading))
        own = posed.vertices[row].double().numpy() @ turn.T
        view = view_of(own, shot, world.recipe.generator("whole", clip, frame), 0.0)
        camera = view.rotation @ turn
        lift = np.array([0.0, posed.rise[row], 0.0])
        columns[0].append(camera @ (rest[row] + lift) - rest[row] + view.shift)
        columns[1].append(own @ view.rotation.T + view.shift)
        focal = PICTURE_SIDE / 2 / np.tan(np.deg2rad(shot.camera.fov) / 2)
        middle = PICTURE_SIDE / 2
        columns[2].append(np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]]))
        rotmat[row, 0] = camera @ rotmat[row, 0]
    values = (rotmat, posed.betas, *(np.stack(c) for c in columns[:3]))
    return tuple(torch.from_numpy(v).float() for v in values)


@torch.no_grad()
def observe(body: BodyModel, people: People, noise: OracleNoise, *, seed: int = 0) -> Observations:
    """Noisy keypoints, keypoint depth and dense points of people.

    The same seed gives the same keypoints for every kind and amount of depth noise, so that curves
    over depth noise compare like with like.
    """
    points = BodyPoints.of(body)
    rows = [
        points.names.index(f"coco:{n}" if n in COCO_23.names else f"hand:{n}") for n in ORACLE_NAMES
    ]
    table = torch.cat([body.get_buffer("J_regressor_coco"), _knuckle_table(body)])
    assert len(table) == len(rows)
    joints = torch.einsum("kv,nvx->nkx", table, people.vertices)
    frames = _frames(people, noise, np.random.default_rng(derive_seed(seed, "oracle borders")))
    maps = _depth_maps(body, people)
    truth = project_pinhole(joints, people.intrinsics).numpy()
    hidden = joints[..., 2].numpy() - maps.read(truth) > BEHIND
    rng = np.random.default_rng(derive_seed(seed, "oracle keypoints"))
    keypoints = _noisy_keypoints(truth, hidden, frames, noise, rng)
    maps = maps.within(frames)
    focal = np.exp(noise.focal_sd * rng.standard_normal(len(people)))
    intrinsics = people.intrinsics.double().numpy().copy()
    intrinsics[:, [0, 1], [0, 1]] *= focal[:, None]
    rng = np.random.default_rng(derive_seed(seed, "oracle depth"))
    depth, points_xyz = _noisy_depth(maps, keypoints, intrinsics, noise, rng)
    return Observations(
        keypoints_2d=keypoints,
        keypoint_names=ORACLE_NAMES,
        image_size=people.image_size,
        intrinsics=intrinsics,
        focal_sd=noise.focal_sd,
        keypoint_depth=depth,
        points=points_xyz if noise.depth_kind == "metric" else None,
        depth_kind=noise.depth_kind,
        depth_scale_sd=noise.scale_sd,
    )


def _knuckle_table(body: BodyModel) -> Tensor:
    from pchmr.annotate.keypoints import knuckle_rows

    return torch.cat([knuckle_rows(body, side) for side in SIDES])


@dataclass(frozen=True)
class _DepthMaps:
    """Depth (N, S, S) of each person's box; 0 where there is no person."""

    depth: np.ndarray
    corner: np.ndarray
    pixel: np.ndarray

    def cells(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cell (N, K, 2) of each pixel, x then y, and whether it lies inside the box."""
        at = np.floor((pixels - self.corner[:, None]) / self.pixel[:, None, None]).astype(int)
        inside = ((at >= 0) & (at < self.depth.shape[1])).all(axis=-1)
        return np.clip(at, 0, self.depth.shape[1] - 1), inside

    def read(self, pixels: np.ndarray) -> np.ndarray:
        """Depth (N, K) at pixels; NaN beside the person."""
        at, inside = self.cells(pixels)
        row = np.arange(len(pixels))[:, None]
        value = self.depth[row, at[..., 1], at[..., 0]]
        return np.where(inside & (value > 0), value, np.nan)

    def within(self, frames: Float[np.ndarray, "people 4"]) -> "_DepthMaps":
        """The maps without what lies beyond the borders of the pictures."""
        step = (np.arange(self.depth.shape[1]) + 0.5) * self.pixel[:, None]
        x, y = self.corner[:, :1] + step, self.corner[:, 1:] + step
        left, top, right, bottom = frames.T[..., None]
        inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]
        return _DepthMaps(np.where(inside, self.depth, 0.0), self.corner, self.pixel)


def _frames(
    people: People, noise: OracleNoise, rng: np.random.Generator
) -> Float[np.ndarray, "people 4"]:
    """Left, top, right and bottom border of each picture; some cut their person."""
    count = len(people)
    frames = np.tile([0.0, 0.0, PICTURE_SIDE, PICTURE_SIDE], (count, 1))
    window = project_pinhole(people.surface, people.intrinsics)
    low, high = window.amin(dim=1).double().numpy(), window.amax(dim=1).double().numpy()
    is_cut, border = rng.random(count) < noise.truncated_share, rng.choice(4, count, p=CUT_BORDERS)
    share = rng.uniform(*CUT, count)
    for row in np.flatnonzero(is_cut):
        axis, is_far = border[row] % 2, border[row] >= 2
        reach = share[row] * (high[row, axis] - low[row, axis])
        frames[row, border[row]] = high[row, axis] - reach if is_far else low[row, axis] + reach
    return frames


def _depth_maps(body: BodyModel, people: People) -> _DepthMaps:
    window = project_pinhole(people.surface, people.intrinsics)
    low, high = window.amin(dim=1), window.amax(dim=1)
    side = (high - low).amax(dim=-1) * 1.02
    corner = (low + high - side[:, None]) / 2
    zoom = DEPTH_SIDE / side
    camera = people.intrinsics.clone()
    camera[:, :2, 2] -= corner
    camera[:, :2] *= zoom[:, None, None]
    maps = [
        rasterize(part, body.faces, view, DEPTH_SIDE, DEPTH_SIDE).depth.numpy()
        for part, view in zip(people.surface.split(8), camera.split(8), strict=True)
    ]
    return _DepthMaps(np.concatenate(maps), corner.numpy(), (1 / zoom).numpy())


def _noisy_keypoints(
    truth: np.ndarray,
    hidden: np.ndarray,
    frames: np.ndarray,
    noise: OracleNoise,
    rng: np.random.Generator,
) -> Float[np.ndarray, "people keypoints 3"]:
    shape = truth.shape[:2]
    sd = noise.pixel_sd * np.where(hidden, noise.hidden_factor, 1.0)
    pixels = truth + sd[..., None] * rng.standard_normal((*shape, 2))
    outlier = rng.random(shape) < noise.outlier_share
    pixels += np.where(outlier, noise.outlier_px, 0.0)[..., None] * rng.standard_normal((*shape, 2))
    confidence = np.where(hidden, rng.uniform(0.3, 0.8, shape), rng.uniform(0.7, 1.0, shape))
    honest = outlier & (rng.random(shape) < noise.honest_share)
    confidence = np.where(honest, rng.uniform(0.1, 0.4, shape), confidence)
    swapped = rng.random(len(truth)) < noise.swap_share
    mirror = _mirror_columns()
    pixels[swapped] = pixels[swapped][:, mirror]
    low, high = frames[:, None, :2], frames[:, None, 2:]
    inside = ((pixels >= low) & (pixels < high)).all(axis=-1)
    return np.concatenate([pixels, np.where(inside, confidence, 0.0)[..., None]], axis=-1)


def _mirror_columns() -> list[int]:
    from pchmr.body.joints import mirror_name

    return [ORACLE_NAMES.index(mirror_name(name)) for name in ORACLE_NAMES]


def _noisy_depth(
    maps: _DepthMaps,
    keypoints: np.ndarray,
    intrinsics: np.ndarray,
    noise: OracleNoise,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Depth at the observed keypoints (N, K), points (N, P, 3) through the believed camera."""
    count = len(maps.depth)
    smooth = torch.from_numpy(rng.standard_normal((count, 1, SMOOTH_CELLS, SMOOTH_CELLS)))
    field = torch.nn.functional.interpolate(
        smooth, size=maps.depth.shape[1:], mode="bicubic", align_corners=True
    )[:, 0].numpy()
    white = rng.standard_normal(maps.depth.shape)
    error = noise.depth_smooth * field + noise.depth_white * white
    scale, shift = (
        1 + noise.scale_sd * rng.standard_normal(count),
        noise.shift_sd * rng.standard_normal(count),
    )
    if noise.depth_kind != "metric":
        scale, shift = np.exp(rng.normal(0, 1, count)), rng.normal(0, 3, count)
    person = maps.depth > 0
    seen = maps.depth + error
    if noise.depth_kind == "affine_disparity":
        seen = 1 / np.maximum(seen, 0.1)
    seen = scale[:, None, None] * seen + shift[:, None, None]
    noisy = _DepthMaps(np.where(person, seen, np.nan), maps.corner, maps.pixel)
    at, inside = noisy.cells(keypoints[..., :2])
    row = np.arange(count)[:, None]
    depth = np.where(inside, noisy.depth[row, at[..., 1], at[..., 0]], np.nan)
    points = np.full((count, NUM_POINTS, 3), np.nan)
    for i in range(count):
        y, x = np.nonzero(person[i])
        pick = np.sort(rng.choice(len(x), min(NUM_POINTS, len(x)), replace=False))
        pixel = np.stack([x[pick], y[pick]], axis=-1) + rng.random((len(pick), 2))
        pixel = pixel * maps.pixel[i] + maps.corner[i]
        camera, z = intrinsics[i], noisy.depth[i, y[pick], x[pick]]
        plane = (pixel - camera[:2, 2]) / camera[[0, 1], [0, 1]]
        points[i, : len(pick)] = (
            np.concatenate([plane, np.ones((len(pick), 1))], axis=-1) * z[:, None]
        )
    return depth, points
