"""Synthetic people as a data set: rendered once into a cache folder, then read by row.

A cache folder is named by its content hash and holds `images.bin` (JPEG files one after another),
`labels.npz` (one array a column, offsets of the images among them) and `meta.json` (recipe and
hashes). It appears in one rename, so readers never see half of it and two writers do not collide.
"""

import dataclasses
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from pchmr.body import BodyModel
from pchmr.compute import end_with_parent
from pchmr.config import Domain, UserError
from pchmr.data.sample import COLUMNS, Origin, Sample
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.recipe import Rows, SyntheticRecipe
from pchmr.data.synthetic.render import Rendered, render_rows
from pchmr.data.synthetic.sensor import decode, encode
from pchmr.data.synthetic.world import World
from pchmr.door import FileError, Json, read_json
from pchmr.door.arrays import read_arrays
from pchmr.runs import file_sha256
from pchmr.runs.files import sweep_one

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""

RENDER_BATCH = 64
FILES, SEAL = ("images.bin", "labels.npz"), "meta_sha256"
LABELS = (
    "keypoints_2d",
    "joints",
    "global_orient",
    "body_pose",
    "betas",
    "transl",
    "intrinsics",
)
DETAILS = ("heading", "pitch", "fov", "distance", "rise", "visible", "area")


def origin_of(*recipes: SyntheticRecipe) -> Origin:
    """What a result carries about the people behind it: version, and each domain's world hash."""
    return {"version": recipes[0].version, "worlds": {r.domain: r.world_sha256() for r in recipes}}


def current_origin() -> Origin:
    """That of people of every domain as they are rendered today."""
    return origin_of(*(SyntheticRecipe(domain=domain) for domain in get_args(Domain)))


class CacheError(UserError):
    """A cache folder that cannot be used: the message names it and the cure."""


