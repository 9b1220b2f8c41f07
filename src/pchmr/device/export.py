"""`pchmr export`: ONNX files of a network, and a card that says how fast and how exact they are.

Calibrated on rendered training people of domain A, scored on held-out ones. Nothing appears in the
output folder before everything is measured.
"""

import json
import math
import shutil
from contextlib import ExitStack
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from pchmr.body import BodyModel, load_body
from pchmr.config import EXPORT_VARIANTS, DataOptions, ExportConfig, require
from pchmr.data import load_people
from pchmr.data.sample import PeopleDataset
from pchmr.device.card import Card, Form, Measured, People
from pchmr.device.measured import Trial, bf16_unit, measure_file, measure_torch, singles
from pchmr.models import HMRModel, load_model
from pchmr.models.started import StartedFrom
from pchmr.progress import console, say
from pchmr.runs import alone, environment, replacing

CARD = "card.json"
EXTRA = ("onnx", "onnxruntime", "onnxscript")
ALLOWED_COST_MM = 1.0
ALLOWED_MOVE_MM = 10.0
"""What int8 may cost, and how far it may move joints (95th percentile), to be the default."""
ALLOWED_DIFFERENCE_M = 1e-5
"""What fp32 may differ from PyTorch; the smaller forms are judged by their cost."""
UNITS = {
    "image": "RGB in [0, 1], one crop, batch axis first",
    "camera": "weak perspective (s, tx, ty): crop coordinates in [-1, 1] are s * (xy + t)",
    "joints, vertices": "metres, camera axes (x right, y down, z forward)",
}


@alone
def run(config: ExportConfig) -> Path:
    """Exports the network of a config; returns the folder of the files and the card.

    Raises:
        SettingError: The extra is not installed, or a setting cannot be used.
    """
    require_extra()
    body = load_body(config.model_options.body)
    model, started_from = load_model(config.model_options, body.hierarchy, seed=config.seed)
    require(
        "random" not in started_from,
        "--smpl-head: these weights hold none, and a random one says nothing: train it first",
    )
    trial = open_trial(config, body, model.image_size)
    card = export(model, trial, config.variant_names, config.output, started_from)
    for line in advice(card):
        say(line)
    say(f"{config.output}: default form {card['default'] or 'none'}, details in {CARD}")
    return config.output


def advice(card: Card) -> list[str]:
    """What a card's reader must be told, a line each: fp32 is off, or int8 is not the default."""
    lines = []
    if not agrees(card["variants"], "fp32"):
        apart = card["variants"]["fp32"].get("max_vertex_difference_m")
        told = "an unknown distance" if apart is None else f"up to {apart * 1e3:.3g} mm"
        lines.append(
            f"fp32 is {told} from PyTorch, more than {ALLOWED_DIFFERENCE_M * 1e3:g} "
            "mm, and is not the default: export with other versions of onnx and onnxruntime"
        )
    int8 = card["variants"].get("int8")
    if int8 is None or card["default"] == "int8":
        return lines
    if card["started_from"]["kind"] == "random":
        reason = "the cost of random weights says nothing"
    elif not _is_cheap(int8):
        reason = f"it costs {_cost(int8)}, more than {ALLOWED_COST_MM:g} mm"
    elif "joints_moved_p95_mm" not in int8:
        reason = "its card does not say how far it moves joints: export again"
    else:
        reason = (
            f"it moves joints by {int8['joints_moved_p95_mm']:.1f} mm (95th percentile), more than "
            f"{ALLOWED_MOVE_MM:g} mm"
        )
    cure = "" if card["default"] else "; export fp32 or fp16 too"
    return [*lines, f"int8 is not the default: {reason}{cure}"]


def _is_cheap(form: Form) -> bool:
    return form["cost_mm"] is not None and form["cost_mm"] <= ALLOWED_COST_MM


def _holds_still(form: Form) -> bool:
    """Whether a form is known to move joints little; a card of before says nothing of it."""
    return form.get("joints_moved_p95_mm", math.inf) <= ALLOWED_MOVE_MM


def agrees(measured: dict[str, Form], variant: str) -> bool:
    """Whether a form is known to say what PyTorch says; smaller forms, and ones not written, do."""
    if variant != "fp32" or variant not in measured:
        return True
    return measured[variant].get("max_vertex_difference_m", math.inf) <= ALLOWED_DIFFERENCE_M


def _cost(about: Form) -> str:
    cost = about["cost_mm"]
    return "an unknown error" if cost is None else f"{cost:+.2f} mm MPJPE"


