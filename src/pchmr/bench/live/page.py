"""The live page in a browser: how it is served, started and read; what it shows beside the truth.

The tests of the page drive it through this file too. It asserts nothing.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy import ndarray

from pchmr.bench.live.chromium import ALLOWED, FAKE_CAMERA
from pchmr.bench.live.walking import READ_NUMBER, Walking
from pchmr.config import LiveConfig
from pchmr.device.bundles import page_files
from pchmr.device.live import SCRIPTS, contents
from pchmr.device.local_server import Content, LocalServer, Site

READY = "['ready', 'failed'].includes(window.pchmr?.state.status)"
EVERY = 16  # vertices of which one is compared
PAUSE_MS = 150
READ_MESH = f"""(rows) => {{
  const last = window.pchmr.state.last;
  if (!last) return null;
  const {{focal, cx, cy}} = last.camera, v = last.vertices;
  return [{READ_NUMBER}, rows.map((row) => [
    focal * v[3 * row] / v[3 * row + 2] + cx, focal * v[3 * row + 1] / v[3 * row + 2] + cy])];
}}"""


def files_of(config: LiveConfig, *, landmarks: bool = True) -> dict[str, Content]:
    """Everything that the page loads.

    Args:
        config: Of the page.
        landmarks: Whether the photo-trained networks go along, where they are installed.

    Raises:
        PagesError: The scripts were not built.
    """
    files = {**page_files("live", SCRIPTS), **contents(config)}
    if not landmarks:
        about = json.loads(files["live.json"].read())
        about |= {"has_landmarks": False, "landmarks": "left out"}
        files["live.json"] = Content(json.dumps(about).encode(), "json")
    return files


@contextmanager
def serving(site: Site) -> Iterator[LocalServer]:
    """A server in a thread of its own."""
    server = LocalServer(site)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def camera_flags(clip: Walking, folder: Path) -> tuple[str, ...]:
    """Flags of a browser whose camera shows a clip, over and over."""
    file = clip.write_mjpeg(folder / "camera.mjpeg")
    return FAKE_CAMERA, ALLOWED, f"--use-file-for-fake-video-capture={file}"


def errors_on_person(page, clip: Walking, *, frames: int, looks: int = 400) -> list[float]:  # type: ignore[no-untyped-def]
    """How far the mesh is from the person in each frame that was seen, as shares of their size.

    Args:
        page: With the camera running.
        clip: What its camera shows.
        frames: After so many different ones it ends.
        looks: At most.
    """
    rows = np.arange(0, clip.pixels.shape[1], EVERY)
    found: dict[int, list[float]] = {}
    for _ in range(looks):
        seen = page.evaluate(READ_MESH, rows.tolist())
        if seen is not None:
            number, pixels = seen
            error = _error(clip.pixels[number], rows, np.array(pixels))
            found.setdefault(number, []).append(error)
        if len(found) >= frames:
            break
        page.wait_for_timeout(PAUSE_MS)
    return [float(np.median(values)) for values in found.values()]


def _error(truth: ndarray, rows: ndarray, pixels: ndarray) -> float:
    """Mean distance of vertices from where they are, as a share of the person's size."""
    size = (truth.max(axis=0) - truth.min(axis=0)).max()
    return float(np.linalg.norm(pixels - truth[rows], axis=-1).mean() / size)