def default_cache() -> Path:
    """$PCHMR_CACHE, or ~/.cache/pchmr."""
    named = os.environ.get("PCHMR_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "pchmr"


class SyntheticPeople:
    """Rendered people with exact labels; see `PeopleDataset`.

    Attributes:
        recipe: What was rendered.
        folder: Cache folder.
        image_size: Side of the crops in pixels.
        content_hash: Over recipe, rendering code and body.
        origin: See `origin_of`; of a folder that was written elsewhere, as it was then.
        columns: `COLUMNS`, and `session`.
        details: What the checks look at: heading, pitch, fov (degrees), distance (metres), visible
            (share of the person that no box hides), area (share of the crop).
    """

    is_private = False

    def __init__(
        self,
        recipe: SyntheticRecipe,
        body: BodyModel,
        cache: Path | None = None,
        progress: Progress | None = None,
        *,
        num_workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """Opens the cached rendering, or renders it first.

        Args:
            recipe: What to render.
            body: Whom; labels are in its parameters.
            cache: Folder of all renderings (default: `default_cache`).
            progress: Told about rendering; not called where the cache is found.
            num_workers: Processes that render, one thread each; 0 renders here.
            device: Where to render without worker processes.

        Raises:
            CacheError: If the cache cannot be written.
        """
        self.recipe, self.image_size = recipe, recipe.image_size
        self.origin: Origin | None = origin_of(recipe)
        key = f"{recipe.content_hash()}{body.sha256}"
        self.content_hash = hashlib.sha256(key.encode()).hexdigest()
        self.folder = (cache or default_cache()) / "people" / self.content_hash[:24]
        if not _is_of(self.folder, recipe, self.content_hash):
            shutil.rmtree(self.folder, ignore_errors=True)
            batches = _rendered(recipe, body, num_workers, device)
            write_folder(self.folder, recipe, self.content_hash, batches, progress)
        self._read()

    @classmethod
    def write(
        cls,
        folder: Path,
        recipe: SyntheticRecipe,
        body: BodyModel,
        progress: Progress | None = None,
        *,
        num_workers: int = 0,
    ) -> "SyntheticPeople":
        """Renders into a folder of the user's own, for `open`; an older rendering is replaced."""
        key = f"{recipe.content_hash()}{body.sha256}"
        content_hash = hashlib.sha256(key.encode()).hexdigest()
        if is_whole(folder):
            shutil.rmtree(folder)
        batches = _rendered(recipe, body, num_workers, "cpu")
        write_folder(folder, recipe, content_hash, batches, progress)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "SyntheticPeople":
        """The people of a folder that `pchmr data synth` wrote; nothing is rendered.

        Raises:
            CacheError: The folder is missing, damaged, or no rendering.
        """
        if not is_whole(folder):
            raise CacheError(
                f"{folder} holds no whole rendering, or one of an older version of pchmr; write it "
                "anew with `pchmr data synth`"
            )
        people = cls.__new__(cls)
        meta = _meta(folder)
        try:
            people.recipe = SyntheticRecipe(**meta["recipe"])
            people.content_hash = str(meta["content_hash"])
        except (KeyError, TypeError) as error:
            raise CacheError(
                f"{folder / 'meta.json'} does not say what was rendered ({error}); write the "
                "folder anew with `pchmr data synth`"
            ) from None
        people.image_size = people.recipe.image_size
        people.folder, people.origin = folder, meta.get("origin")
        people._read()
        return people

    def _read(self) -> None:
        self._arrays = read_arrays(self.folder / "labels.npz")
        self._jpeg = np.memmap(self.folder / "images.bin", dtype=np.uint8, mode="r")
        lengths = {len(self._arrays[name]) for name in (*COLUMNS, *LABELS)}
        if lengths != {len(self)}:
            raise CacheError(
                f"{self.folder} holds other rows than its recipe says; write it anew with "
                "`pchmr data synth`"
            )
        self.columns = {name: self._arrays[name] for name in (*COLUMNS, "session")}
        self.details = {name: self._arrays[name] for name in DETAILS}

    def __len__(self) -> int:
        return self.recipe.num_samples

    @property
    def stored_bytes(self) -> int:
        """Bytes of all pictures and labels: what collecting them in one place would move."""
        return sum((self.folder / name).stat().st_size for name in ("images.bin", "labels.npz"))

    def image(self, row: int) -> np.ndarray:
        """8-bit RGB picture of one row, (height, width, 3)."""
        start, end = self._arrays["offset"][row : row + 2]
        return decode(self._jpeg[start:end].tobytes())

    def batch(self, indices: Sequence[int] | np.ndarray) -> Sample:
        """The rows asked for, in that order; decodes only these."""
        rows = np.asarray(indices, dtype=np.int64)
        pictures = torch.from_numpy(np.stack([self.image(row) for row in rows.tolist()]))
        known = torch.ones(len(rows), dtype=torch.bool)
        return Sample(
            images=pictures.permute(0, 3, 1, 2).float() / 255,
            **{name: torch.from_numpy(self._arrays[name][rows]) for name in LABELS},
            has_smpl=known,
            has_joints=known.clone(),
            has_keypoints_2d=known.clone(),
            index=torch.from_numpy(rows),
        )


def _rendered(
    recipe: SyntheticRecipe, body: BodyModel, num_workers: int, device: torch.device | str
) -> Iterator[tuple[list[bytes], dict[str, np.ndarray]]]:
    """JPEG files and labels of all rows, batch by batch in order."""
    starts = range(0, recipe.num_samples, RENDER_BATCH)
    if num_workers == 0 or len(starts) == 1:
        world, rows = World(recipe, body), layout(recipe)
        for start in starts:
            part = rows.take(slice(start, start + RENDER_BATCH))
            yield _packed(render_rows(world, part, device), part)
        return
    with ProcessPoolExecutor(
        num_workers,
        get_context("spawn"),
        initializer=_start_worker,
        initargs=(recipe, body, os.getpid()),
    ) as pool:
        yield from pool.map(_work, starts)


def _packed(rendered: Rendered, rows: Rows) -> tuple[list[bytes], dict[str, np.ndarray]]:
    columns = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
    return [encode(image) for image in rendered.images], {**rendered.labels, **columns}


_worker: list[tuple[World, Rows]] = []


def _start_worker(recipe: SyntheticRecipe, body: BodyModel, parent: int) -> None:
    end_with_parent(parent)
    torch.set_num_threads(1)
    _worker[:] = [(World(recipe, body), layout(recipe))]


def _work(start: int) -> tuple[list[bytes], dict[str, np.ndarray]]:
    world, rows = _worker[0]
    part = rows.take(slice(start, start + RENDER_BATCH))
    return _packed(render_rows(world, part), part)


def write_folder(
    folder: Path,
    recipe: SyntheticRecipe,
    content_hash: str,
    batches: Iterator[tuple[list[bytes], dict[str, np.ndarray]]],
    progress: Progress | None = None,
) -> None:
    """Writes a cache folder under a temporary name and renames it when it is whole."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
            sweep_one(left)
        draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        draft.mkdir()
    except OSError as error:
        raise CacheError(
            f"cannot write to {folder.parent} ({error.strerror}): choose another folder "
            "with --cache"
        ) from None
    try:
        _fill(draft, recipe, content_hash, batches, progress)
        try:
            draft.rename(folder)
        except OSError:
            if not is_whole(folder):
                raise
    except OSError as error:
        raise CacheError(
            f"cannot write {folder} ({error.strerror}): free some space or choose another folder "
            "with --cache"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(
    draft: Path,
    recipe: SyntheticRecipe,
    content_hash: str,
    batches: Iterator[tuple[list[bytes], dict[str, np.ndarray]]],
    progress: Progress | None,
) -> None:
    sizes: list[int] = []
    parts: list[dict[str, np.ndarray]] = []
    with (draft / "images.bin").open("wb") as file:
        for jpegs, labels in batches:
            file.writelines(jpegs)
            sizes += [len(jpeg) for jpeg in jpegs]
            parts.append(labels)
            if progress is not None:
                progress(len(sizes), recipe.num_samples)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["offset"] = np.concatenate([[0], np.cumsum(sizes)])
    np.savez_compressed(draft / "labels.npz", allow_pickle=False, **arrays)
    meta = {
        "recipe": dataclasses.asdict(recipe),
        "origin": origin_of(recipe),
        "content_hash": content_hash,
        "files": {name: file_sha256(draft / name) for name in FILES},
    }
    meta[SEAL] = _seal(meta)
    (draft / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether a rendering is there and every file is as it was written, `meta.json` too."""
    meta = _meta(folder)
    return meta.get(SEAL) == _seal(meta) and _has_files(folder, meta)


def _is_of(folder: Path, recipe: SyntheticRecipe, content_hash: str) -> bool:
    """Whether a cache folder holds the rendering that is asked for.

    What its `meta.json` should say is known, so one without a seal (version 0.1) will do.
    """
    meta = _meta(folder)
    known = {"recipe": dataclasses.asdict(recipe), "content_hash": content_hash}
    agrees = all(meta.get(name) == value for name, value in known.items())
    return agrees and meta.get(SEAL) in (None, _seal(meta)) and _has_files(folder, meta)


def _meta(folder: Path) -> Json:
    """What `meta.json` holds; nothing where it cannot be read."""
    try:
        meta = read_json(folder / "meta.json")
    except (FileError, OSError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _seal(meta: Json) -> str:
    rest = {name: value for name, value in meta.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _has_files(folder: Path, meta: Json) -> bool:
    """Whether the files are those that `meta.json` names, all of them."""
    try:
        return meta.get("files") == {name: file_sha256(folder / name) for name in FILES}
    except OSError:
        return False