def require_extra() -> None:
    """Refuses to start without the packages of the extra `export`."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    require(
        not missing,
        f"pchmr export needs {', '.join(missing)}: install them with pip install 'pchmr[export]'",
    )


def open_trial(config: ExportConfig, body: BodyModel, image_size: int) -> Trial:
    """The people of a config, rendered unless they are cached."""
    options = DataOptions(
        domain="A",
        num_samples=config.num_calibration,
        num_test_samples=config.num_held_out,
        cache=config.cache,
    )
    load = partial(load_people, options, body=body, seed=config.seed, image_size=image_size)
    with console.status("people of A"):
        return Trial(
            body=body, calibration=load("train"), held_out=load("test"), repeats=config.repeats
        )


def export(
    model: HMRModel,
    trial: Trial,
    variants: tuple[str, ...],
    folder: Path,
    started_from: StartedFrom,
) -> Card:
    """Writes the forms of a network and their card into a folder, all of them or none.

    Args:
        model: Network in evaluation mode, on the CPU.
        trial: People and body.
        variants: Some of `EXPORT_VARIANTS`.
        folder: Where to write; forms of an earlier export that are not asked for are removed.
        started_from: Where the weights come from, for the card.

    Returns:
        The card.
    """
    with TemporaryDirectory(prefix="pchmr-export-") as name:
        staged = Path(name)
        files = build(model, trial, variants, staged)
        reference, about = measure_torch(model, trial)
        _tell("PyTorch", about)
        bf16 = _measured_bf16(model, trial)
        measured = {}
        for variant, path in files.items():
            measured[variant] = measure_file(path, trial, reference, about["mpjpe_mm"])
            _tell(variant, measured[variant])
        card = make_card(model, trial, started_from, about, measured)
        card["pytorch_bf16"] = bf16
        (staged / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        publish([staged / CARD, *files.values()], folder)
    for variant in EXPORT_VARIANTS:
        if variant not in files:
            (folder / file_name(variant)).unlink(missing_ok=True)
    return card


def _measured_bf16(model: HMRModel, trial: Trial) -> Measured | None:
    """PyTorch in bfloat16 where the processor has a unit for it; elsewhere it only costs."""
    unit = bf16_unit()
    if unit is None:
        say("bf16     not measured: this processor has neither AMX nor AVX-512 BF16")
        return None
    _, about = measure_torch(model, trial, bf16=True)
    _tell("bf16", about)
    return about


def file_name(variant: str) -> str:
    """The file of a form."""
    return f"model_{variant}.onnx"


def build(
    model: HMRModel, trial: Trial, variants: tuple[str, ...], folder: Path
) -> dict[str, Path]:
    """Writes the forms; returns their files by name."""
    from pchmr.device.graph import export_model
    from pchmr.device.variants import fold, write_fp16, write_int8

    exported, folded = folder / file_name("fp32"), folder / "folded.onnx"
    with console.status("exporting fp32"):
        export_model(model, exported)
    if set(variants) - {"fp32"}:
        fold(exported, folded)
    if "fp16" in variants:
        with console.status("converting to fp16"):
            write_fp16(folded, folder / file_name("fp16"))
    if "int8" in variants:
        images = (sample.images[0].numpy() for sample in singles(trial.calibration))
        with console.status("calibrating int8"):
            write_int8(folded, folder / file_name("int8"), images)
    return {name: folder / file_name(name) for name in EXPORT_VARIANTS if name in variants}


def make_card(
    model: HMRModel,
    trial: Trial,
    started_from: StartedFrom,
    about: Measured,
    measured: dict[str, Form],
) -> Card:
    """Everything a reader of the files must know."""
    from pchmr.device.graph import OPSET, output_names

    versions = {name: metadata.version(name) for name in EXTRA}
    return {
        "default": default_variant(measured, is_trained=started_from["kind"] != "random"),
        "model": model.choice.as_dict(),
        "started_from": started_from,
        "body_sha256": trial.body.sha256,
        "num_vertices": list(model.hierarchy.num_vertices),
        "opset": OPSET,
        "outputs": list(output_names(model)),
        "units": UNITS,
        "calibration": _people(trial.calibration, "A, train"),
        "held_out": _people(trial.held_out, "A, test"),
        "threads": 1,
        "pytorch": about,
        "pytorch_bf16": None,
        "variants": measured,
        "environment": {**environment(), "export_packages": versions},
    }


def default_variant(measured: dict[str, Form], *, is_trained: bool) -> str | None:
    """int8 where it costs and moves joints little enough, else the most exact of the other forms.

    The cost of random weights says nothing, so int8 is not offered for them.
    """
    int8 = measured.get("int8")
    if is_trained and int8 is not None and _is_cheap(int8) and _holds_still(int8):
        return "int8"
    return next((name for name in measured if name != "int8" and agrees(measured, name)), None)


def _people(people: PeopleDataset, drawn_from: str) -> People:
    return {
        "drawn_from": f"rendered people, domain {drawn_from}",
        "num_samples": len(people),
        "content_hash": people.content_hash,
    }


def publish(files: list[Path], folder: Path) -> None:
    """Copies all files beside their final names, then renames them, the first one last.

    Raises:
        SettingError: The folder cannot be written; then nothing in it has changed.
    """
    with ExitStack() as stack:
        for file in files:
            shutil.copyfile(file, stack.enter_context(replacing(folder / file.name)))


def _tell(name: str, about: Measured | Form) -> None:
    """A line on one form for the person who waits."""
    parts = [f"{about['cpu_ms']['min']:.1f} CPU-ms"]
    if about["mpjpe_mm"] is not None:
        parts.append(f"MPJPE {about['mpjpe_mm']:.1f} mm")
    if "file" in about:
        parts += [
            f"{about['num_bytes'] / 1e6:.1f} MB",
            f"at most {about['max_vertex_difference_m'] * 1e3:.3g} mm from PyTorch",
            f"moves joints by {about['joints_moved_p95_mm']:.1f} mm (95th percentile)",
            f"costs {_cost(about)}",
        ]
    say(f"{name:<8} {', '.join(parts)}")
