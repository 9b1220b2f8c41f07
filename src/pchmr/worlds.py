"""`pchmr data`: imports and checks data sets, renders people, shows who gets which people."""

import io
import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pchmr.body import BodyModel, load_body
from pchmr.config import DataConfig, FederateConfig
from pchmr.config.verbs import POSE_SETS
from pchmr.data import num_workers, planned_columns
from pchmr.data.mocap.people import write_recorded
from pchmr.data.mocap.poses import PoseSet
from pchmr.data.partition import label_of, label_skew, label_table, make_partition
from pchmr.data.partition import partition_hash as hash_of
from pchmr.data.pose_clusters import POSE, columns_for
from pchmr.data.sets.check import check_set
from pchmr.data.sets.conversion import conversion_floor
from pchmr.data.sets.folder import ImportedPeople
from pchmr.data.sets.tasks import DEFAULT_SIZE as IMPORTED_SIZE
from pchmr.data.sets.tasks import export_set, imported, run_import
from pchmr.data.synthetic import RECIPE_VERSION, SyntheticPeople, SyntheticRecipe
from pchmr.data.synthetic.check import check
from pchmr.data.synthetic.recipe import Split
from pchmr.door import Json
from pchmr.perception import load_keypoint_prior
from pchmr.perception.blazepose.prior import BlazePose
from pchmr.perception.fetched import state
from pchmr.perception.realism import realism
from pchmr.progress import bar, say
from pchmr.runs import alone, write_bytes

DEFAULT_SIZE = 128
PHOTO_PRIOR = "blazepose"
NUM_ASKED = 64
"""Pictures that a photo-trained network is asked about."""


def run(config: DataConfig) -> Path:
    """Does the task and returns the folder or page that it wrote."""
    if config.task in ("import", "export"):
        config = replace(config, output=Path(config.arguments[-1]))
    return _run(config)


@alone
def _run(config: DataConfig) -> Path:
    tasks = {
        "synth": _synth,
        "check": _check_set if config.arguments else _check,
        "partition": _partition,
        "import": run_import,
        "export": export_set,
    }
    written = tasks[config.task](config)
    say(f"written: {written}")
    if following := _following(config):
        say(f"next: {following}")
    return written


def _following(config: DataConfig) -> str | None:
    """What to type after people were made: their size is known here alone."""
    if config.task == "synth":
        size = _recipe(config, "train").image_size
        return f"pchmr train --data {config.output} --image-size {size}"
    if config.task != "import":
        return None
    if config.arguments[0] in POSE_SETS:
        return f"pchmr data synth --poses {config.output}"
    size = config.data_options.image_size or IMPORTED_SIZE
    return f"pchmr evaluate --data {config.output} --image-size {size}"


def _check_set(config: DataConfig) -> Path:
    """One page of figures about an imported set, and the same as JSON."""
    people = imported(config, Path(config.arguments[0]))
    measured, figures = check_set(people)
    measured["summary"]["conversion floor"] = measured["conversion"] = _floor(config, people)
    write_bytes(config.output / "check.json", _json(measured), private=True)
    for name, value in measured["summary"].items():
        say(f"{name}: {value}")
    lead = f"{len(people)} rows, content {people.content_hash[:12]}"
    title = f"{people.about['set']}, as imported"
    return _page(config.output / "check.html", title, lead, figures, measured)


def _floor(config: DataConfig, people: ImportedPeople) -> Json | str:
    """What conversion to the embedded mesh and back costs, or why that is not known."""
    embedded, own = load_body(), people.manifest["body_sha256"]
    if embedded.sha256 in own or embedded.mesh_sha256 in own:
        return "none: the truth is of the embedded body already"
    if config.body is None:
        return "not measured: give the --body that the set was imported with"
    found = conversion_floor(people, load_body(config.body), embedded)
    if found is None:
        return "not measured: the set knows no meshes"
    return {name: round(value, 1) for name, value in asdict(found).items()}


def _recipe(config: DataConfig, split: Split) -> SyntheticRecipe:
    data = config.data_options
    return SyntheticRecipe(
        domain=data.domain,
        split=split,
        num_samples=data.num_samples if split == "train" else data.num_test_samples,
        image_size=data.image_size or DEFAULT_SIZE,
        seed=config.seed if data.data_seed is None else data.data_seed,
        version=data.world or RECIPE_VERSION,
    )


def _synth(config: DataConfig) -> Path:
    """Train, validation and test of a world, each a folder that `--data` reads."""
    body = load_body(config.body)
    poses = PoseSet.open(config.poses) if config.poses else None
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for split in splits:
        recipe = _recipe(config, split)
        with bar(f"people of {recipe.domain}, {split}", recipe.num_samples) as advance:
            if poses is not None:
                write_recorded(config.output / split, recipe, body, poses, advance.to)
                continue
            SyntheticPeople.write(
                config.output / split,
                recipe,
                body,
                advance.to,
                num_workers=num_workers(recipe.num_samples),
            )
    return config.output


