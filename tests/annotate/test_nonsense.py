"""Nonsense gets no good number: refused, rejected, or a predicted error of half the true one."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pchmr.annotate.alternatives import contradicted_mm
from pchmr.annotate.deposer import MODES, Annotator
from pchmr.annotate.fitting import Labeler
from pchmr.annotate.observed import Observations
from pchmr.annotate.plausibility import require_plausible
from pchmr.annotate.quality import load_predictors
from pchmr.bench.annotators.oracle import OracleNoise, People, draw_people, observe
from pchmr.body import BodyModel
from pchmr.body.joints import EVALUATION_14, mirror_name
from pchmr.data.errors import InputError
from pchmr.metrics import MM_PER_METRE, mpjpe

pytestmark = pytest.mark.whole

Nonsense = Callable[[Observations], Observations]


def _pixels(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Nonsense:
    """A change of pixels (N, K, 2), given the picture's size (N, 1, 2)."""

    def made(seen: Observations) -> Observations:
        table = seen.keypoints_2d.copy()
        table[..., :2] = change(table[..., :2], seen.image_size[:, None].astype(float))
        return replace(seen, keypoints_2d=table)

    return made


def _rows(change: Callable[[np.ndarray, tuple[str, ...]], np.ndarray]) -> Nonsense:
    """A change of whole rows of keypoints, given their names."""

    def made(seen: Observations) -> Observations:
        return replace(seen, keypoints_2d=change(seen.keypoints_2d.copy(), seen.keypoint_names))

    return made


