import io
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pchmr.data.errors import InputError
from pchmr.data.photos import (
    exif_focal_length,
    is_video,
    list_photos,
    load_photo,
    video_frames,
)

ORIENTATION, EXIF_IFD, FOCAL_35MM = 0x0112, 0x8769, 0xA405


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 4, columns * 4, np.full_like(rows, 90)], axis=-1).astype(np.uint8)


def one_line(error: pytest.ExceptionInfo[InputError], path: Path) -> str:
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


def bomb_png(side: int) -> bytes:
    """A PNG whose header declares a huge image over few compressed bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + checksum

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    data = zlib.compress(bytes(side // 8 + 1) * 8)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_lossless_photos_come_back_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(gradient()).save(path, lossless=True)
    np.testing.assert_array_equal(load_photo(path), gradient())


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored lying, to be turned clockwise
    Image.fromarray(gradient()).save(path, exif=exif)
    np.testing.assert_array_equal(load_photo(path), np.rot90(gradient(), -1))


def test_focal_length_comes_from_the_35mm_equivalent(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[FOCAL_35MM] = 26
    Image.fromarray(gradient(300, 400)).save(path, exif=exif)
    assert exif_focal_length(path) == pytest.approx(26 / 43.27 * 500)
    bare = tmp_path / "bare.jpg"
    Image.fromarray(gradient()).save(bare)
    assert exif_focal_length(bare) is None


def test_gray_palette_and_transparent_photos_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(gradient()[..., 0]).save(tmp_path / "gray.png")
    Image.fromarray(gradient()).quantize().save(tmp_path / "palette.png")
    Image.new("RGBA", (40, 40), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert load_photo(tmp_path / "gray.png").shape == (40, 60, 3)
    assert load_photo(tmp_path / "palette.png").shape == (40, 60, 3)
    assert (load_photo(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize("length", [0, 3, 20, 200])
def test_truncated_photo_is_one_line(tmp_path: Path, length: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(gradient(200, 200)).save(buffer, format="JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(buffer.getvalue()[:length])
    with pytest.raises(InputError) as error:
        load_photo(path)
    assert "save it again" in one_line(error, path)


def test_random_damage_gives_pixels_or_one_line(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "damaged"
    for format in ("JPEG", "PNG", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(gradient()).save(buffer, format=format)
        whole = np.frombuffer(buffer.getvalue(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            at = generator.integers(0, len(damaged), size=4)
            damaged[at] = generator.integers(0, 256, size=4, dtype=np.uint8)
            path.write_bytes(damaged.tobytes())
            try:
                assert load_photo(path).dtype == np.uint8
            except InputError as error:
                assert "\n" not in str(error)


def test_other_formats_and_other_things_are_refused(tmp_path: Path) -> None:
    gif = tmp_path / "photo.jpg"
    Image.fromarray(gradient()).save(gif, format="GIF")
    svg = tmp_path / "drawing.png"
    svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(deep)
    for path in (gif, svg, deep, tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(InputError) as error:
            load_photo(path)
        one_line(error, path)


def test_bomb_and_tiny_photos_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(bomb_png(12_000))
    assert bomb.stat().st_size < 20_000
    with pytest.raises(InputError, match="50 million pixels"):
        load_photo(bomb)
    tiny = tmp_path / "tiny.png"
    Image.fromarray(gradient(8, 200)).save(tiny)
    with pytest.raises(InputError, match="too small"):
        load_photo(tiny)


def test_folder_lists_photos_only(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_photos(tmp_path)] == ["a.png", "b.JPG"]
    with pytest.raises(InputError, match=r"put files ending in \.jpg"):
        list_photos(tmp_path / "folder.png")


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
    frames = list(video_frames(path))
    assert is_video(path) and [frame.shape for frame in frames] == [(48, 64, 3)] * 5
    np.testing.assert_allclose([frame.mean() for frame in frames], [0, 40, 80, 120, 160], atol=4)


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
    monkeypatch.setattr("pchmr.data.photos.MAX_FRAMES", 3)
    with pytest.raises(InputError, match="more than 3 frames: cut it"):
        list(video_frames(path))
    monkeypatch.setattr("pchmr.data.photos.MAX_FRAME_PIXELS", 64 * 47)
    with pytest.raises(InputError, match="scale it"):
        video_frames(path)


def test_missing_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install pchmr\[video\]"):
        video_frames(tmp_path / "clip.mp4")
