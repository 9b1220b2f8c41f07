"""Which exported network a page or `live --native` runs: of a folder of `pchmr export`, or own.

A file is what its card says, and fits the body, or it is refused in words for a page.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pchmr.models
from pchmr.body import BodyModel
from pchmr.config import LiveConfig, SettingError, UserError
from pchmr.device.export import ALLOWED_DIFFERENCE_M, CARD, EXTRA, default_variant, require_extra
from pchmr.door import FileError, inside, read_json
from pchmr.models import HMRModel, load_model
from pchmr.progress import console, say
from pchmr.runs import file_sha256, replacing, state_sha256
from pchmr.web.bundles import cache_folder

NEEDED = ("camera", "vertices")
FOLDER = "live"
OWN = "pchmr"
UNTOLD = "a version that the card does not name"


class ModelRefused(UserError):
    """An export that cannot be run here; the message names the cure."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An exported network.

    Attributes:
        path: Of the ONNX file.
        name: Of the network.
        form: fp32, fp16 or int8.
        sha256: Of the file.
        exported_by: Version of pchmr that wrote the file.
        cost: What the form adds to the error, in words.
        image_size: Side of a crop in pixels.
    """

    path: Path
    name: str
    form: str
    sha256: str
    exported_by: str
    cost: str
    image_size: int


def chosen_model(config: LiveConfig, body: BodyModel) -> Chosen:
    """The network that a config asks for.

    Raises:
        SettingError: The folder holds no export, or the form is not among its files.
        ModelRefused: The export is of another version or body, or damaged.
    """
    if config.export is None:
        return own_export(config, body)
    return of_card(config.export, config.form, body)


def of_card(folder: Path, form: str, body: BodyModel) -> Chosen:
    """One of the files that a card describes."""
    if not (folder / CARD).is_file():
        raise SettingError(f"--export {folder} holds no {CARD}: give the output of `pchmr export`")
    try:
        card = read_json(folder / CARD)
        name = _default(card, folder) if form == "default" else form
        if name is None:
            raise SettingError(f"the card of {folder} names no default form: give --form")
        if name not in card["variants"]:
            known = ", ".join(card["variants"])
            raise SettingError(f"--form {name}: {folder} holds {known}")
        about = card["variants"][name]
        _check(card, folder, body)
        path = inside(folder, about["file"])
        if file_sha256(path) != about["sha256"]:
            raise ModelRefused(f"{path} is not the file of its card: run `pchmr export` again")
        return Chosen(
            path=path,
            name=str(card["model"]["model"]),
            form=name,
            sha256=about["sha256"],
            exported_by=_exporter(card),
            cost=_cost(about["cost_mm"]),
            image_size=int(card["model"]["image_size"]),
        )
    except UserError as error:
        if isinstance(error, FileError):
            raise ModelRefused(f"{error}: run `pchmr export` again") from None
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise ModelRefused(
            f"the export in {folder} is of another version of pchmr ({_word(error)}): run "
            "`pchmr export` again"
        ) from None


def _default(card: dict, folder: Path) -> str | None:
    """The form that a card names; int8 only where the card still proves it by today's rule."""
    name = card["default"]
    if name != "int8":
        return name
    is_trained = card["started_from"]["kind"] != "random"
    proven = default_variant(card["variants"], is_trained=is_trained)
    if proven != name:
        say(
            f"the card of {folder} names int8, but does not prove that it costs and moves joints "
            f"little: {proven or 'no other form'} is taken; run `pchmr export` again"
        )
    return proven


def _exporter(card: dict) -> str:
    version = card.get("environment", {}).get("packages", {}).get(OWN)
    return f"{OWN} {version}" if version else UNTOLD


def _word(error: Exception) -> str:
    return f"no {error.args[0]}" if isinstance(error, KeyError) else str(error)[:80]


def _check(card: dict, folder: Path, body: BodyModel) -> None:
    missing = [name for name in NEEDED if name not in card["outputs"]]
    if missing:
        raise ValueError(f"no output {missing[0]}")
    if card["body_sha256"] not in (body.sha256, body.mesh_sha256):
        raise ModelRefused(
            f"the export in {folder} was made for another body: run `pchmr export` again, or give "
            "its --body"
        )


def _cost(cost_mm: float | None) -> str:
    return "not measured" if cost_mm is None else f"{cost_mm:+.2f} mm MPJPE"


def own_export(config: LiveConfig, body: BodyModel) -> Chosen:
    """The network of the model options as fp32, exported once and kept in the user's cache.

    Raises:
        ModelRefused: The file does not say what PyTorch says.
    """
    require_extra()
    model, _ = load_model(config.model_options, body.hierarchy, seed=0)
    key = hashlib.sha256(f"{state_sha256(model.state_dict())} {code_sha256()}".encode())
    folder = cache_folder() / FOLDER
    path = folder / f"{key.hexdigest()[:24]}.onnx"
    note = path.with_suffix(".json")
    if not _is_kept(path, note):
        folder.mkdir(parents=True, exist_ok=True)
        with console.status("exporting the network, once"), replacing(path) as temporary:
            _export_checked(model.eval(), temporary)
        note.write_text(json.dumps({"sha256": file_sha256(path)}), encoding="utf-8")
    return Chosen(
        path=path,
        name=config.model_options.model,
        form="fp32",
        sha256=file_sha256(path),
        exported_by=f"{OWN} {metadata.version(OWN)}",
        cost="none: the network itself",
        image_size=model.image_size,
    )


def code_sha256() -> str:
    """Hash of what decides an export beside the weights: our code, and versions of what it uses."""
    from pchmr.device import graph

    digest = hashlib.sha256()
    for name in (OWN, "torch", *EXTRA):
        digest.update(f"{name} {metadata.version(name)}\0".encode())
    places = {Path(graph.__file__), *Path(pchmr.models.__file__).parent.rglob("*.py")}
    for place in sorted(places):
        digest.update(place.read_bytes())
    return digest.hexdigest()


def _export_checked(model: HMRModel, path: Path) -> None:
    """Writes a network, and holds the file against PyTorch over a crop that nobody has seen."""
    from pchmr.device.graph import export_model
    from pchmr.device.measured import difference_m

    export_model(model, path)
    apart = difference_m(model, path)
    if not apart <= ALLOWED_DIFFERENCE_M:
        raise ModelRefused(
            f"the exported network is {apart * 1e3:.3g} mm from PyTorch, more than "
            f"{ALLOWED_DIFFERENCE_M * 1e3:g} mm: install other versions of onnx and onnxruntime"
        )


def _is_kept(path: Path, note: Path) -> bool:
    try:
        return json.loads(note.read_text(encoding="utf-8"))["sha256"] == file_sha256(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
