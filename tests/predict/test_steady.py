"""From single frames to a clip: one shape, one camera, steady motion; filters and measures."""

from dataclasses import replace

import numpy as np
import pytest
from clips import make_clip
from scipy.spatial.transform import Rotation

from pchmr.annotate.deposer import Annotator
from pchmr.body import BodyModel
from pchmr.body.joints import COCO_17
from pchmr.predict.measures import derivative, standing_speed, steadiness, steadiness_of
from pchmr.predict.motion import leg_length, rest_joints
from pchmr.predict.one_euro import OneEuro, OneEuroTurns
from pchmr.predict.people import Clip
from pchmr.predict.sightings import Sightings, joined, numbered
from pchmr.predict.steady import kept, one_shape, steady_clip

CAMERA = np.array([[600.0, 0, 200], [0, 600.0, 200], [0, 0, 1]])


def seen_of(clip: Clip, noise: float = 0.0, shapes: float = 0.0) -> Sightings:
    """What single frames would say of a clip: noisy, each with a shape of its own."""
    rng = np.random.default_rng(3)
    frame, person = np.nonzero(clip.has_person)
    pixels = clip.joints @ CAMERA.T
    pixels = pixels[..., : len(COCO_17), :2] / pixels[..., : len(COCO_17), 2:]
    keypoints = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)[frame, person]
    keypoints[..., :2] += rng.normal(0, 100 * noise, keypoints[..., :2].shape)
    count = len(frame)
    return Sightings(
        time_seconds=clip.time_seconds,
        intrinsics=np.repeat(CAMERA[None], len(clip.time_seconds), axis=0),
        image_size=np.full((len(clip.time_seconds), 2), 400),
        frame=frame,
        global_orient=clip.global_orient[frame, person] + rng.normal(0, noise, (count, 3)),
        body_pose=clip.body_pose[frame, person] + rng.normal(0, noise, (count, 23, 3)),
        betas=clip.betas[person] + rng.normal(0, shapes, (count, clip.betas.shape[1])),
        transl=clip.transl[frame, person] + rng.normal(0, noise, (count, 3)),
        keypoints_2d=keypoints,
        bbox_xyxy=np.concatenate([keypoints[..., :2].min(1), keypoints[..., :2].max(1)], axis=-1),
        keypoint_names=COCO_17.names,
    )


@pytest.fixture(scope="module")
def clip(tiny_body: BodyModel) -> Clip:
    return make_clip(tiny_body, 16)


@pytest.fixture(scope="module")
def annotator(tiny_body: BodyModel) -> Annotator:
    return Annotator(tiny_body)


def nothing(count: int) -> None:
    """Tells nobody."""


def test_frames_that_agree_give_the_clip_back(clip: Clip, annotator: Annotator) -> None:
    found = steady_clip(seen_of(clip), annotator.body, "none", nothing)
    assert (found.has_person == clip.has_person).all()
    there = clip.has_person
    np.testing.assert_allclose(found.joints[there], clip.joints[there], atol=1e-4)
    assert np.isnan(found.joints[~there]).all() and found.track_id.tolist() == [1, 2]


@pytest.mark.parametrize(("smoothing", "share"), [("live", 0.5), ("clip", 0.5)])
def test_smoothing_takes_jitter_and_keeps_the_pose(
    clip: Clip, annotator: Annotator, smoothing, share: float
) -> None:
    seen = seen_of(clip, noise=0.02, shapes=0.5)
    raw = steady_clip(seen, annotator.body, "none", nothing)
    done = steady_clip(seen, annotator.body, smoothing, nothing, annotator=annotator)
    before, after, truth = (steadiness(c) for c in (raw, done, clip))
    assert before and after and truth
    assert after.jitter < share * before.jitter
    errors = [
        np.linalg.norm(c.joints - clip.joints, axis=-1)[clip.has_person].mean() for c in (raw, done)
    ]
    assert errors[1] < 1.2 * errors[0]
    assert after.bone_variation < 1.5 * truth.bone_variation + 0.2


