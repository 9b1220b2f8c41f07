"""Body files: the embedded body, SMPL-format .npz and .pkl, and where licensed files are sought.

Licensed bodies are read, never shipped. A file's mesh levels come from `mesh_downsampling.npz`
beside it, else they are computed once and cached by the body's hash (`levels.py`).
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from pchmr.body.archive import BodyFileError, read_npy, read_npz, read_pickle
from pchmr.body.joints import COCO_23, H36M_17, SMPL_24, SMPL_PARENTS
from pchmr.body.levels import hierarchy_of, unpack_hierarchy
from pchmr.body.model import BodyModel
from pchmr.body.skinning import NUM_BETAS
from pchmr.door import Json
from pchmr.door.files import one_line
from pchmr.door.limits import MESH_VERTICES
from pchmr.runs import shipped

ASSET = Path(__file__).parent / "assets" / "embedded_v1.npz"
GENDERS = ("neutral", "female", "male")
GENDER_LABELS = {
    **{gender: gender for gender in GENDERS},
    **dict.fromkeys(("n", "none", "", "-1"), "neutral"),
    **dict.fromkeys(("f", "1"), "female"),
    **dict.fromkeys(("m", "0"), "male"),
}
"""Genders as labels spell them: 3DPW and METRO by letter, SPIN's archives by number."""
ROW_SUM_TOLERANCE = 1e-3
LEAST_EXTENT, LARGEST_EXTENT = 0.5, 3.0  # metres, of the rest pose
SMPL_VERTICES = 6890
UNITS = {"millimetres": 1000.0, "centimetres": 100.0, "inches": 39.37}
REQUIRED = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")
OPTIONAL = ("posedirs",)
REGRESSOR_FILES = {
    "J_regressor_h36m": ("J_regressor_h36m_correct.npy", "J_regressor_h36m.npy"),
    "J_regressor_coco": ("J_regressor_coco.npy",),
}
REGRESSOR_SETS = {"J_regressor_h36m": H36M_17, "J_regressor_coco": COCO_23}
FOLDERS = ("body_models/smpl", "smpl", "SMPL", ".")
FILE_NAMES = {
    gender: re.compile(rf"(?:smpl_{gender}|basicmodel_{short}_.*)\.(?:npz|pkl)", re.IGNORECASE)
    for gender, short in (("neutral", "neutral"), ("female", "f(?:emale)?"), ("male", "m(?:ale)?"))
}


def load_body(path: Path | None = None, *, gender: str = "neutral") -> BodyModel:
    """The body of a file, or the embedded licence-free body.

    Args:
        path: SMPL-format .npz or .pkl, or a folder with one such file a gender
            (`SMPL_NEUTRAL.pkl`, `basicModel_f_lbs_10_207_0_v1.0.0.pkl`, ...). What is not there
            as given is sought in `search_paths()`.
        gender: "neutral", "female" or "male", or a label for it (`GENDER_LABELS`); chooses the
            file in a folder.

    Raises:
        BodyFileError: One line that names the file, the cause and the cure.
    """
    gender = gender_name(gender)
    if path is None:
        if gender != "neutral":
            raise BodyFileError(f"the embedded body is neutral only: give a {gender} body file")
        arrays = read_npz(shipped(ASSET))
        return BodyModel(arrays, unpack_hierarchy(arrays))
    file = _pick_file(Path(path), gender)
    named = gender_of(file)
    if named and gender not in ("neutral", named):
        raise BodyFileError(f"{file}: this is the {named} body, {gender} was asked for")
    arrays = read_body_arrays(file)
    arrays |= _read_regressors(file, len(arrays["v_template"]))
    try:
        hierarchy = hierarchy_of(arrays, file.parent)
    except BodyFileError:
        raise
    except Exception as error:  # a mesh that is none fails in any way
        raise BodyFileError(
            f"{file}: {one_line(error)}; no mesh levels can be made of it"
        ) from None
    return BodyModel(arrays, hierarchy, gender=named or gender)


