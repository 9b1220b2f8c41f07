"""Photos and videos in, meshes out: finds the person, predicts, follows, writes the files.

People are found as `annotate` finds them (`pchmr.perception.detection`); where nobody is, the whole
image is looked at. In a video the square follows the last mesh. One person an image.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from rich.progress import track

from pchmr.body import load_body
from pchmr.compute import pick_device
from pchmr.config import DivergedError, PredictConfig, require
from pchmr.data.crops import check_box
from pchmr.data.errors import InputError
from pchmr.data.photos import Photo, read_photo
from pchmr.data.pictures import Pictures, find_pictures
from pchmr.data.videos import is_video, video_frames
from pchmr.inference.outputs import write_person
from pchmr.inference.predictor import Person, Pixels, Predictor
from pchmr.models import load_model
from pchmr.models.checkpoint import read_checkpoint
from pchmr.perception import load_keypoint_prior
from pchmr.perception.boxes import parse_box
from pchmr.perception.detection import PeopleFinder
from pchmr.perception.interfaces import Box, PersonPrior
from pchmr.progress import console, say
from pchmr.runs import alone, make_private

__all__ = ["Person", "Predictor", "load_predictor", "run", "write_person"]


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
    finder = None
    if config.bbox is None:
        finder = PeopleFinder(cast(PersonPrior, load_keypoint_prior("embedded")))
    model = model.to(body.v_template.device).eval()
    return Predictor(model, body, model.image_size, finder), note


@alone
def run(config: PredictConfig) -> Path:
    """Predicts a photo, a folder of photos or a video, and returns the folder of the results.

    Raises:
        InputError: A file that cannot be used; in a folder only if that is so for all of them.
        SettingError: A setting that cannot be used.
    """
    box, images = parse_box(config.bbox), config.images
    require(
        box is None or not images.is_dir(),
        "--bbox belongs to one photo or video: give that file instead of a folder",
    )
    require(
        not images.is_dir() or images.resolve() != config.output.resolve(),
        f"--output {config.output} is the folder of the photos: give another",
    )
    pictures = find_pictures(images)
    stem = config.output / pictures.names[0]
    make_private(config.output, "--output")
    if images.is_dir():
        predictor, note = load_predictor(config)
        done = _predict_folder(predictor, pictures, config.output)
    elif is_video(images):
        frames = video_frames(images)
        predictor, note = load_predictor(config)
        done = _predict_video(predictor, (image for image, _ in frames), box, stem)
    else:
        photo = read_photo(images)
        _check(box, photo.pixels)
        predictor, note = load_predictor(config)
        _predict_photo(predictor, images, photo, box, stem)
        done = "1 photo"
    for line in (note, pictures.left_out):
        if line:
            say(line)
    say(f"{done}: overlay, mesh and parameters in {config.output.resolve()}")
    return config.output


def _check(box: Box | None, image: Pixels) -> None:
    if box is not None:
        check_box(box.bbox_xyxy, image.shape[1], image.shape[0])


def _predict_photo(
    predictor: Predictor, path: Path, photo: Photo, box: Box | None, stem: Path
) -> None:
    person = predictor.predict(photo.pixels, None if box is None else box.bbox_xyxy)
    if photo.note:
        say(photo.note)
    _tell_found(path, person)
    focal = None if photo.focal is None else photo.focal.pixels
    write_person(stem, photo.pixels, person, predictor.body, focal)


def _tell_found(path: Path, person: Person) -> None:
    """Says where the choice of the person is not sure."""
    if person.num_found == 0:
        say(f"{path}: no person was found, so the whole image was looked at; give --bbox x,y,w,h")
    elif person.num_found is not None and person.num_found > 1:
        say(
            f"{path}: {person.num_found} people were found, the surest is shown; choose with "
            "--bbox x,y,w,h"
        )


def _predict_folder(predictor: Predictor, pictures: Pictures, output: Path) -> str:
    """Predicts photos one by one; a bad one is told and left out."""
    num_failed, photos = 0, pictures.files
    for path, name in zip(_watched(photos), pictures.names, strict=True):
        try:
            _predict_photo(predictor, path, read_photo(path), None, output / name)
        except (InputError, DivergedError) as error:
            num_failed += 1
            say(f"left out: {error}")
    if num_failed == len(photos):
        raise InputError(f"none of the {num_failed} photos in {photos[0].parent} can be read")
    left_out = f" ({num_failed} left out)" if num_failed else ""
    return f"{len(photos) - num_failed} photos{left_out}"


def _watched(photos: tuple[Path, ...]) -> Iterator[Path]:
    """The photos, with a progress bar for those who wait."""
    yield from track(photos, description="photos", console=console, transient=True)


def _predict_video(
    predictor: Predictor, frames: Iterator[Pixels], box: Box | None, output: Path
) -> str:
    count = 0
    corners = None if box is None else box.bbox_xyxy
    people = track(
        predictor.track(frames, corners), description="frames", console=console, transient=True
    )
    for frame, person in people:
        if not count:
            _tell_found(output, person)
        write_person(output / f"{count:06d}", frame, person, predictor.body)
        count += 1
    return f"{count} frames"
