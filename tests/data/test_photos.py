import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from pchmr.data.errors import InputError
from pchmr.data.exif import focal_length
from pchmr.data.photos import exif_focal_length, load_photo, read_photo

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
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.zeros((40, 40), np.float32)).save(deep)
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


def test_deep_cmyk_gray_and_alpha_photos_become_rgb(tmp_path: Path) -> None:
    gray = gradient()[..., 0]
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(load_photo(tmp_path / "deep.png")[..., 1], gray)
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert np.abs(load_photo(tmp_path / "print.jpg").astype(int) - gradient()).mean() < 6
    Image.fromarray(gradient()).convert("LA").save(tmp_path / "alpha.png")
    assert load_photo(tmp_path / "alpha.png").shape == (40, 60, 3)


@pytest.mark.parametrize("name", ["a.tif", "a.jfif", "a.avif"])
def test_formats_of_other_makers(tmp_path: Path, name: str) -> None:
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    form = "JPEG" if name.endswith("jfif") else None
    Image.fromarray(gradient()).save(tmp_path / name, format=form, quality=95)
    assert np.abs(load_photo(tmp_path / name).astype(int) - gradient()).mean() < 6


def test_heic_is_read_through_the_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pip install pchmr[heic]")
    heif.register_heif_opener()
    Image.fromarray(gradient(64, 96)).save(tmp_path / "a.heic", quality=95)
    assert np.abs(load_photo(tmp_path / "a.heic").astype(int) - gradient(64, 96)).mean() < 6


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif"])
def test_of_several_pictures_in_a_file_the_first_is_read_and_told(
    tmp_path: Path, name: str
) -> None:
    frames = [Image.fromarray(np.full((40, 60, 3), 80 * i, np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    photo = read_photo(tmp_path / name)
    assert photo.pixels.max() < 20 and "holds 3 pictures" in photo.note


@pytest.mark.parametrize("value", range(1, 9))
def test_all_eight_orientations_stand_upright(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(load_photo(tmp_path / "a.png"), wanted)


OWN = {0xA405: 26, 0xA002: 4000, 0xA003: 3000}
DSLR = {0x920A: 50.0, 0xA20E: 4438.0, 0xA210: 2, 0xA002: 5184, 0xA003: 3456}


@pytest.mark.parametrize(
    ("tags", "size", "pixels", "sd"),
    [
        (OWN, (4000, 3000), 3004, 0.05),
        (OWN, (2000, 1500), 1502, 0.05),
        (OWN, (3000, 4000), 3004, 0.05),
        (OWN, (1000, 3000), 3004, 0.05),
        (OWN, (900, 2000), 3004, 0.3),
        (OWN, (6000, 6000), 5098, 0.3),
        (DSLR, (5184, 3456), 8736, 0.05),
        (DSLR, (1296, 864), 2184, 0.05),
        ({**DSLR, 0xA210: 3}, (5184, 3456), 22190, 0.05),
        ({**DSLR, 0xA210: 9}, (5184, 3456), None, None),
        ({**OWN, 0xA405: 0}, (4000, 3000), None, None),
    ],
)
def test_focal_lengths_speak_of_the_picture_that_was_taken(tags, size, pixels, sd) -> None:
    found = focal_length(tags, *size)
    if pixels is None:
        assert found is None
    else:
        assert found is not None and found.sd == sd
        assert found.pixels == pytest.approx(pixels, rel=1e-3)


MEASURED = """
import sys
from pathlib import Path
path = Path(sys.argv[1])
from pchmr.bench.memory import forget_peak, peak_bytes
from pchmr.data.photos import load_photo
from pchmr.data.crops import crop, fitted, whole_image
before = forget_peak()
pixels = load_photo(path)
assert pixels.shape == (8640, 5504, 3)
assert crop(pixels, whole_image(5504, 8640), 224).shape == (3, 224, 224)
assert fitted(pixels, 1019, 1600).shape == (1600, 1019, 3)
print((peak_bytes() - before) // 2**20)
"""


@pytest.mark.whole
def test_a_photo_of_48_megapixels_lies_in_memory_twice_at_most(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo = Image.new("RGB", (8640, 5504), (120, 130, 90))
    photo.save(tmp_path / "large.jpg", quality=50, exif=exif)
    call = [sys.executable, "-c", MEASURED, str(tmp_path / "large.jpg")]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400  # MiB: four bytes a pixel to decode, three to keep
