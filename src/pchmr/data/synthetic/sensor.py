"""What a camera does to a picture: blur, gamma, noise and compression."""

import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

STORED_QUALITY = 90
QUALITY_RANGE = (45, 95)
GAIN_RANGE = (0.8, 3.0)


def expose(
    image: Float[np.ndarray, "height width 3"],
    blur: float,
    exposure: float,
    gamma: float,
    noise: float,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "height width 3"]:
    """An 8-bit picture of reflected light in [0, 1].

    Args:
        image: RGB.
        blur: Standard deviation in shares of the image's side.
        exposure: Mean brightness that the automatic gain aims at.
        gamma: Exponent.
        noise: Standard deviation.
        rng: Draws the noise and the compression before storage.
    """
    sigma = blur * image.shape[0]
    light = np.clip(image, 0, 1)
    if sigma > 0.1:
        light = gaussian_filter(light, (sigma, sigma, 0), truncate=3.0)
    gain = np.clip(exposure / max(float(light.mean()), 1e-3), *GAIN_RANGE)
    light = np.clip(gain * light, 0, 1)
    grain = rng.standard_normal(light.shape, dtype=np.float32)
    light = np.clip(light**gamma + noise * grain, 0, 1)
    picture = (255 * light + 0.5).astype(np.uint8)
    quality = int(rng.integers(*QUALITY_RANGE))
    return picture if quality >= STORED_QUALITY else decode(encode(picture, quality))


def encode(image: UInt8[np.ndarray, "height width 3"], quality: int = STORED_QUALITY) -> bytes:
    """JPEG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def decode(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """RGB of JPEG bytes."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
