"""The live page in a headless Chromium whose camera shows a rendered walk: rates, blocks, errors.

The network alone is held against native onnxruntime on as many threads; with the photo-trained
landmarks, where they are installed, the mesh is held against the person.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pchmr.bench.live.chromium import browsing, need_chromium, state, wait_for
from pchmr.bench.live.forms import milliseconds
from pchmr.bench.live.page import READY, camera_flags, errors_on_person, files_of, serving
from pchmr.bench.live.walking import walking
from pchmr.bench.models import row
from pchmr.body import BodyModel, load_body
from pchmr.config import BenchConfig, LiveConfig, SettingError
from pchmr.device.chosen import chosen_model
from pchmr.device.live import PRIOR
from pchmr.device.local_server import Site
from pchmr.device.runtime import OnnxModel
from pchmr.perception.fetched import missed
from pchmr.progress import say
from pchmr.results import MEASURED, ResultRow, Target

CLIP_SECONDS, WATCHED_SECONDS = 1.6, 15
RATE, BLOCK, ON_PERSON = Target(">=", 15), Target("<=", 50), Target("<=", 4.0)
FRAMES = 12
LONGEST = "longest block of the main thread (0: none over 50 ms)"


def in_the_browser(config: BenchConfig) -> Iterator[ResultRow]:
    """Rows of the network alone, then of the landmarks where they are installed.

    Raises:
        SettingError: There is no Chromium, or the page does not start in it.
        PagesError: The scripts were not built.
    """
    need_chromium()
    body = load_body()
    with watched(body, landmarks=False) as (page, _):
        yield from _alone(page, body, config.repeats)
    if note := missed(PRIOR):
        say(f"left out: the mesh on the person: {note}")
        return
    with watched(body, landmarks=True) as (page, clip):
        page.wait_for_timeout(1e3 * WATCHED_SECONDS)
        errors = errors_on_person(page, clip, frames=FRAMES)
        told = state(page)
        yield row("live with landmarks, meshes drawn", told["fps"], "meshes/s", MEASURED)
        yield row(f"live with landmarks, {LONGEST}", told["longest"], "ms", BLOCK)
        error = 100 * statistics.median(errors)
        yield row(
            f"live, mesh on the person in {len(errors)} frames", error, "% of size", ON_PERSON
        )


def _alone(page, body: BodyModel, repeats: int) -> Iterator[ResultRow]:  # type: ignore[no-untyped-def]
    page.wait_for_timeout(1e3 * WATCHED_SECONDS)
    told = state(page)
    threads, fastest = told["threads"], min(ms for ms in told["timings"].values() if ms)
    yield row("live, fastmetro_xs, meshes drawn", told["fps"], "meshes/s", RATE)
    yield row(f"live, fastmetro_xs, {LONGEST}", told["longest"], "ms", BLOCK)
    page.keyboard.press("s")
    native = milliseconds(OnnxModel(chosen_model(LiveConfig(), body).path, threads), repeats)
    words = f"live, fastmetro_xs on {told['provider']} over native onnxruntime, threads: {threads}"
    yield row(words, fastest / native, "x", MEASURED)


@contextmanager
def watched(body: BodyModel, *, landmarks: bool) -> Iterator[tuple]:
    """The live page with its camera on, and the clip that the camera shows."""
    clip = walking(body, seconds=CLIP_SECONDS)
    files = files_of(LiveConfig(), landmarks=landmarks)
    with (
        TemporaryDirectory(prefix="pchmr-bench-", ignore_cleanup_errors=True) as name,
        serving(Site.of_table(files)) as server,
        browsing(Path(name), *camera_flags(clip, Path(name))) as page,
    ):
        page.goto(server.address)
        wait_for(page, READY)
        if state(page)["status"] != "ready":
            raise SettingError(f"the live page does not start: {state(page)['words']}")
        page.keyboard.press("c")
        wait_for(page, "window.pchmr.state.meshes >= 3")
        yield page, clip
