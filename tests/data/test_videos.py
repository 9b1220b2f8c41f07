import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pchmr.data import videos
from pchmr.data.errors import InputError
from pchmr.data.videos import is_video, video_frames
from pchmr.door.confined import Limits
from pchmr.door.videos import frames as decoded_here

ONE, LAST = 1 << 16, 1 << 30


@pytest.fixture
def decoded_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the start of a process where it is not the matter."""
    monkeypatch.setattr(
        videos, "stream", lambda _, path, limits, **caps: decoded_here(path, **caps)
    )


def one_line(error: pytest.ExceptionInfo[InputError], path: Path) -> str:
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


def write_video(path: Path, num_frames: int = 5, size: tuple[int, int] = (64, 48)) -> None:
    av = pytest.importorskip("av", reason="pip install pchmr[video]")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(num_frames):
            pixels = np.full((size[1], size[0], 3), 40 * i, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_video_gives_every_frame_in_order(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path)
    frames, times = zip(*video_frames(path), strict=True)
    assert times == pytest.approx((0, 0.1, 0.2, 0.3, 0.4))
    assert is_video(path) and [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    np.testing.assert_allclose([frame.mean() for frame in frames], [0, 40, 80, 120, 160], atol=4)


def test_no_library_decodes_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path)
    monkeypatch.setattr("av.open", lambda *_, **__: pytest.fail("decoded in this process"))
    assert len(list(video_frames(path))) == 5


def test_a_decoder_that_hangs_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path)
    monkeypatch.setattr(videos, "LIMITS", Limits(silent_seconds=0.01))
    with pytest.raises(InputError, match=r"took longer") as error:
        video_frames(path)
    one_line(error, path)


@pytest.mark.usefixtures("decoded_in_this_process")
def test_damaged_long_and_disguised_videos_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path)
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nclip.mp4\n")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[:300])
    tiny = tmp_path / "tiny.mp4"
    write_video(tiny, size=(64, 8))
    for bad in (playlist, cut, tiny, tmp_path / "missing.mp4", tmp_path / "clip.gif"):
        with pytest.raises(InputError) as error:
            list(video_frames(bad))
        one_line(error, bad)
    monkeypatch.setattr("pchmr.data.videos.MAX_FRAMES", 3)
    with pytest.raises(InputError, match="more than 3 frames: cut it"):
        list(video_frames(path))
    monkeypatch.setattr("pchmr.data.videos.MAX_FRAME_PIXELS", 64 * 47)
    with pytest.raises(InputError, match="scale it"):
        video_frames(path)


def test_missing_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install pchmr\[video\]"):
        video_frames(tmp_path / "clip.mp4")


MATRICES = {
    "as it is": ((1, 0, 0, 1), lambda s: s),
    "left and right": ((-1, 0, 0, 1), lambda s: s[:, ::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda s: s[::-1, ::-1]),
    "top and bottom": ((1, 0, 0, -1), lambda s: s[::-1]),
    "transposed": ((0, 1, 1, 0), lambda s: s.transpose(1, 0, 2)),
    "clockwise": ((0, 1, -1, 0), lambda s: np.rot90(s, -1)),
    "across": ((0, -1, -1, 0), lambda s: np.rot90(s, 2).transpose(1, 0, 2)),
    "counter-clockwise": ((0, -1, 1, 0), lambda s: np.rot90(s, 1)),
}


def write_frames(path: Path, frames: list[np.ndarray], stamps: list[int], **settings) -> None:
    """Frames at stamps in milliseconds."""
    av = pytest.importorskip("av", reason="pip install pchmr[video]")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"bf": "0"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for pixels, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.usefixtures("decoded_in_this_process")
@pytest.mark.parametrize("name", MATRICES)
def test_frames_stand_as_the_display_matrix_says(tmp_path: Path, name: str) -> None:
    (a, b, c, d), upright = MATRICES[name]
    path = tmp_path / "clip.mp4"
    stored = np.full((48, 64, 3), 40, np.uint8)
    stored[:16, :32] = 200  # a corner that tells all eight apart
    write_frames(path, [stored], [0])
    content = bytearray(path.read_bytes())
    at = content.find(b"tkhd") + 44
    matrix = (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, LAST)
    content[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    frame, _ = next(iter(video_frames(path)))
    wanted = upright(stored)
    assert frame.shape == wanted.shape
    assert np.abs(frame.astype(int) - wanted).mean() < 8


@pytest.mark.usefixtures("decoded_in_this_process")
def test_pixels_are_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    frame = np.full((48, 64, 3), 90, np.uint8)
    write_frames(path, [frame], [0], sample_aspect_ratio=Fraction(3, 2))
    assert next(iter(video_frames(path)))[0].shape == (48, 96, 3)
    write_frames(path, [frame], [0], sample_aspect_ratio=Fraction(2, 3))
    assert next(iter(video_frames(path)))[0].shape == (72, 64, 3)


@pytest.mark.usefixtures("decoded_in_this_process")
@pytest.mark.parametrize("kind", ["mp4", "mkv", "mov"])
def test_frames_come_with_their_own_times(tmp_path: Path, kind: str) -> None:
    stamps = [0, 33, 66, 99, 5000, 5033, 5050]
    path = tmp_path / f"clip.{kind}"
    write_frames(path, [np.full((48, 64, 3), 90, np.uint8)] * len(stamps), stamps)
    times = [time for _, time in video_frames(path)]
    assert times == pytest.approx([stamp / 1000 for stamp in stamps], abs=2e-3)