def _swap(table: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return table[:, [names.index(mirror_name(name)) for name in names]]


def _few(table: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    kept = [names.index(f"{side}_{part}") for side in ("left", "right") for part in ("ear", "hip")]
    table[:, [row for row in range(len(names)) if row not in kept]] = np.nan
    return table


def _double(table: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    for row, name in enumerate(names):
        if name.startswith("left"):
            table[:, row] = table[:, names.index(mirror_name(name))]
    return table


def _zeros(table: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    table[:, len(names) // 3 :] = (0.0, 0.0, 1.0)
    return table


def _camera(change: Callable[[np.ndarray, np.ndarray], None]) -> Nonsense:
    def made(seen: Observations) -> Observations:
        assert seen.intrinsics is not None
        camera = seen.intrinsics.copy()
        change(camera, seen.image_size.astype(float))
        return replace(seen, intrinsics=camera)

    return made


def _focal(factor: float) -> Nonsense:
    def change(camera: np.ndarray, size: np.ndarray) -> None:
        camera[:, [0, 1], [0, 1]] *= factor

    return _camera(change)


def _center(share: float) -> Nonsense:
    def change(camera: np.ndarray, size: np.ndarray) -> None:
        camera[:, :2, 2] = share * size

    return _camera(change)


def _depth(change: Callable[[np.ndarray], np.ndarray]) -> Nonsense:
    """A change of all depth; rays stay where they were."""

    def made(seen: Observations) -> Observations:
        assert seen.keypoint_depth is not None
        points = seen.points
        if points is not None:
            points = points / points[..., 2:] * change(points[..., 2])[..., None]
        return replace(seen, keypoint_depth=change(seen.keypoint_depth), points=points)

    return made


def _about_its_median(z: np.ndarray) -> np.ndarray:
    return 2 * np.nanmedian(z, axis=1, keepdims=True) - z


ANY_MODE: dict[str, Nonsense] = {
    "keypoints in shares": _pixels(lambda xy, size: xy / size),
    "keypoints of ten times the size": _pixels(lambda xy, size: 10 * xy),
    "sides exchanged": _rows(_swap),
    "upside down": _pixels(lambda xy, size: size * [0, 1] + xy * [1, -1]),
    "half a turn": _pixels(lambda xy, size: size - xy),
    "axes exchanged": _pixels(lambda xy, size: xy[..., ::-1]),
    "mirrored": _pixels(lambda xy, size: size * [1, 0] + xy * [-1, 1]),
    "one pixel": _pixels(lambda xy, size: 0 * xy + 400),
    "four keypoints": _rows(_few),
    "zeros for gaps": _rows(_zeros),
    "one side twice": _rows(_double),
    "tiny focal length": _focal(1e-3),
    "huge focal length": _focal(1e4),
    "center on the corner": _center(0.0),
    "center far away": _center(-5.0),
}
DEPTH: dict[str, Nonsense] = {
    "millimetres": _depth(lambda z: 1000 * z),
    "feet": _depth(lambda z: z / 0.3048),
    "disparity as depth": _depth(lambda z: 1 / z),
    "inverted": _depth(_about_its_median),
    "negative": _depth(lambda z: -z),
}


@pytest.fixture(scope="module")
def crowd(body: BodyModel) -> People:
    return draw_people(body, 5, domain="B", seed=17)


def judged(
    annotator: Annotator, seen: Observations, people: People, mode: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True errors, predicted errors and statuses."""
    found = Labeler(
        annotator=annotator, predictors=load_predictors(), mode=mode, source="oracle"
    ).label(seen)
    body = annotator.body
    sides = []
    for vertices in (people.vertices.new_tensor(found["vertices"]), people.vertices):
        joints = body.regress(vertices, EVALUATION_14)
        sides.append(joints - joints[:, list(EVALUATION_14.root)].mean(dim=1, keepdim=True))
    error = (MM_PER_METRE * mpjpe(*sides)).numpy()
    return error, found["predicted_error_mm"], found["status"]


def unjustified(
    annotator: Annotator, seen: Observations, people: People, mode: str
) -> list[tuple[float, float]]:
    """True and predicted errors of frames whose number is too good."""
    try:
        require_plausible(seen)
    except InputError as error:
        assert "\n" not in str(error)
        return []
    error, predicted, status = judged(annotator, seen, people, mode)
    bad = (status != "rejected") & ~(predicted >= 0.5 * error)
    return list(zip(error[bad].round(), predicted[bad].round(), strict=True))


@pytest.mark.parametrize("kind", ANY_MODE)
def test_no_nonsense_gets_a_good_number(annotator: Annotator, crowd: People, kind: str) -> None:
    seen = observe(annotator.body, crowd, OracleNoise())
    assert not unjustified(annotator, ANY_MODE[kind](seen), crowd, "strong-2d")


@pytest.mark.parametrize("kind", ANY_MODE)
def test_nor_beside_depth_that_is_right(annotator: Annotator, crowd: People, kind: str) -> None:
    seen = observe(annotator.body, crowd, OracleNoise())
    assert not unjustified(annotator, ANY_MODE[kind](seen), crowd, "deposer-keypoint")


@pytest.mark.parametrize("kind", DEPTH)
@pytest.mark.parametrize("mode", ["deposer-keypoint", "deposer-dense"])
def test_no_nonsense_of_depth_gets_a_good_number(
    annotator: Annotator, crowd: People, kind: str, mode: str
) -> None:
    seen = observe(annotator.body, crowd, OracleNoise())
    assert not unjustified(annotator, DEPTH[kind](seen), crowd, mode)


@pytest.mark.parametrize("kind", DEPTH)
def test_nor_does_nonsense_that_is_taken_at_its_word(
    annotator: Annotator, crowd: People, kind: str
) -> None:
    seen = replace(observe(annotator.body, crowd, OracleNoise()), depth_scale_sd=0.0)
    assert not unjustified(annotator, DEPTH[kind](seen), crowd, "deposer-keypoint")


def test_depth_that_is_right_is_not_doubted(annotator: Annotator, crowd: People) -> None:
    """Else the doubts above would prove nothing."""
    seen = replace(observe(annotator.body, crowd, OracleNoise()), depth_scale_sd=0.0)
    floors = [
        contradicted_mm(annotator.fit(one, MODES[mode]))
        for one in (seen, DEPTH["inverted"](seen))
        for mode in ("deposer-keypoint", "deposer-dense")
    ]
    right, turned = floors[:2], floors[2:]
    assert max(floor.max() for floor in right) < 20
    assert min(np.median(floor) for floor in turned) > 50
