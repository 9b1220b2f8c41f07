"""Mutated files of every kind: the package's own errors, nothing written, no hang, little memory.

Seeds are small valid files made here. A mutation changes the bytes of a file, or of a member of an
archive that is then packed again, so that checksums do not hide what lies behind them.
"""

import contextlib
import hashlib
import io
import json
import pickle
import re
import shutil
import signal
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from scipy.sparse import csc_matrix, csr_matrix

from pchmr.annotate.labels import LabelFolder
from pchmr.annotate.observations import load_observations
from pchmr.annotate.prior import ASSET as PRIOR
from pchmr.annotate.prior import load_prior
from pchmr.annotate.quality import ASSET as PREDICTORS
from pchmr.annotate.quality import load_predictors
from pchmr.bench.memory import forget_peak, peak_bytes
from pchmr.body import BodyModel, MeshHierarchy
from pchmr.body.archive import read_npy
from pchmr.body.files import read_body_arrays
from pchmr.body.joints import COCO_17
from pchmr.body.levels import read_downsampling
from pchmr.cli import _replayed
from pchmr.config import TrainConfig, UserError
from pchmr.data import labels
from pchmr.data.photos import load_photo
from pchmr.data.synthetic.people import SyntheticPeople, is_whole
from pchmr.examples import read_examples
from pchmr.models.checkpoint import read_checkpoint
from pchmr.models.imagenet import read_backbone
from pchmr.models.official import read_state_dict
from pchmr.runs import RunFolder, file_sha256
from pchmr.runs.checkpoints import Checkpoint, Checkpoints

