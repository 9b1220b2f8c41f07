"""Numbers of people over a clip: crossings, occlusions, changing rates, pauses, black frames."""

import numpy as np
import pytest

from pchmr.perception.people import LIMBS
from pchmr.perception.tracks import MEMORY_SECONDS, Tracker, likeness, size_of

HEIGHTS = {"shoulder": 0.0, "elbow": 0.2, "wrist": 0.4, "hip": 0.4, "knee": 0.7, "ankle": 1.0}
SWING = {"elbow": 0.06, "wrist": 0.15, "knee": 0.1, "ankle": 0.2}


def walker(x: float, phase: float, tall: float = 100.0, y: float = 50.0) -> np.ndarray:
    """Limbs of somebody who walks, seen from the side."""
    pose = np.zeros((len(LIMBS), 3))
    for row, name in enumerate(LIMBS):
        side, part = name.split("_")
        sign = 1 if side == "left" else -1
        arm = -1 if part in ("elbow", "wrist") else 1
        across = SWING.get(part, 0.0) * np.sin(phase) * sign * arm + 0.03 * sign
        pose[row] = (x + tall * across, y + tall * HEIGHTS[part], 0.9)
    return pose


def crossing(times: np.ndarray, gap: float) -> list[tuple[list[int], np.ndarray]]:
    """Two who walk past each other; the far one is hidden for `gap` seconds about the meeting."""
    rng, frames = np.random.default_rng(0), []
    middle = times[-1] / 2
    for time in times:
        people = [walker(100 + 60 * time, 6 * time, 100.0)]
        who = [0]
        if abs(time - middle) > gap / 2:
            people.append(walker(100 + 60 * (times[-1] - time), 5 * time + 1, 90.0, 55.0))
            who.append(1)
        order = rng.permutation(len(who))
        noise = rng.normal(0, 1.0, (len(who), len(LIMBS), 2))
        poses = np.stack(people)
        poses[..., :2] += noise
        frames.append(([who[i] for i in order], poses[order]))
    return frames


def switches(frames, times: np.ndarray) -> int:
    """How often a person got another number than before."""
    tracker, known, count = Tracker(), {}, 0
    for (who, poses), time in zip(frames, times, strict=True):
        for person, number in zip(who, tracker.update(poses, float(time)), strict=True):
            count += known.get(person, number) != number
            known[person] = number
    assert len(set(known.values())) == len(known)
    return count


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("fps", [10, 30])
def test_numbers_survive_a_crossing_and_a_second_of_occlusion(gap: float, fps: int) -> None:
    times = np.arange(0, 5, 1 / fps)
    assert switches(crossing(times, gap), times) == 0


def test_numbers_survive_a_changing_frame_rate() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.choice([0.02, 0.04, 0.15], 70))
    times = times - times[0]
    assert switches(crossing(times, 0.8), times) == 0


def test_a_pause_ends_all_numbers_and_a_black_frame_none() -> None:
    tracker = Tracker()
    people = np.stack([walker(50, 0), walker(200, 1)])
    nobody = np.zeros((0, len(LIMBS), 3))
    assert tracker.update(people, 0.0) == [1, 2]
    assert tracker.update(nobody, 0.1) == []
    assert tracker.update(people[::-1], 0.2) == [2, 1]
    assert tracker.update(people, 0.3 + MEMORY_SECONDS) == [3, 4]


def test_who_comes_later_and_elsewhere_is_somebody_else() -> None:
    tracker = Tracker()
    assert tracker.update(walker(50, 0)[None], 0.0) == [1]
    assert tracker.update(walker(400, 0)[None], 0.1) == [2]
    assert tracker.update(walker(50, 0, tall=220.0)[None], 0.2) == [3]
    assert Tracker().update(walker(50, 0)[None], 0.0) == [1]


def test_a_person_who_is_half_hidden_keeps_the_number() -> None:
    tracker = Tracker()
    whole = walker(80, 0.5)
    half = whole.copy()
    half[[row for row, name in enumerate(LIMBS) if name.endswith(("knee", "ankle"))], 2] = 0.0
    poses = (whole, half, whole)
    numbers = [tracker.update(pose[None], t / 10)[0] for t, pose in enumerate(poses)]
    assert numbers == [1, 1, 1]
    assert size_of(half) < size_of(whole)


def test_likeness_falls_with_distance() -> None:
    pose = walker(50, 0)
    near, far = walker(55, 0), walker(90, 0)
    assert likeness(pose, pose, 10.0) == 1
    assert likeness(pose, near, 10.0) > likeness(pose, far, 10.0)


def test_sides_that_are_exchanged_make_nobody_else() -> None:
    """As a network sees who turns away: left and right change places from frame to frame."""
    times = np.arange(20) / 10
    exchanged = np.arange(len(LIMBS)).reshape(-1, 2)[:, ::-1].ravel()
    tracker, numbers = Tracker(), []
    for count, time in enumerate(times.tolist()):
        pose = walker(100 + 60 * time, 6 * time)
        pose[:, 0] += np.where(np.arange(len(LIMBS)) % 2, -25, 25)  # seen from before or behind
        numbers += tracker.update((pose[exchanged] if count % 2 else pose)[None], time)
    assert set(numbers) == {1}
