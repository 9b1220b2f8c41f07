"""`pchmr live --native`: a camera or a video in Python, frame by frame, as fast as it goes.

The exported network runs under onnxruntime; people are followed and the body is refitted in every
frame, as the page does it. What comes out is what `pchmr predict` writes; no picture is kept.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from jaxtyping import Float
from torch import Tensor, nn

from pchmr.config import LiveConfig, PredictConfig, SettingError, require
from pchmr.data.errors import InputError
from pchmr.device.chosen import chosen_model
from pchmr.device.runtime import OnnxModel, fastest_model
from pchmr.inference import Predictor
from pchmr.predict.formats import WRITERS, Export, Frames
from pchmr.predict.sightings import Sightings, joined, sighting
from pchmr.predict.steady import steady_clip
from pchmr.predict.tools import Tools, open_tools
from pchmr.predict.video import clip_frames, is_clip, tell
from pchmr.predict.watching import Watcher
from pchmr.progress import say
from pchmr.runs import make_private

CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
SECONDS_A_LINE = 2.0


class Network(nn.Module):
    """An exported network in the place of the one that it was made of."""

    def __init__(self, exported: OnnxModel) -> None:
        super().__init__()
        self._exported = exported

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> SimpleNamespace:
        """The outputs by their names."""
        return SimpleNamespace(**self._exported(images))


def watch(config: LiveConfig) -> None:
    """Reads the source until it ends, the time is over or Ctrl-C, then writes the files.

    Raises:
        SettingError: A setting that cannot be used, or no such camera.
        InputError: The file cannot be read.
    """
    source = config.source or "0"
    number = int(source) if source.isascii() and source.isdecimal() else None
    options = PredictConfig(
        images=Path(source),
        format=config.format,
        output=config.output,
        smoothing="live",
        model_options=config.model_options,
    )
    require(
        number is None or "overlay" not in options.formats,
        "--format overlay draws over a file's frames, and a camera's are not kept: leave it out",
    )
    frames = _file_frames(Path(source)) if number is None else camera_frames(number)
    make_private(config.output, "--output")
    tools = _tools(options, config)
    seen = _watched(frames, Watcher(tools, None), config.seconds)
    if not seen:
        raise InputError(f"{source} gave no frame: give a video, or another camera")
    name = f"camera{number}" if number is not None else Path(source).stem
    _write(seen, tools, options, config.output / name)


def _file_frames(path: Path) -> Frames:
    if not is_clip(path):
        raise InputError(f"{path} is no video that is read here: give one, or a camera's number")
    return clip_frames(path)


def _tools(options: PredictConfig, config: LiveConfig) -> Tools:
    """What `predict` works with, the exported network in it."""
    tools = open_tools(options)
    chosen = chosen_model(config, tools.body)
    say(f"{chosen.name} ({chosen.form}), sha256 {chosen.sha256[:16]}")
    for note in tools.notes:
        say(note)
    exported, spent = fastest_model(chosen.path)
    told = ", ".join(f"{threads}: {ms:.0f} ms" for threads, ms in spent.items())
    say(f"threads by measuring: {exported.threads} ({told})")
    network = Network(exported)
    return replace(tools, predictor=Predictor(network, tools.body, chosen.image_size))


def camera_frames(number: int) -> Frames:
    """RGB frames of a camera with the times at which they came.

    Raises:
        SettingError: PyAV is missing, the system is not known, or there is no such camera.
    """
    try:
        import av
    except ImportError:
        raise SettingError("a camera needs PyAV: pip install 'pchmr[video]'") from None
    if sys.platform not in CAMERAS:
        raise SettingError("cameras are read on Linux and macOS only: open the page in its place")
    kind, place = CAMERAS[sys.platform]
    name = place.format(number)
    try:
        container = av.open(name, format=kind)
    except (OSError, ValueError) as error:
        raise SettingError(
            f"camera {name} cannot be opened ({reason_of(error)}): connect one, close what uses "
            "it, or give another number or a video"
        ) from None
    return _decoded(container)


def reason_of(error: Exception) -> str:
    """Why something failed, without numbers of errors and names of files."""
    return str(getattr(error, "strerror", None) or error)


def _decoded(container) -> Frames:  # type: ignore[no-untyped-def]
    began = time.monotonic()
    with container:
        try:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24"), time.monotonic() - began
        except (OSError, ValueError) as error:  # PyAV's own are of both kinds
            raise InputError(f"the camera stopped ({reason_of(error)})") from None


def _watched(frames: Frames, look: Watcher, seconds: float | None) -> list[Sightings]:
    """People of each frame as it comes, told now and then; what was seen outlives the source.

    Raises:
        InputError: The source failed before its first frame.
    """
    seen: list[Sightings] = []
    glance, spent, told = None, [], time.monotonic()
    try:
        for image, moment in _until(frames, seconds):
            began = time.perf_counter()
            glance = look.see(image, moment, glance)
            people = look.people([glance])[0]
            seen.append(sighting(people, moment, image.shape[1], image.shape[0]))
            spent.append(time.perf_counter() - began)
            if time.monotonic() - told >= SECONDS_A_LINE:
                _tell_speed(spent, len(people.track_id))
                spent, told = [], time.monotonic()
    except KeyboardInterrupt:
        say("stopped: what was seen is written")
    except InputError as error:
        if not seen:
            raise
        say(f"{error}: what was seen until then is written")
    if spent:
        _tell_speed(spent, len(seen[-1].frame))
    return seen


def _until(frames: Frames, seconds: float | None) -> Iterator:
    began = time.monotonic()
    for frame in frames:
        if seconds is not None and time.monotonic() - began >= seconds:
            return
        yield frame


def _tell_speed(spent: list[float], count: int) -> None:
    latency = statistics.median(spent)
    people = "nobody in view" if not count else f"{count} {'person' if count == 1 else 'people'}"
    say(f"{people}, {1 / latency:.1f} frames a second, latency {1e3 * latency:.0f} ms")


def _write(seen: list[Sightings], tools: Tools, options: PredictConfig, stem: Path) -> None:
    found = joined(seen)
    clip = steady_clip(found, tools.body, options.smoothing, lambda count: None)
    export = Export(
        clip=clip,
        body=tools.body,
        shape=options.shape,
        frames=lambda: clip_frames(options.images),
    )
    if not len(found.frame):
        say("nobody was in view: no file is written")
        return
    for name in options.formats:
        for written in WRITERS[name](stem, export):
            say(f"wrote {written.name}")
    tell(clip)