def with_genders(body: BodyModel, path: Path) -> BodyModel:
    """The neutral body of a folder, and beside it those of women and men.

    Raises:
        BodyFileError: The path is no folder that holds both.
    """
    if not _found(path).is_dir():
        raise BodyFileError(f"{path} is one body: give the folder that holds one a gender")
    for gender in GENDERS[1:]:
        if gender not in body.by_gender:
            own = load_body(path, gender=gender).to(body.v_template.device)
            body.by_gender[gender] = own
    return body


def gender_name(label: Any) -> str:
    """ "neutral", "female" or "male" for a label of a data set.

    Raises:
        BodyFileError: No known label.
    """
    text = label.decode("ascii", "replace") if isinstance(label, bytes) else str(label)
    found = GENDER_LABELS.get(text.strip().lower())
    if found is None:
        raise BodyFileError(f"gender {text!r} is none of {', '.join(GENDER_LABELS)}")
    return found


def embedded_meta() -> Json:
    """Source, licence, and the errors in millimetres measured when the embedded body was built."""
    return json.loads(str(read_npz(shipped(ASSET), ["meta"])["meta"][0]))


def read_body_arrays(path: Path) -> dict[str, ndarray]:
    """The validated arrays of an SMPL-format file: floats as float32, ten shapes."""
    wanted = REQUIRED + OPTIONAL + tuple(REGRESSOR_FILES)
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path, wanted)
    elif path.suffix.lower() == ".pkl":
        arrays = read_pickle(path, wanted)
    else:
        raise BodyFileError(f"{path}: a body file is an .npz or a .pkl")
    try:
        return validated(arrays)
    except ValueError as error:
        raise BodyFileError(f"{path}: {error}") from None


def validated(arrays: Mapping[str, ndarray]) -> dict[str, ndarray]:
    """Arrays of one SMPL body with agreeing shapes, or `ValueError`.

    Fewer than ten shapes are padded with zeros; of more, the first ten are taken.
    """
    missing = [name for name in REQUIRED if name not in arrays]
    _check(not missing, f"lacks {', '.join(missing)}: not an SMPL-format body")
    found = {}
    for name, array in arrays.items():
        whole = name in ("kintree_table", "f")
        _check(array.dtype.kind in ("iu" if whole else "fiu"), f"{name} holds {array.dtype}")
        _check(array.ndim > 0, f"{name} is a single number")
        with np.errstate(over="ignore"):
            found[name] = array.astype(np.int64 if whole else np.float32)
        _check(bool(np.isfinite(found[name]).all()), f"{name} holds values that are not finite")
    _check(found["v_template"].shape[0] <= MESH_VERTICES, "v_template is larger than a body mesh")
    vertices, joints = len(found["v_template"]), len(SMPL_24)
    _check(found["shapedirs"].ndim == 3, "shapedirs must be (V, 3, betas)")
    found["shapedirs"] = _ten_shapes(found["shapedirs"])
    shapes = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, NUM_BETAS),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, vertices),
        "weights": (vertices, joints),
        "kintree_table": (2, joints),
        "f": (len(found["f"]), 3),
        "J_regressor_h36m": (len(H36M_17), vertices),
        "J_regressor_coco": (len(COCO_23), vertices),
    }
    for name, array in found.items():
        _check(array.shape == shapes[name], f"{name} is {array.shape}, expected {shapes[name]}")
    _check_values(found)
    return found


def search_paths(data_root: Path | None = None) -> tuple[Path, ...]:
    """Folders in which licensed body files are sought, in order.

    The root is `data_root`, else $PCHMR_DATA, else ~/.pchmr; then `body_models/smpl`, `smpl`,
    `SMPL` in it, and the root itself.
    """
    root = data_root or Path(os.environ.get("PCHMR_DATA") or Path.home() / ".pchmr")
    return tuple(root / folder for folder in FOLDERS)