def _check(config: DataConfig) -> Path:
    """One page of figures, and the same as JSON."""
    body, recipe = load_body(config.body), _recipe(config, "train")
    people = _people(config, recipe, body)
    checked = check(people, body)
    checked.summary["realism"] = asked(people)
    write_bytes(config.output / "check.json", _json(checked.summary))
    title = f"People of domain {recipe.domain}, as rendered"
    lead = f"{len(people)} rows, {recipe.image_size} px, content {people.content_hash[:12]}"
    return _page(config.output / "check.html", title, lead, checked.figures, checked.summary)


def pictures_of(people: SyntheticPeople) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures, and their evaluation joints in pixels; confidence 0 outside."""
    for row in range(len(people)):
        joints = people.batch([row]).keypoints_2d[0].double().numpy()
        joints[..., :2] = (joints[..., :2] + 1) / 2 * people.image_size
        yield people.image(row), joints


def asked(people: SyntheticPeople) -> Json | str:
    """What a photo-trained network says of the first pictures, or how to have it asked."""
    if state(PHOTO_PRIOR) != "ok":
        note = f"not asked: `pchmr priors get {PHOTO_PRIOR}` fetches a network that has seen photos"
        say(note)
        return note
    prior = load_keypoint_prior(PHOTO_PRIOR)
    assert isinstance(prior, BlazePose)
    shown = islice(pictures_of(people), NUM_ASKED)
    found = asdict(realism(prior.people, prior.names, shown))
    rounded = {n: None if np.isnan(v) else round(v, 4) for n, v in found.items()}
    return {"prior": prior.provenance.version, "image_size": people.image_size, **rounded}


def _people(config: DataConfig, recipe: SyntheticRecipe, body: BodyModel) -> SyntheticPeople:
    count = recipe.num_samples
    with bar(f"people of {recipe.domain}", count) as advance:
        return SyntheticPeople(
            recipe, body, config.data_options.cache, advance.to, num_workers=num_workers(count)
        )


def _partition(config: DataConfig) -> Path:
    """The label-by-client picture of a partition, its skew and its hash.

    Nothing is rendered, unless people are dealt by their poses.
    """
    dealt = FederateConfig(
        seed=config.seed,
        num_clients=config.num_clients,
        clients_per_round=1,
        partition=config.partition,
        partition_options=config.partition_options,
        data_options=config.data_options,
    )
    recipe = _recipe(config, "train")
    if config.partition_options.partition_label == POSE:
        people = SyntheticPeople(recipe, load_body(config.body), config.data_options.cache)
        columns = columns_for(dealt, people)
    else:
        columns = planned_columns(recipe)
    parts = make_partition(dealt, columns, recipe.num_samples)
    label = label_of(config.partition, config.partition_options) or "action"
    sizes = np.array([len(part) for part in parts])
    measured = {
        "partition": config.partition,
        "label": label,
        "sha256": hash_of(parts),
        "num_clients": len(parts),
        "num_samples": int(sizes.sum()),
        "smallest": int(sizes.min()),
        "median": float(np.median(sizes)),
        "largest": int(sizes.max()),
        "mean_skew": float(label_skew(columns[label], parts).mean()),
    }
    figures_file = config.output / "partition.json"
    write_bytes(figures_file, _json(measured))
    if not config.show:
        return figures_file
    figures = {"Samples of each label at each client": _picture(columns[label], label, parts)}
    title = f"Who gets which people: {config.partition}"
    return _page(config.output / "partition.html", title, f"by {label}", figures, measured)


def _picture(labels: np.ndarray, label: str, parts: list[np.ndarray]) -> bytes:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    classes, counts = label_table(labels, parts)
    figure, axes = pyplot.subplots(figsize=(10, 5), layout="constrained")
    image = axes.imshow(counts.T, aspect="auto", cmap="viridis", interpolation="nearest")
    axes.set_xlabel("client")
    axes.set_ylabel(label)
    if len(classes) <= 40:
        axes.set_yticks(range(len(classes)), [str(name) for name in classes])
    figure.colorbar(image, label="samples")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _page(path: Path, title: str, lead: str, figures: dict[str, bytes], measured: Any) -> Path:
    """One self-contained HTML file."""
    environment = Environment(
        loader=PackageLoader("pchmr", "web"), autoescape=True, undefined=StrictUndefined
    )
    style = resources.files("pchmr.web").joinpath("style.css").read_text(encoding="utf-8")
    addresses = [
        (name, Markup("data:image/png;base64,") + b64encode(png).decode())
        for name, png in figures.items()
    ]
    page = environment.get_template("check.html.j2").render(
        title=title,
        lead=lead,
        figures=addresses,
        measured=json.dumps(measured, indent=2),
        style=Markup(style),
    )
    write_bytes(path, page.encode())
    return path