def test_distances_do_not_jump_with_the_shapes_of_frames(clip: Clip, annotator: Annotator) -> None:
    """Every frame explains the same pixels by a shape of its own at a distance of its own."""
    seen, body = seen_of(clip), annotator.body
    rows = np.flatnonzero(numbered(seen) == 1)
    betas, transl = seen.betas.copy(), seen.transl.copy()
    betas[rows[::2], 0] += 2.0
    for row in rows:
        old, new = (rest_joints(body, shape) for shape in (seen.betas[row], betas[row]))
        ratio = leg_length(new) / leg_length(old)
        transl[row] = (seen.transl[row] + old[0]) * ratio - new[0]
    assert np.ptp(transl[rows, 2]) > 0.1
    track = one_shape(replace(seen, betas=betas, transl=transl), rows, CAMERA, body)
    assert np.ptp(track.transl[:, 2]) < 0.01


def test_one_camera_for_all_frames(clip: Clip, annotator: Annotator) -> None:
    seen = seen_of(clip)
    rows = np.flatnonzero(numbered(seen) == 1)
    longer = seen.intrinsics.copy()
    longer[::2, 0, 0] *= 2
    far = one_shape(replace(seen, intrinsics=longer), rows, CAMERA, annotator.body)
    near = one_shape(seen, rows, CAMERA, annotator.body)
    ratio = far.transl[:, 2] / near.transl[:, 2]
    np.testing.assert_allclose(ratio[::2], 0.5, atol=0.05)
    np.testing.assert_allclose(ratio[1::2], 1.0, atol=1e-6)


def test_who_is_seen_for_a_moment_does_not_count(clip: Clip) -> None:
    seen = seen_of(clip)
    numbers = np.ones(len(seen.frame), dtype=np.int64)
    numbers[5] = 2
    assert len(kept(seen, numbers)) == 1
    short = joined([replace(seen, **vars(first_frame(seen)))])
    assert len(kept(short, np.array([1, 2]))) == 2


def first_frame(seen: Sightings) -> Sightings:
    rows = np.flatnonzero(seen.frame == 0)
    return replace(
        seen,
        time_seconds=seen.time_seconds[:1],
        intrinsics=seen.intrinsics[:1],
        image_size=seen.image_size[:1],
        frame=seen.frame[rows],
        **seen.take(rows),
    )


def test_one_euro_is_steady_while_still_and_prompt_while_fast() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.02, 0.05], 100))
    still = rng.normal(0, 0.01, (100, 1, 3))
    filter_ = OneEuro()
    smooth = np.stack([filter_(value, float(t)) for value, t in zip(still, times, strict=True)])
    assert smooth[30:].std() < 0.5 * still.std()
    fast = np.zeros((100, 1, 3))
    fast[:, 0, 0] = 3.0 * times
    filter_ = OneEuro()
    followed = np.stack([filter_(value, float(t)) for value, t in zip(fast, times, strict=True)])
    assert np.abs(followed - fast)[50:].max() < 0.35
    assert filter_(np.full((1, 3), 9.0), float(times[-1]) + 2)[0, 0] == 9.0  # a pause begins anew


def test_one_euro_turns_the_short_way() -> None:
    filter_ = OneEuroTurns(cutoff=100.0)
    for step in range(20):
        turn = Rotation.from_euler("z", 170 + 2 * step, degrees=True).as_rotvec()[None]
        found = filter_(turn, step / 30)
        apart = Rotation.from_rotvec(found[0]).inv() * Rotation.from_rotvec(turn[0])
        assert apart.magnitude() < 0.1


def test_measures_have_known_answers() -> None:
    times = np.array([0.0, 0.1, 0.3, 0.4, 0.7, 0.8])
    cubic = (times**3)[:, None, None] * np.ones((1, 2, 3))
    assert derivative(cubic, times, 1)[0].shape == (5, 2, 3)
    line = times[:, None, None] * np.ones((1, 2, 3))
    np.testing.assert_allclose(derivative(line, times, 2)[0], 0, atol=1e-9)
    feet = np.zeros((6, 2, 3))
    feet[:, 1, 0] = 5 * times
    assert standing_speed(feet, times) == 0
    assert np.isnan(standing_speed(feet[:, 1:], times))
    known = np.ones((6, 2), dtype=bool)
    assert standing_speed(feet, times, known) == pytest.approx(2.5)


def test_a_pause_is_no_jump(clip: Clip) -> None:
    joints, times = clip.joints[:, 0], clip.time_seconds.copy()
    whole = steadiness_of(joints, clip.joint_names, times)
    apart = joints.copy()
    apart[10:] += 3.0
    times[10:] += 5.0
    cut = steadiness_of(apart, clip.joint_names, times)
    assert cut.jitter == pytest.approx(whole.jitter, rel=0.2) and "jitter" in cut.line
