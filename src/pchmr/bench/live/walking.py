"""A rendered person who walks, as the file of a fake camera, with every vertex known.

Each frame says its own number in blocks of the right margin, so that who looks at the page knows
which one it shows.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image

from pchmr.bench.walks import render_walk
from pchmr.body import BodyModel
from pchmr.data.synthetic import SyntheticRecipe
from pchmr.predict.posed import posed
from pchmr.web.bundles import cache_folder

WIDTH, HEIGHT = 640, 480
BITS, BLOCK = 8, 24
DOMAIN = "B"
VERSION = 1  # of what this file does to the frames
LAST = "frames.json"  # written last
LEFT = (WIDTH - HEIGHT) // 2  # of the picture in the frame
REPEATED = 3  # copies of a frame: a fake camera plays 30 a second


@dataclass(frozen=True)
class Walking:
    """Frames of a clip, and where each vertex is seen in them, pixels of the frame."""

    frames: list[bytes]
    pixels: ndarray

    def write_mjpeg(self, path: Path) -> Path:
        """The file that `--use-file-for-fake-video-capture` takes."""
        path.write_bytes(b"".join(frame for frame in self.frames for _ in range(REPEATED)))
        return path


def walking(body: BodyModel, *, seconds: float, fps: float = 10.0, seed: int = 0) -> Walking:
    """A clip; it is rendered once for this code and kept in the user's cache."""
    recipe = SyntheticRecipe(
        domain=DOMAIN, split="test", num_samples=1, image_size=HEIGHT, seed=seed, version=2
    )
    key = f"{recipe.content_hash()[:12]}-{body.sha256[:12]}-{seconds:g}-{fps:g}-{VERSION}"
    folder = cache_folder() / "walking" / key
    if not (folder / LAST).is_file():
        _save(rendered(body, seconds=seconds, fps=fps, seed=seed), folder)
    sizes = json.loads((folder / LAST).read_text())
    content, ends = (folder / "frames.bin").read_bytes(), np.cumsum(sizes).tolist()
    frames = [content[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return Walking(frames, np.load(folder / "pixels.npy"))


def rendered(body: BodyModel, *, seconds: float, fps: float, seed: int) -> Walking:
    """Renders a clip."""
    walk = render_walk(body, domain=DOMAIN, seconds=seconds, fps=fps, size=HEIGHT, seed=seed)
    vertices, _ = posed(body, walk.global_orient, walk.body_pose, walk.betas, walk.transl)
    seen = vertices @ walk.intrinsics.T
    pixels = seen[..., :2] / seen[..., 2:] + [LEFT, 0]
    return Walking([_jpeg(image, at) for at, image in enumerate(walk.images)], pixels)


def _jpeg(image: ndarray, number: int) -> bytes:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[:, LEFT : LEFT + HEIGHT] = image
    for bit in range(BITS):
        top = bit * BLOCK
        frame[top : top + BLOCK, WIDTH - BLOCK :] = 255 * (number >> bit & 1)
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=92)
    return stream.getvalue()


READ_NUMBER = f"""(() => {{
  const canvas = document.getElementById("picture"), context = canvas.getContext("2d");
  let number = 0;
  for (let bit = 0; bit < {BITS}; bit++) {{
    const y = bit * {BLOCK} + {BLOCK // 2};
    if (context.getImageData({WIDTH - BLOCK // 2}, y, 1, 1).data[0] > 127) number |= 1 << bit;
  }}
  return number;
}})()"""


def _save(walking: Walking, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pixels.npy", walking.pixels.astype(np.float32))
    (folder / "frames.bin").write_bytes(b"".join(walking.frames))
    (folder / LAST).write_text(json.dumps([len(frame) for frame in walking.frames]))
