"""Makes the shipped environments of world 2 of CC0 panoramas: `python -m ... TARBALL`.

The panoramas are the HDR maps (512 x 256, Poly Haven, CC0-1.0) of the npm package
`@pmndrs/assets` 1.7.0; the tarball is named by its hash and never committed. What ships is a small
picture of each and its light: nine spherical-harmonic coefficients a channel and one direction
that casts shadows. Needs OpenEXR (`pip install pchmr[build]`).
"""

import base64
import hashlib
import io
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.ndimage import gaussian_filter

from pchmr.config import SettingError
from pchmr.data.synthetic.environments import ASSET, WHITE, basis, directions

TARBALL_SHA256 = "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc"
NAMES = (
    "apartment",
    "bridge",
    "city",
    "dawn",
    "esplanade",
    "forest",
    "hall",
    "lab",
    "lobby",
    "night",
    "park",
    "studio",
    "sunrise",
    "sunset",
    "venice",
    "warehouse",
    "workshop",
)
KEY_CONE = 0.93  # cosine of the half angle that counts as the one light
MIDDLE = 0.18  # radiance of the median pixel below the horizon, after scaling
MOST_LIGHT, TINT = 6.0, (0.75, 1.2)
QUALITY = 88


def build(tarball: Path, path: Path = ASSET) -> None:
    """Writes the asset.

    Raises:
        SettingError: The tarball is another one.
    """
    if hashlib.sha256(tarball.read_bytes()).hexdigest() != TARBALL_SHA256:
        raise SettingError(f"{tarball} is not @pmndrs/assets 1.7.0: get it with `npm pack`")
    arrays: dict[str, np.ndarray] = {"names": np.array(NAMES)}
    lights, colors, irradiance = [], [], []
    for name in NAMES:
        radiance = _scaled(_read(tarball, name))
        direction, color, rest = _key_light(radiance)
        lights.append(direction)
        colors.append(color)
        irradiance.append(_irradiance(rest))
        arrays[f"picture_{name}"] = np.frombuffer(_packed(radiance), dtype=np.uint8)
    arrays["light_direction"] = np.stack(lights).astype(np.float32)
    arrays["light_color"] = np.stack(colors).astype(np.float32)
    arrays["irradiance"] = np.stack(irradiance).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)


def _read(tarball: Path, name: str) -> Float[np.ndarray, "height width 3"]:
    import OpenEXR  # pyright: ignore[reportMissingImports]

    with tarfile.open(tarball) as archive:
        member = archive.extractfile(f"package/hdri/{name}.exr.js")
        assert member is not None
        text = member.read().decode()
    data = base64.b64decode(text[text.index("base64,") + 7 :].rstrip("';\n "))
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(data)
        file.flush()
        with OpenEXR.File(file.name) as image:
            return np.asarray(image.channels()["RGB"].pixels, dtype=np.float64)


def _scaled(radiance: np.ndarray) -> np.ndarray:
    """Radiance in units in which the ground's median is `MIDDLE`, dead pixels mended."""
    radiance = np.nan_to_num(np.clip(radiance, 0, None))
    below = radiance[len(radiance) // 2 :].mean(axis=-1)
    return radiance * (MIDDLE / np.median(below))


def _solid_angle(height: int, width: int) -> Float[np.ndarray, "height 1"]:
    polar = (np.arange(height) + 0.5) * np.pi / height
    return (np.sin(polar) * (np.pi / height) * (2 * np.pi / width))[:, None]


def _key_light(radiance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Direction and irradiance of the strongest light, and the picture without it."""
    toward = directions(*radiance.shape[:2])
    area = _solid_angle(*radiance.shape[:2])
    edges: Any = ("nearest", "wrap")  # SciPy takes a mode an axis, its stubs do not
    bright = gaussian_filter(radiance.mean(axis=-1) * area, 3.0, mode=edges)
    bright[toward[..., 1] < 0.1] = 0
    direction = toward[np.unravel_index(bright.argmax(), bright.shape)]
    inside = (toward @ direction) > KEY_CONE
    level = np.median(radiance[~inside & (toward[..., 1] > 0)], axis=0)
    excess = np.where(inside[..., None], np.clip(radiance - level, 0, None), 0)
    power = (excess * area[..., None]).sum(axis=(0, 1))
    weight = excess.mean(axis=-1) * area
    direction = (toward * weight[..., None]).sum(axis=(0, 1))
    return direction / np.linalg.norm(direction), _plausible(power), radiance - excess


def _plausible(power: np.ndarray) -> np.ndarray:
    """The light's color without what a clipped channel of the panorama did to it."""
    level = float(np.median(power))
    return min(level, MOST_LIGHT) * np.clip(power / level, *TINT)


def _irradiance(radiance: np.ndarray) -> Float[np.ndarray, "9 3"]:
    """Coefficients of reflected light of a white surface as a function of its normal.

    Source: Ramamoorthi and Hanrahan 2001, "An efficient representation for irradiance
    environment maps"; bands are scaled by pi, 2 pi / 3, pi / 4 and the result divided by pi.
    """
    toward = directions(*radiance.shape[:2])
    area = _solid_angle(*radiance.shape[:2])
    values = basis(toward)
    raw = np.einsum("hwb,hwc->bc", values, radiance * area[..., None])
    return raw * np.array([1.0, *(2 / 3,) * 3, *(1 / 4,) * 5])[:, None]


def _packed(radiance: np.ndarray) -> bytes:
    """The picture as a camera would store it, white at `WHITE`."""
    shown = np.clip(radiance / WHITE, 0, 1) ** (1 / 2.2)
    buffer = io.BytesIO()
    Image.fromarray((255 * shown + 0.5).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


if __name__ == "__main__":
    build(Path(sys.argv[1]))
