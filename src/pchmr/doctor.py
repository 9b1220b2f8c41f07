"""Says what is installed, what was found, and what each missing file would enable.

Every probe may fail: a failure becomes a row of the table, never an end of the program.
"""

import hashlib
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pchmr.config import DoctorConfig
from pchmr.data.errors import InputError
from pchmr.data.licensed import (
    LICENSED,
    MAX_ENTRIES,
    RECORDINGS,
    SETS,
    find_licensed,
    search_roots,
)
from pchmr.data.mocap.poses import SUFFIXES, read_recording
from pchmr.data.sets import DATASETS
from pchmr.data.sets.part import ReadOptions
from pchmr.recipes import RECIPES

PACKAGE = "pchmr"
MARKS = {"ok": ("✓", "green"), "missing": ("–", "yellow"), "broken": ("✗", "red")}
GIB = 2**30
DEMO_GIB = 6
ASSET_SUFFIXES = (".npz", ".safetensors")


@dataclass(frozen=True)
class Finding:
    """One line of the answer: `state` is ok, missing or broken."""

    name: str
    state: str
    detail: str


Probe = Callable[[], Iterator[Finding]]


def run(config: DoctorConfig) -> None:
    """Prints what was found; always ends normally."""
    console = Console(highlight=False)
    for title, probe in PROBES.items():
        console.print(_table(title, _safely(title, probe)))
    console.print(_licensed_table(config.data_root))
    _print_places(console, config.data_root)


def _safely(title: str, probe: Probe) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(probe())
    except Exception as error:  # whatever is broken here is what the user wants to read about
        findings.append(Finding(title, "broken", _reason(error)))
    return findings


def _reason(error: Exception) -> str:
    """An error in one line."""
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first}"


def _table(title: str, findings: list[Finding]) -> Table:
    table = _empty_table(title)
    for finding in findings:
        table.add_row(_mark(finding.state), Text(finding.name), Text(finding.detail))
    return table


def _empty_table(title: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None)
    table.show_header = False
    table.add_column(width=1)
    table.add_column(min_width=22)
    table.add_column(overflow="fold")
    return table


def _mark(state: str) -> Text:
    sign, color = MARKS[state]
    return Text(sign, style=color)


def _python() -> Iterator[Finding]:
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.machine()}")
    packages = [_package(name) for name in _requirements(extra=None)]
    whole = ", ".join(f"{p.name} {p.detail}" for p in packages if p.state == "ok")
    yield Finding("packages", "ok", whole)
    yield from (package for package in packages if package.state != "ok")


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "broken", f"not installed: pip install {name}")


def _requirements(extra: str | None) -> list[str]:
    """Names of the packages that ours, or one extra of it, asks for."""
    names = []
    for line in metadata.requires(PACKAGE) or []:
        name, marker = re.match(r"[\w.-]+", line), re.search(r"extra\s*==\s*['\"](.+?)['\"]", line)
        if name and (marker.group(1) if marker else None) == extra:
            names.append(name.group())
    return names


def _extras() -> Iterator[Finding]:
    for extra in metadata.metadata(PACKAGE).get_all("Provides-Extra") or []:
        absent = [n for n in _requirements(extra) if _package(n).state != "ok"]
        if absent:
            detail = f"lacks {', '.join(absent)}: pip install {PACKAGE}[{extra}]"
            yield Finding(extra, "missing", detail)
            continue
        names = ", ".join(_requirements(extra))
        try:
            WORKS.get(extra, _nothing)()
        except Exception as error:  # a package that is there may fail in any way
            again = f"pip install --force-reinstall {PACKAGE}[{extra}]"
            yield Finding(extra, "broken", f"{names}: {_reason(error)}; {again}")
        else:
            yield Finding(extra, "ok", names)


def _nothing() -> None:
    """What an extra without a probe is asked to do."""


def _runs_onnx() -> None:
    """Runs a network of one step."""
    import numpy as np
    import onnx
    from onnxruntime import InferenceSession

    one = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y")]
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "probe", one[:1], one[1:])
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = np.asarray(session.run(None, {"x": np.ones(1, dtype=np.float32)})[0])
    if found.tolist() != [-1.0]:
        raise ValueError(f"minus one came out as {found.tolist()}")


def _reads_heic() -> None:
    """Writes and reads a picture."""
    import io

    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, format="HEIF")
    with Image.open(stream) as image:
        image.load()


def _opens_video() -> None:
    """Asks for the decoder that phones' videos need."""
    import av

    av.CodecContext.create("h264", "r")


WORKS: dict[str, Callable[[], None]] = {
    "export": _runs_onnx,
    "heic": _reads_heic,
    "video": _opens_video,
}
"""What an extra must be able to do before it is ticked."""


