"""Photos and videos in, people out: finds, predicts, refines, writes; what `pchmr predict` does.

Everybody in a picture is found, by a photo-trained network where one was fetched. In a video people
are followed, and every person has one shape and a motion that is steady.
"""

from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

from pchmr.config import DivergedError, PredictConfig, require
from pchmr.data.crops import check_box
from pchmr.data.errors import InputError
from pchmr.data.exif import FocalLength
from pchmr.data.photos import Photo, read_photo
from pchmr.data.pictures import Pictures, find_pictures
from pchmr.perception.boxes import parse_box
from pchmr.perception.interfaces import Box
from pchmr.predict.files import write_people
from pchmr.predict.people import Clip, People
from pchmr.predict.picture import people_of
from pchmr.predict.tools import Tools, open_tools
from pchmr.predict.video import clip_frames, is_clip, predict_clip
from pchmr.predict.watching import Watcher, clip_key
from pchmr.progress import console, say
from pchmr.runs import alone, make_private

__all__ = ["Clip", "People", "Tools", "open_tools", "people_of", "run", "write_people"]


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
    _require_read(config)
    stem = config.output / pictures.names[0]
    make_private(config.output, "--output")
    if images.is_dir():
        tools = open_tools(config)
        done = _predict_folder(tools, config, pictures)
    elif is_clip(images):
        clip_frames(images)  # a file that cannot be read is told before networks are loaded
        tools = open_tools(config)
        done = _predict_clip(tools, config, box, stem)
    else:
        photo = read_photo(images)
        if box is not None:
            check_box(box.bbox_xyxy, photo.pixels.shape[1], photo.pixels.shape[0])
        tools = open_tools(config)
        _predict_photo(tools, config, images, photo, box, stem)
        done = "1 photo"
    for line in (*tools.notes, pictures.left_out):
        if line:
            say(line)
    say(f"{done}: results in {config.output.resolve()}")
    return config.output


def _require_read(config: PredictConfig) -> None:
    """Refuses settings that would be ignored."""
    require(
        not config.model_options.smpl_head,
        "--smpl-head adds what training needs; predictions take the mesh: leave it out",
    )
    if not config.images.is_dir() and is_clip(config.images):
        return
    require(config.smoothing == "clip", "--smoothing belongs to a video: leave it out")


def _predict_photo(
    tools: Tools, config: PredictConfig, path: Path, photo: Photo, box: Box | None, stem: Path
) -> None:
    focal = photo.focal if config.focal is None else FocalLength(config.focal, 0.0)
    people = people_of(photo.pixels, tools, focal, box=box, who=config.person)
    if photo.note:
        say(photo.note)
    _tell_found(path, people)
    write_people(stem, photo.pixels, people, tools.body, config.shape, config.formats)


def _tell_found(path: Path, people: People) -> None:
    """Says who was found, and what is thought of each."""
    count = len(people.track_id)
    if not count:
        say(f"{path}: no person was found; if there is one, give --bbox x,y,w,h around them")
    elif count > 1:
        say(f"{path}: {count} people; choose with --person largest, or a number from 1 to {count}")
    if people.status is None or people.reason is None:
        return
    for number, status, reason in zip(people.track_id, people.status, people.reason, strict=True):
        say(f"{path}: person {number} {status}{f': {reason}' if reason else ''}")


def _predict_folder(tools: Tools, config: PredictConfig, pictures: Pictures) -> str:
    """Predicts photos one by one; a bad one is told and left out."""
    num_failed, photos = 0, pictures.files
    for path, name in zip(_watched(photos), pictures.names, strict=True):
        try:
            photo = read_photo(path)
            _predict_photo(tools, config, path, photo, None, config.output / name)
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


def _predict_clip(tools: Tools, config: PredictConfig, box: Box | None, stem: Path) -> str:
    focal = None if config.focal is None else FocalLength(config.focal, 0.0)
    look = Watcher(tools, focal, box)
    key = clip_key(config, tools)
    body, annotator = tools.body, tools.annotator
    clip = predict_clip(config.images, stem, look, body, config, key, annotator=annotator)
    return f"{len(clip.time_seconds)} frames"
