"""Which exported network a page or `live --native` runs: of a folder of `pchmr export`, or own.

A file is what its card says, and fits the body, or it is refused in words for a page.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pchmr.body import BodyModel
from pchmr.config import LiveConfig, SettingError, UserError
from pchmr.device.export import CARD, require_extra
from pchmr.door import FileError, inside, read_json
from pchmr.models import load_model
from pchmr.progress import console
from pchmr.runs import file_sha256, replacing, state_sha256
from pchmr.web.bundles import cache_folder

NEEDED = ("camera", "vertices")
FOLDER = "live"


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
        cost: What the form adds to the error, in words.
        image_size: Side of a crop in pixels.
    """

    path: Path
    name: str
    form: str
    sha256: str
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
        name = card["default"] if form == "default" else form
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
    """The network of the model options as fp32, exported once and kept in the user's cache."""
    require_extra()
    model, _ = load_model(config.model_options, body.hierarchy, seed=0)
    key = state_sha256(model.state_dict())[:24]
    folder = cache_folder() / FOLDER
    path, note = folder / f"{key}.onnx", folder / f"{key}.json"
    if not _is_kept(path, note):
        from pchmr.device.graph import export_model

        folder.mkdir(parents=True, exist_ok=True)
        with console.status("exporting the network, once"), replacing(path) as temporary:
            export_model(model, temporary)
        note.write_text(json.dumps({"sha256": file_sha256(path)}), encoding="utf-8")
    return Chosen(
        path=path,
        name=config.model_options.model,
        form="fp32",
        sha256=file_sha256(path),
        cost="none: the network itself",
        image_size=model.image_size,
    )


def _is_kept(path: Path, note: Path) -> bool:
    try:
        return json.loads(note.read_text(encoding="utf-8"))["sha256"] == file_sha256(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