SECONDS, GROWTH_BYTES = 20, 512 << 20
NUMBERS = (0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
BAD_TEXT = (b"1e999", b"-1", b"NaN", b"null", b"[]", b"9" * 400, b"[" * 3000, b'"\\ud800"', b"../x")

Seed = tuple[Path, Callable[[Path], Any]]


class Hang(BaseException):
    """A reader that did not come back; no reader can catch it."""


def write_objects(path: Path, **lists: list[csr_matrix]) -> None:
    parts = {name: np.empty(len(found), dtype=object) for name, found in lists.items()}
    for name, found in lists.items():
        parts[name][:] = found
    np.savez(path, **parts)


def body_seeds(folder: Path, arrays: dict[str, Any], levels: MeshHierarchy) -> dict[str, Seed]:
    np.savez(folder / "body.npz", **arrays)
    sparse = arrays | {"J_regressor": csc_matrix(arrays["J_regressor"]), "note": ("x", {"y"})}
    for protocol in (2, 4):
        (folder / f"body{protocol}.pkl").write_bytes(pickle.dumps(sparse, protocol=protocol))
    np.save(folder / "regressor.npy", arrays["J_regressor_h36m"])
    down = [
        csr_matrix((np.ones(len(r)), (range(len(r)), r)), shape=m.shape[::-1])
        for r, m in zip(levels.kept, levels.upsample, strict=True)
    ]
    tables = [csr_matrix(np.eye(n)) for n in levels.num_vertices]
    write_objects(folder / "mesh_downsampling.npz", A=tables, U=list(levels.upsample), D=down)
    return {
        "body npz": (folder / "body.npz", read_body_arrays),
        "body pkl 2": (folder / "body2.pkl", read_body_arrays),
        "body pkl 4": (folder / "body4.pkl", read_body_arrays),
        "regressor": (folder / "regressor.npy", read_npy),
        "levels": (
            folder / "mesh_downsampling.npz",
            lambda path: read_downsampling(path, arrays["f"], len(arrays["v_template"])),
        ),
    }


def weight_seeds(folder: Path) -> dict[str, Seed]:
    state = {"a.weight": torch.arange(12.0).view(3, 4).T, "b": torch.ones(2).half()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "new.pth")
    torch.save(state, folder / "old.bin", _use_new_zipfile_serialization=False)
    note = {"model": "x", "num_vertices": [4, 2], "image_size": 64}
    whole = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(whole, folder / "own.safetensors", metadata={"pchmr": json.dumps(note)})
    Checkpoints(folder / "rounds").save(
        Checkpoint(1, {"a": np.ones(3, dtype=np.float32)}, {"x": [1.5]}, [{"round": 1}], {"y": "z"})
    )
    rounds = folder / "rounds" / "round_000001"
    return {
        "torch": (folder / "new.pth", read_state_dict),
        "torch old": (folder / "old.bin", read_backbone),
        "checkpoint": (folder / "own.safetensors", read_checkpoint),
        "backbone": (folder / "own.safetensors", read_backbone),
        "round manifest": (rounds.with_suffix(".json"), read_round),
        "round vectors": (rounds.with_suffix(".safetensors"), read_round),
    }


def read_round(path: Path) -> Any:
    return Checkpoints(path.parent).latest({"y": "z"})


def label_seeds(folder: Path) -> dict[str, Seed]:
    shutil.copy(PRIOR, folder / "prior.npz")
    shutil.copy(PREDICTORS, folder / "predictors.json")
    seen = np.full((1, 17, 3), 0.9)
    seen[..., :2] = np.random.default_rng(0).uniform(10, 60, (1, 17, 2))
    np.savez_compressed(
        folder / "observations.npz", keypoints_2d=seen,
        keypoint_names=np.array(COCO_17.names), image_size=np.array([[80, 80]]),
        keypoint_depth=np.full((1, 17), 3.0), depth_kind="metric", fps=25.0,
    )  # fmt: skip
    book = LabelFolder.open(folder / "labels")
    shapes = labels.TABLES.items()
    arrays = {name: np.zeros((2, *shape)) for name, shape in shapes}
    path = book.write("clip", arrays | {"status": np.array(["accepted", "review"])},
                      {"input_sha256": "x"}, status={"accepted": 1})  # fmt: skip
    return {
        "prior": (folder / "prior.npz", load_prior),
        "predictors": (folder / "predictors.json", load_predictors),
        "observations": (folder / "observations.npz", load_observations),
        "manifest": (folder / "labels" / "manifest.jsonl", lambda p: LabelFolder.open(p.parent)),
        "manifest as data": (
            folder / "labels" / "manifest.jsonl",
            lambda p: [
                labels._chosen(p.parent, row, (labels.ACCEPTED,))
                for row in labels._manifest(p.parent)
            ],
        ),
        "labels": (path, lambda p: labels._chosen(
            p.parent, {"labels": p.name, "labels_sha256": file_sha256(p)}, (labels.ACCEPTED,))),
    }  # fmt: skip


def run_seeds(folder: Path) -> dict[str, Seed]:
    config = TrainConfig()
    run = RunFolder.create(folder / "run", config)
    run.append_row({"round": 1, "mpjpe_mm": 80.5})
    Image.new("RGB", (24, 20), "red").save(folder / "photo.jpg")
    Image.new("RGBA", (24, 20)).save(folder / "photo.png")
    np.savez_compressed(folder / "run" / "examples.npz", image=np.zeros((1, 4, 4, 3), np.uint8))
    (folder / "people").mkdir()
    (folder / "people" / "meta.json").write_text('{"files": {"meta.json": "x"}, "recipe": {}}')
    return {
        "config": (folder / "run" / "config.json", lambda p: _replayed("train", p)),
        "resumed": (
            folder / "run" / "config.json",
            lambda p: RunFolder(p.parent).require_same_config(config),
        ),
        "rows": (folder / "run" / "metrics.jsonl", lambda p: RunFolder(p.parent).read_rows()),
        "summary": (folder / "run" / "environment.json",
                    lambda p: RunFolder(p.parent).read_json(p.name)),
        "examples": (folder / "run" / "examples.npz", lambda p: read_examples(p)),
        "people": (folder / "people" / "meta.json", lambda p: (
            is_whole(p.parent), SyntheticPeople.open(p.parent))),
        "jpeg": (folder / "photo.jpg", load_photo),
        "png": (folder / "photo.png", load_photo),
    }  # fmt: skip


@pytest.fixture
def seeds(tiny_arrays, tiny_body: BodyModel, tmp_path: Path) -> dict[str, Seed]:
    folder = tmp_path
    return {
        **body_seeds(folder, tiny_arrays, tiny_body.hierarchy),
        **weight_seeds(folder),
        **label_seeds(folder),
        **run_seeds(folder),
    }


def change(content: bytes, kind: str, where: float, number: int) -> bytes:
    """One mutation at a share of the content."""
    at = int(where * len(content))
    if kind == "flip":
        return (
            content[:at]
            + bytes([(content[at] if content else 0) ^ number % 255 + 1])
            + content[at + 1 :]
        )
    if kind == "cut":
        return content[:at]
    if kind == "drop":
        return content[:at] + content[at + number % 64 :]
    if kind == "repeat":
        return content[:at] + content[max(0, at - number % 64) :]
    if kind == "number":
        raw = NUMBERS[number % len(NUMBERS)].to_bytes(8, "little")[: 4 + 4 * (number % 2)]
        return content[:at] + raw + content[at + len(raw) :]
    found = list(re.finditer(rb'-?\d+(?:\.\d+)?|"[^"]*"|null|true', content))
    if not found:
        return content
    match = found[int(where * len(found))]
    return content[: match.start()] + BAD_TEXT[number % len(BAD_TEXT)] + content[match.end() :]


MUTATION = st.tuples(
    st.sampled_from(["flip", "cut", "drop", "repeat", "number", "text"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 2**16),
)

MUTATIONS = st.lists(MUTATION, min_size=1, max_size=4)


def mutated(content: bytes, mutations: list, inside: bool) -> bytes:
    if inside and zipfile.is_zipfile(io.BytesIO(content)):
        return repacked(content, mutations)
    if inside and re.match(rb"[0-9a-f]{64}\n", content):
        text = content[65:]
        for mutation in mutations:
            text = change(text, *mutation)
        return hashlib.sha256(text.strip()).hexdigest().encode() + b"\n" + text
    for mutation in mutations:
        content = change(content, *mutation)
    return content


def repacked(content: bytes, mutations: list) -> bytes:
    """The archive with members changed and sums that fit."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for kind, where, number in mutations:
        name = list(members)[number % len(members)]
        head = min(1.0, 200 / (len(members[name]) + 1)) if number % 3 else 1.0
        members[name] = change(members[name], kind, where * head, number // 3)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in members.items():
            archive.writestr(name, part)
    return buffer.getvalue()


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Hang(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_size) for p in folder.rglob("*"))


def attempt(path: Path, content: bytes, read: Callable[[Path], Any]) -> None:
    """Reads the content in place of the file, and holds the reader to its promises."""
    whole = path.read_bytes()
    path.write_bytes(content)
    before = listing(path.parent)
    try:
        with alarm(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except UserError as error:
        assert "\n" not in str(error) and str(error)
    finally:
        after = listing(path.parent)
        path.write_bytes(whole)
    assert after == before


def fuzz(seeds: dict[str, Seed], count: int) -> None:
    for path, read in seeds.values():
        with contextlib.suppress(UserError):
            read(path)
    before = forget_peak()

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        st.sampled_from(sorted(seeds)), st.lists(MUTATION, min_size=1, max_size=4), st.booleans()
    )
    def mutate(name: str, mutations: list, inside: bool) -> None:
        path, read = seeds[name]
        attempt(path, mutated(path.read_bytes(), mutations, inside), read)

    mutate()
    growth = peak_bytes() - before
    assert growth < GROWTH_BYTES


def test_three_hundred_mutated_files(seeds: dict[str, Seed]) -> None:
    fuzz(seeds, 300)


@pytest.mark.slow
def test_ten_thousand_mutated_files(seeds: dict[str, Seed]) -> None:
    fuzz(seeds, 10_000)


UNTOUCHED = ("checkpoint", "people", "manifest as data", "examples", "resumed")


def test_seeds_are_read(seeds: dict[str, Seed]) -> None:
    for name, (path, read) in seeds.items():
        if name not in UNTOUCHED:
            read(path)
