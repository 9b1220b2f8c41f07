"""Photos and videos in, meshes out: finds the crop, predicts, follows a person, writes the files.

There is no detector: without a box the whole image is looked at first, then twice the square around
the mesh seen so far; in a video the square follows the last mesh. One person an image.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track

from pchmr.body import load_body
from pchmr.compute import pick_device
from pchmr.config import PredictConfig, SettingError, require
from pchmr.data.crops import Box, check_box
from pchmr.data.errors import InputError
from pchmr.data.photos import (
    exif_focal_length,
    is_video,
    list_photos,
    load_photo,
    video_frames,
)
from pchmr.inference.outputs import write_person
from pchmr.inference.predictor import Person, Pixels, Predictor
from pchmr.models import load_model
from pchmr.models.checkpoint import read_checkpoint
from pchmr.runs import alone, make_private

__all__ = ["Person", "Predictor", "load_predictor", "run", "write_person"]

console = Console(stderr=True, highlight=False, soft_wrap=True)


def parse_bbox(text: str | None) -> Box | None:
    """Corners of a box given as `x,y,w,h`.

    Raises:
        SettingError: No four numbers, or a box without area.
    """
    if text is None:
        return None
    number = r"\s*([-+]?\d+(?:\.\d*)?)\s*"
    match = re.fullmatch(",".join([number] * 4), text)
    if not match:
        raise SettingError(f"--bbox {text!r} must be four numbers x,y,w,h in pixels")
    x, y, width, height = map(float, match.groups())
    require(width > 0 and height > 0, f"--bbox {text!r} has no area: give x,y,w,h with w, h > 0")
    return x, y, x + width, y + height


def load_predictor(config: PredictConfig) -> tuple[Predictor, str]:
    """Model and body that a config asks for, and one line on what to expect; may be empty."""
    options = config.model_options
    body = load_body(options.body).to(pick_device(config.device))
    model, started_from = load_model(options, body.hierarchy, seed=0)
    kind = started_from["kind"]
    synthetic = kind == "shipped"
    if kind == "checkpoint" and options.checkpoint:
        synthetic = bool(read_checkpoint(options.checkpoint)[1].get("synthetic"))
    note = ""
    if kind == "random":
        note = "note: these weights are random, the mesh says nothing about the picture"
    elif synthetic:
        note = "note: this model saw rendered people only; photos are out of its domain"
    return Predictor(model.to(body.v_template.device).eval(), body, model.image_size), note


@alone
def run(config: PredictConfig) -> Path:
    """Predicts a photo, a folder of photos or a video, and returns the folder of the results.

    Raises:
        InputError: A file that cannot be used; in a folder only if that is so for all of them.
        SettingError: A setting that cannot be used.
    """
    bbox, images = parse_bbox(config.bbox), config.images
    require(
        bbox is None or not images.is_dir(),
        "--bbox belongs to one photo or video: give that file instead of a folder",
    )
    make_private(config.output, "--output")
    if images.is_dir():
        photos = list_photos(images)
        predictor, note = load_predictor(config)
        done = _predict_folder(predictor, photos, config.output)
    elif is_video(images):
        frames = video_frames(images)
        predictor, note = load_predictor(config)
        done = _predict_video(predictor, frames, bbox, config.output / images.stem)
    else:
        image = load_photo(images)
        _check(bbox, image)
        predictor, note = load_predictor(config)
        done = _predict_photo(predictor, images, image, bbox, config.output / images.stem)
    if note:
        console.print(note)
    console.print(f"{done}: overlay, mesh and parameters in {config.output.resolve()}")
    return config.output


def _check(bbox: Box | None, image: Pixels) -> None:
    if bbox is not None:
        check_box(bbox, image.shape[1], image.shape[0])


def _predict_photo(
    predictor: Predictor, path: Path, image: Pixels, bbox: Box | None, stem: Path
) -> str:
    person = predictor.predict(image, bbox)
    write_person(stem, image, person, predictor.body, exif_focal_length(path))
    return "1 photo"


def _predict_folder(predictor: Predictor, photos: list[Path], output: Path) -> str:
    """Predicts photos one by one; a bad one is told and left out."""
    num_failed = 0
    for path, name in zip(_watched(photos), _names(photos), strict=True):
        try:
            _predict_photo(predictor, path, load_photo(path), None, output / name)
        except InputError as error:
            num_failed += 1
            console.print(f"left out: {error}", markup=False)
    if num_failed == len(photos):
        raise InputError(f"none of the {num_failed} photos in {photos[0].parent} can be read")
    left_out = f" ({num_failed} left out)" if num_failed else ""
    return f"{len(photos) - num_failed} photos{left_out}"


def _watched(photos: list[Path]) -> Iterator[Path]:
    """The photos, with a progress bar for those who wait."""
    yield from track(photos, description="photos", console=console, transient=True)


def _names(photos: list[Path]) -> list[str]:
    """Names of the results: the photo's, with its suffix where another photo has the same name."""
    stems = [path.stem for path in photos]
    return [
        path.stem if stems.count(path.stem) == 1 else path.name.replace(".", "_") for path in photos
    ]


def _predict_video(
    predictor: Predictor, frames: Iterator[Pixels], bbox: Box | None, output: Path
) -> str:
    count = 0
    people = track(
        predictor.track(frames, bbox), description="frames", console=console, transient=True
    )
    for frame, person in people:
        write_person(output / f"{count:06d}", frame, person, predictor.body)
        count += 1
    return f"{count} frames"
