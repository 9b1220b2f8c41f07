"""What a camera does to a picture: blur, gamma, noise and compression."""

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

STORED_QUALITY = 90
QUALITY_RANGE = (45, 95)
GAIN_RANGE = (0.8, 3.0)
MIDDLE_GRAY, SHOULDER = 0.18, 2.5


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


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """How a camera of world 2 takes pictures.

    Attributes:
        white: Gains of the channels: how far the white balance is off.
        aim: Brightness in linear units that the exposure brings the picture's mean to.
        noise: Standard deviation of the sensor's noise at middle gray.
        blur: Standard deviation as a share of the crop's side.
        vignette: How much darker a corner is.
        contrast: Exponent about middle gray.
    """

    white: Float[np.ndarray, "3"]
    aim: float
    noise: float
    blur: float
    vignette: float
    contrast: float


def develop(
    radiance: Float[np.ndarray, "height width 3"], sensor: Sensor, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """An 8-bit picture of linear radiance, as the camera of world 2 stores it.

    Noise grows with the root of light; `rng` draws exposure, noise and compression.
    """
    size = radiance.shape[0]
    light = radiance * sensor.white
    if sensor.blur * size > 0.1:
        light = gaussian_filter(light, (sensor.blur * size, sensor.blur * size, 0), truncate=3.0)
    mean = float(np.minimum(light, 4 * np.median(light) + 1e-3).mean())
    light = light * (sensor.aim * rng.uniform(0.85, 1.2) / max(mean, 1e-3))
    place = np.linspace(-1, 1, size) ** 2
    light = light * (1 - sensor.vignette * (place[:, None] + place[None]) / 2)[..., None]
    light = MIDDLE_GRAY * (light / MIDDLE_GRAY) ** sensor.contrast
    grain = rng.standard_normal(light.shape, dtype=np.float32)
    light = light + sensor.noise * np.sqrt(np.clip(light, 0, 1) * MIDDLE_GRAY + 1e-3) * grain * 2
    bent = light * (1 + light / SHOULDER**2) / (1 + light)
    picture = (255 * np.clip(bent * 1.25, 0, 1) ** (1 / 2.2) + 0.5).astype(np.uint8)
    quality = int(rng.integers(60, 97))
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