def gender_of(path: Path) -> str | None:
    """The gender that a body file's name tells; None where it tells none."""
    for gender, pattern in FILE_NAMES.items():
        if pattern.fullmatch(path.name):
            return gender
    return None


def _found(path: Path) -> Path:
    """The path as given, or in a folder that is searched."""
    folders = [Path(), *search_paths()]
    path = next((folder / path for folder in folders if (folder / path).exists()), path)
    if not path.exists():
        looked = ", ".join(str(folder) for folder in folders[1:])
        raise BodyFileError(f"{path}: no such body file, neither as given nor in {looked}")
    return path


def _pick_file(path: Path, gender: str) -> Path:
    path = _found(path)
    if not path.is_dir():
        return path
    files = _body_files(path, gender)
    if not files:
        raise BodyFileError(
            f"{path}: no {gender} body file; expected SMPL_{gender.upper()}.pkl or .npz, or a "
            "basicModel file"
        )
    return files[0]


def _body_files(folder: Path, gender: str) -> list[Path]:
    """Files of a gender: SMPL_* before basicModel_*, .npz before .pkl."""
    if not folder.is_dir():
        return []
    files = [file for file in folder.iterdir() if FILE_NAMES[gender].fullmatch(file.name)]
    return sorted(files, key=lambda f: (f.name.lower()[:4] != "smpl", f.suffix != ".npz", f.name))


def _read_regressors(path: Path, num_vertices: int) -> dict[str, ndarray]:
    """Regressor files that lie beside a body file."""
    found = {}
    for key, names in REGRESSOR_FILES.items():
        for file in (path.parent / name for name in names):
            if file.is_file() and key not in found:
                found[key] = _checked_regressor(file, (len(REGRESSOR_SETS[key]), num_vertices))
    return found


def check_regressor(file: Path) -> None:
    """Raises `BodyFileError` unless the file holds H36M's joints over SMPL's vertices."""
    _checked_regressor(file, (len(H36M_17), SMPL_VERTICES))


def _checked_regressor(file: Path, shape: tuple[int, int]) -> ndarray:
    table = read_npy(file)
    ok = table.shape == shape and table.dtype.kind in "fiu"
    if not ok or not np.isfinite(table).all():
        raise BodyFileError(f"{file}: holds {table.shape}, expected {shape} finite numbers")
    return table.astype(np.float32)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _ten_shapes(shapes: ndarray) -> ndarray:
    """The first ten shape directions, zeros where a file has fewer."""
    shapes = shapes[:, :, :NUM_BETAS]
    return np.pad(shapes, ((0, 0), (0, 0), (0, NUM_BETAS - shapes.shape[2])))


def _check_extent(template: ndarray) -> None:
    """Refuses a body that no person fits into; the unit that it looks like is named."""
    extent = float((template.max(axis=0) - template.min(axis=0)).max())
    if LEAST_EXTENT <= extent <= LARGEST_EXTENT:
        return
    fits = [u for u, scale in UNITS.items() if LEAST_EXTENT <= extent / scale <= LARGEST_EXTENT]
    looks = f", which looks like {fits[0]}" if fits else ""
    _check(False, f"v_template spans {extent:.4g} m{looks}: write metres (a person spans 0.5 to 3)")


def _check_values(found: Mapping[str, ndarray]) -> None:
    _check_extent(found["v_template"])
    faces, count = found["f"], len(found["v_template"])
    inside = faces.size > 0 and faces.min() >= 0 and faces.max() < count
    _check(bool(inside), f"f points outside the {count} vertices")
    parents = tuple(found["kintree_table"][0, 1:].tolist())
    _check(parents == SMPL_PARENTS[1:], "kintree_table is not SMPL's tree of 24 joints")
    for name in ("weights", "J_regressor"):
        error = float(np.abs(found[name].sum(axis=1) - 1.0).max())
        _check(error < ROW_SUM_TOLERANCE, f"{name}: rows must sum to 1, one is off by {error:.2g}")
