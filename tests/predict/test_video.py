"""A clip from frames to files: streamed, resumed, with black frames, without anybody, animated."""

from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from pchmr.annotate.deposer import Annotator
from pchmr.body import BodyModel
from pchmr.config import PredictConfig, SettingError
from pchmr.data.animations import animation_frames, is_animation
from pchmr.data.errors import InputError
from pchmr.predict import video
from pchmr.predict.parts import Parts
from pchmr.predict.people import Clip, People
from pchmr.predict.sightings import joined, load, save, sighting
from pchmr.predict.video import predict_clip

KEY = {"video": "1", "settings": "a"}


class Actor:
    """Sees the people of a clip in pictures whose level tells the frame; black shows nobody."""

    def __init__(self, clip: Clip, body: BodyModel) -> None:
        self.clip, self.body = clip, body
        self.begun, self.seen = 0, 0
        self.dies_at: int | None = None

    def people(self, glances: list[People]) -> list[People]:
        return glances

    def see(self, image: np.ndarray, moment: float, previous: People | None) -> People:
        if self.seen == self.dies_at:
            raise KeyboardInterrupt
        self.begun += previous is None
        self.seen += 1
        frame = round(float(image.mean()) / 4) - 1
        rows = np.flatnonzero(self.clip.has_person[frame]) if frame >= 0 else np.zeros(0, int)
        clip = self.clip
        return People(
            vertices=np.zeros((len(rows), self.body.num_vertices, 3)),
            joints=clip.joints[frame, rows],
            joint_names=clip.joint_names,
            global_orient=clip.global_orient[frame, rows],
            body_pose=clip.body_pose[frame, rows],
            betas=clip.betas[rows],
            transl=clip.transl[frame, rows],
            intrinsics=clip.intrinsics,
            keypoints_2d=clip.keypoints_2d[frame, rows],
            keypoint_names=clip.keypoint_names,
            track_id=np.arange(len(rows)),
            bbox_xyxy=clip.bbox_xyxy[frame, rows],
        )


@pytest.fixture(scope="module")
def clip(tiny_body: BodyModel) -> Clip:
    return make_clip(tiny_body, 14, fps=10)


@pytest.fixture(scope="module")
def annotator(tiny_body: BodyModel) -> Annotator:
    return Annotator(tiny_body)


def gif(path: Path, frames: int, black: tuple[int, ...] = ()) -> Path:
    """An animated picture; the level of frame n is 4 n + 4, that of black ones 0."""
    levels = [0 if n in black else 4 * n + 4 for n in range(frames)]
    pictures = [Image.new("L", (160, 120), level) for level in levels]
    for number, picture in enumerate(pictures):
        picture.putpixel((number, 0), 255)  # frames that are alike would be stored as one
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    return path


def run(path: Path, actor: Actor, annotator: Annotator, **settings) -> Clip:
    settings = {"format": "npz,bvh,csv,glb", "smoothing": "none"} | settings
    config = PredictConfig(images=path, output=path.parent / "out", **settings)
    stem = path.parent / "out" / path.stem
    return predict_clip(path, stem, actor, annotator.body, config, KEY, annotator=annotator)


