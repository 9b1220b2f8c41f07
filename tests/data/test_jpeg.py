"""Stored crops: Pillow's pixels, and no memory for a header that lies."""

import io

import numpy as np
import pytest
from PIL import Image

from pchmr.data import jpeg
from pchmr.data.jpeg import decoded


def picture(side: int, quality: int = 90, **options) -> bytes:
    rng = np.random.default_rng(side)
    small = rng.integers(0, 255, (side // 4 + 1, side // 4 + 1, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
    image.save(buffer, format="JPEG", quality=quality, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("side", "options"),
    [
        (80, {}),
        (81, {"quality": 60}),
        (280, {}),
        (64, {"subsampling": 0}),
        (64, {"progressive": 1}),
    ],
)
def test_pixels_are_those_of_pillow(side: int, options: dict, monkeypatch) -> None:
    data = picture(side, **options)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (decoded(data, side).permute(1, 2, 0).numpy() == wanted).all()

    def absent(_: bytes) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(jpeg, "_by_torchvision", absent)
    assert (decoded(data, side).permute(1, 2, 0).numpy() == wanted).all()


def test_a_header_that_lies_takes_no_memory() -> None:
    data = picture(64)
    place = data.index(b"\xff\xc0")
    huge = data[: place + 5] + b"\xff\xff\xff\xff" + data[place + 9 :]
    for damaged in (huge, data[:200], data[:-60], b"", b"\xff\xd8", data[:1], picture(65)):
        with pytest.raises(ValueError, match="JPEG"):
            decoded(damaged, 64)