def _devices() -> Iterator[Finding]:
    import torch

    threads = f"threads: {torch.get_num_threads()}"
    yield Finding("cpu", "ok", f"{threads}; another number gives weights with other last digits")
    if not torch.cuda.is_available():
        yield Finding("cuda", "missing", "no CUDA device is visible; everything runs on the CPU")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / GIB:.0f} GiB"
        yield Finding(f"cuda:{index}", "ok", f"{properties.name}, {memory}")


def _disk() -> Iterator[Finding]:
    for name, folder in (("here", Path.cwd()), ("home", Path.home())):
        free = shutil.disk_usage(folder).free / GIB
        state = "ok" if free >= DEMO_GIB else "missing"
        wanted = "" if state == "ok" else f"; the demo asks for {DEMO_GIB}"
        yield Finding(name, state, f"{free:.1f} GiB free in {folder}{wanted}")


def _embedded() -> Iterator[Finding]:
    root = Path(__file__).parent
    for path in sorted(p for p in root.rglob("*") if p.suffix in ASSET_SUFFIXES):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        size = f"{len(content) / 2**20:.1f} MiB"
        yield Finding(str(path.relative_to(root)), "ok", f"{size}, sha256 {digest[:16]}")
    from pchmr.body import load_body

    body = load_body()
    size = f"{len(body.v_template)} vertices, {body.num_betas} betas"
    yield Finding("embedded body", "ok", f"{size}, sha256 {body.sha256[:16]}")


def _choices() -> Iterator[Finding]:
    yield Finding("--recipe", "ok", ", ".join(sorted(RECIPES)))
    from pchmr.models import MODELS

    yield Finding("--model", "ok", ", ".join(MODELS))


def _fetched() -> Iterator[Finding]:
    from pchmr.perception.fetched import FETCHED, state
    from pchmr.priors import described

    for name in FETCHED:
        first, *rest = described(name).splitlines()
        found = state(name)
        yield Finding(name, found, "\n".join([first.split(": ", 1)[1], *map(str.strip, rest)]))


PROBES: dict[str, Probe] = {
    "Python and packages": _python,
    "Extras": _extras,
    "Devices": _devices,
    "Disk": _disk,
    "Shipped with the package": _embedded,
    "Models and recipes": _choices,
    "Fetched by `pchmr priors get` (none is needed)": _fetched,
}


def _licensed_table(data_root: Path | None) -> Table:
    table = _empty_table("Licensed files and data sets (none is needed for the embedded people)")
    crowded: list[Path] = []
    for name, paths in find_licensed(search_roots(data_root), crowded.append).items():
        item = LICENSED[name]
        found = [str(path) for path in paths] or ["not found: " + ", ".join(item.patterns)]
        lines = (*found, f"enables {item.enables}", f"get it at {item.source}")
        broken = [line for path in paths if (line := _fault(name, path))]
        state = "broken" if broken else "ok" if paths else "missing"
        table.add_row(_mark(state), Text(name), Text("\n".join((*broken, *lines))))
    for root in crowded:
        words = f"only its first {MAX_ENTRIES} files and folders were looked at: move sets up in it"
        table.add_row(_mark("broken"), Text(str(root)), Text(f"{words}, or give --data-root"))
    return table


def _fault(name: str, path: Path) -> str:
    """Why a licensed file cannot be used; empty where it opens."""
    try:
        _opens(name, path)
    except Exception as error:  # a damaged file may fail in any way
        return " ".join(str(error).split()) or f"{path}: {type(error).__name__}"
    return ""


def _opens(name: str, path: Path) -> None:
    """Reads a licensed file as the verbs that it enables do: of a set, its first part."""
    from pchmr.body import load_body
    from pchmr.body.archive import read_matrices
    from pchmr.body.files import check_regressor
    from pchmr.models.imagenet import read_backbone
    from pchmr.models.official import read_state_dict

    if name in SETS:
        part = DATASETS[SETS[name]].sources(path, ReadOptions())[0].read()
        if part.fault and not len(part):
            raise InputError(part.fault)
    elif name in RECORDINGS:
        word = RECORDINGS[name]
        read_recording(word, min(path.glob(f"*{SUFFIXES[word]}")), path.name, load_body())
    elif name.startswith("SMPL "):
        load_body(path)
    else:
        {
            "J_regressor_h36m": check_regressor,
            "Mesh levels of SMPL": lambda file: read_matrices(file, ("A", "U", "D")),
            "Official checkpoints": read_state_dict,
            "ImageNet backbones": read_backbone,
        }[name](path)


def _print_places(console: Console, data_root: Path | None) -> None:
    console.print("\n[bold]Looked in[/bold] (three folders deep, names in any case)")
    for root in search_roots(data_root):
        state = "" if root.is_dir() else "  (does not exist)"
        console.print(f"  {root}{state}", markup=False)
    console.print("Put licensed files into one of these, which every verb reads.")
    console.print(
        "`pchmr doctor --data-root FOLDER` looks elsewhere; other verbs take $PCHMR_DATA."
    )
