"""What `pchmr data import` and `data export` do: bodies, bars and words around the readers."""

from pathlib import Path

from pchmr.body import BodyModel, load_body
from pchmr.body.files import BodyFileError, with_genders
from pchmr.config import DataConfig
from pchmr.config.verbs import POSE_SETS
from pchmr.data.errors import InputError
from pchmr.data.mocap import import_poses
from pchmr.data.sets.draft import MANIFEST
from pchmr.data.sets.folder import ImportedPeople, load_body_of
from pchmr.data.sets.importing import Job, import_set
from pchmr.data.sets.metro_writer import write_tsv
from pchmr.data.sets.part import MISSING, ReadOptions
from pchmr.data.sets.placing import Bodies
from pchmr.progress import bar, say

DEFAULT_SIZE = 224


def run_import(config: DataConfig) -> Path:
    """Imports a set into a folder for `--data`, or recordings of motion into one for `--poses`."""
    name, source, folder = config.arguments[0], Path(config.arguments[1]), config.output
    if not source.exists():
        raise InputError(f"{source} does not exist: give the folder or file of {name}")
    if name in POSE_SETS:
        with bar(f"poses of {name}", 0) as advance:
            return import_poses(name, source, folder, load_body(config.body), advance.to)
    job = Job(
        name=name,
        source=source,
        folder=folder,
        bodies=_bodies(config),
        image_size=config.data_options.image_size or DEFAULT_SIZE,
        options=ReadOptions(every=config.every),
    )
    is_old = (folder / MANIFEST).is_file()
    with bar(f"parts of {name}", 0) as advance:
        manifest = import_set(job, advance.to)
    if is_old:
        since = "; pictures were missing" if manifest["left_out"].get(MISSING) else ""
        say(f"{folder} was imported already{since}: delete it to import what has come since")
    say(f"licence: {manifest['licence']} ({manifest['page']})")
    for what, count in {**manifest["counts"], **manifest["left_out"]}.items():
        say(f"{count:>9} {what}")
    say(f"look at it: pchmr data check {folder}")
    return folder


def _bodies(config: DataConfig) -> Bodies:
    """The neutral body, and those of both genders where they are to make the truth."""
    neutral = load_body(config.body)
    if config.truth == "neutral":
        return Bodies(neutral, {})
    own: dict[str, BodyModel] = {}
    try:
        if config.body is not None:
            own = dict(with_genders(neutral, config.body).by_gender.items())  # type: ignore[arg-type]
    except BodyFileError as error:
        if config.truth == "gendered":
            raise
        say(f"truth of the neutral body: {error}")
    if config.truth == "gendered" and not own:
        raise InputError("--truth gendered needs --body FOLDER with a female and a male body file")
    return Bodies(neutral, own)


def imported(config: DataConfig, folder: Path) -> ImportedPeople:
    """All people of an imported folder."""
    body = load_body_of(folder, config.body) if config.body else None
    return ImportedPeople(folder, None, body=body)


def export_set(config: DataConfig) -> Path:
    """Writes an imported folder as METRO's TSV files, one YAML a split."""
    people = imported(config, Path(config.arguments[0]))
    with bar("rows", len(people)) as advance:
        return write_tsv(people, config.output, advance)