def test_a_clip_becomes_files(
    tmp_path: Path, clip: Clip, annotator: Annotator, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(gif(tmp_path / "a.gif", 14, black=(2,)), Actor(clip, annotator.body), annotator)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.csv", "a.glb", "a.npz", "a_person1.bvh", "a_person2.bvh", "a_smpl.npz"]
    assert found.time_seconds == pytest.approx(np.arange(14) / 10)
    wanted = clip.has_person.copy()
    wanted[2] = False
    assert (found.has_person == wanted).all() and found.track_id.tolist() == [1, 2]
    said = capsys.readouterr().err
    assert "2 people in 14 frames, 1 frames without anybody" in said
    assert "a second" in said and "jitter" in said


def test_a_killed_run_goes_on_and_gives_the_same(
    tmp_path: Path, clip: Clip, annotator: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("parts", "video"):
        monkeypatch.setattr(f"pchmr.predict.{module}.FRAMES", 4)
    path = gif(tmp_path / "a.gif", 14)
    whole = run(path, Actor(clip, annotator.body), annotator)
    killed = Actor(clip, annotator.body)
    killed.dies_at = 10
    with pytest.raises(KeyboardInterrupt):
        run(path, killed, annotator)
    again = Actor(clip, annotator.body)
    found = run(path, again, annotator)
    assert again.seen == 14 - 8 and again.begun == 2
    np.testing.assert_array_equal(found.joints, whole.joints)
    assert not list((tmp_path / "out").glob(".*"))


def test_other_settings_begin_anew_and_a_damaged_part_is_read_again(
    tmp_path: Path, clip: Clip, tiny_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pchmr.predict.parts.FRAMES", 1)
    people = Actor(clip, tiny_body).see(np.full((4, 4), 4), 0.0, None)
    part = sighting(people, 0.0, 160, 120)
    parts = Parts.open(tmp_path / "a", KEY)
    for _ in range(3):
        parts.add(part)
    assert Parts.open(tmp_path / "a", KEY).num_frames == 3
    (parts.folder / "000001.npz").write_bytes(b"no part")
    assert Parts.open(tmp_path / "a", KEY).num_frames == 1
    assert Parts.open(tmp_path / "a", KEY | {"settings": "b"}).num_frames == 0
    save(tmp_path / "b.npz", joined([part, part]))
    twice = load(tmp_path / "b.npz")
    assert twice.frame.tolist() == [0, 0, 1, 1] and twice.keypoint_names == part.keypoint_names


def test_nobody_is_told_and_written(
    tmp_path: Path, clip: Clip, annotator: Annotator, capsys: pytest.CaptureFixture[str]
) -> None:
    path = gif(tmp_path / "a.gif", 3, black=(0, 1, 2))
    found = run(path, Actor(clip, annotator.body), annotator, smoothing="clip")
    assert found.has_person.shape == (3, 0)
    assert "no person was found in any of its 3 frames" in capsys.readouterr().err


def test_memory_holds_no_pictures_and_no_meshes(clip: Clip, tiny_body: BodyModel) -> None:
    people = Actor(clip, tiny_body).see(np.full((4, 4), 4), 0.0, None)
    part = sighting(people, 0.0, 160, 120)
    held = sum(value.nbytes for value in vars(part).values() if isinstance(value, np.ndarray))
    assert held / len(people.betas) < 4096


def test_animated_pictures_have_their_own_times(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (40, 30), (level, 0, 0)) for level in (10, 120, 240)]
    for name, duration in (("a.gif", [40, 200, 0]), ("a.webp", [40, 200, 100])):
        path = tmp_path / name
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration)
        assert is_animation(path)
        frames, times = zip(*animation_frames(path), strict=True)
        assert times == pytest.approx((0, 0.04, 0.24)) and frames[0].shape == (30, 40, 3)
        assert [round(float(frame[..., 0].mean()), -1) for frame in frames] == [10, 120, 240]
    pictures[0].save(tmp_path / "still.webp")
    assert not is_animation(tmp_path / "still.webp") and not is_animation(tmp_path / "gone.gif")


def test_damaged_animations_are_one_line(tmp_path: Path) -> None:
    path = gif(tmp_path / "a.gif", 5)
    cut = tmp_path / "cut.gif"
    cut.write_bytes(path.read_bytes()[:60])
    none = tmp_path / "none.gif"
    none.write_bytes(b"no picture")
    tiny = tmp_path / "tiny.gif"
    Image.new("L", (8, 8)).save(tiny)
    for bad in (cut, none, tiny, tmp_path / "missing.gif"):
        with pytest.raises(InputError) as error:
            list(animation_frames(bad))
        assert "\n" not in str(error.value) and str(bad) in str(error.value)


@pytest.mark.parametrize("text", ["", "fbx", "glb,fbx", " , "])
def test_unknown_formats_are_refused_by_name(text: str) -> None:
    with pytest.raises(SettingError, match="--format"):
        PredictConfig(images=Path("a.mp4"), format=text)
    assert PredictConfig(images=Path("a.mp4"), format="csv, glb,csv").formats == ("csv", "glb")


def test_frames_that_change_their_size_are_told(
    tmp_path: Path, clip: Clip, annotator: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [(np.full((120, 160 + n, 3), 4, np.uint8), float(n)) for n in (0, 1)]
    monkeypatch.setattr(video, "clip_frames", lambda path: iter(frames))
    with pytest.raises(InputError, match="another size"):
        run(tmp_path / "a.gif", Actor(clip, annotator.body), annotator)
