"""Recipes of rendered people: their settings, their seeds and their content hash.

What the rows of a recipe show is `layout.py`; what a domain looks like is `domains.py`.
"""

import dataclasses
import hashlib
import io
import json
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from pchmr.config import Domain, require
from pchmr.data.synthetic.domains import DOMAINS, SPLITS, WORLDS, DomainSpec, Split
from pchmr.data.synthetic.frozen import SOURCE_SHA256, WORLD_SHA256
from pchmr.seeds import derive_seed

RECIPE_VERSION, VERSIONS = 2, (1, 2)
UNHASHED = ("__init__.py", "check.py", "frozen.py", "people.py")
"""Files of this package that cannot change a picture or a label."""
F_STRING_START = getattr(tokenize, "FSTRING_START", None)
F_STRING_END = getattr(tokenize, "FSTRING_END", None)
FRAMES_PER_SECOND = 10
SPLIT_STRIDE, DOMAIN_STRIDE = 100_000, 1_000_000


@dataclass(frozen=True, kw_only=True)
class SyntheticRecipe:
    """Everything that decides a set of rendered people, apart from the body.

    Attributes:
        domain: "A" pretraining, "B" clients, "V" headset, "W" many headsets (world 2).
        split: Disjoint in subjects and scenes (V: in clips, and test in the session).
        num_samples: Rows; any number.
        image_size: Side of the crops in pixels.
        seed: Draws the people.
        version: Of the world, see `domains.py`.
    """

    domain: Domain = "B"
    split: Split = "train"
    num_samples: int = 2000
    image_size: int = 128
    seed: int = 0
    version: int = RECIPE_VERSION

    def __post_init__(self) -> None:
        require(self.domain in DOMAINS, f"domain {self.domain!r} must be one of {DOMAINS}")
        require(self.split in SPLITS, f"split {self.split!r} must be one of {[*SPLITS]}")
        require(self.num_samples >= 1, "num_samples must be at least 1")
        require(self.image_size >= 32, "image_size must be at least 32 pixels")
        require(
            self.version in VERSIONS,
            f"recipe version {self.version} cannot be rendered here: known are {VERSIONS}",
        )
        require(
            self.domain in WORLDS[self.version],
            f"world {self.version} has no domain {self.domain}: leave the world out, or take "
            f"one of {[*WORLDS[self.version]]}",
        )

    @property
    def spec(self) -> DomainSpec:
        """The domain's ranges."""
        return WORLDS[self.version][self.domain]

    def content_hash(self) -> str:
        """Changes with any setting and with the code that draws and renders.

        Code that is known to render the frozen world (see `frozen.py`) keeps that world's name.
        """
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256((text + self.world_sha256()).encode()).hexdigest()

    def world_sha256(self) -> str:
        """Name of the world that the rows belong to, whatever their number and size."""
        source = source_sha256()
        return WORLD_SHA256[self.version][self.domain] if source == SOURCE_SHA256 else source

    def generator(self, *names: str | int) -> np.random.Generator:
        """Random numbers that belong to a named thing of this split."""
        split = "all" if self.domain == "V" else self.split
        place = (self.version, self.domain, split)
        return np.random.default_rng(derive_seed(self.seed, "people", *place, *names))


@dataclass(frozen=True)
class Rows:
    """What rows show: one value per row; ids are unique over all domains and splits."""

    subject: np.ndarray
    scene: np.ndarray
    action: np.ndarray
    clip: np.ndarray
    frame: np.ndarray
    session: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, index: np.ndarray | slice) -> "Rows":
        """Some of the rows."""
        return Rows(**{f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)})


def first_ids(recipe: SyntheticRecipe) -> tuple[int, int]:
    """Ids of the first subject and of the first scene of a split."""
    start = DOMAIN_STRIDE * DOMAINS.index(recipe.domain)
    split = 0 if recipe.domain == "V" else SPLIT_STRIDE * SPLITS.index(recipe.split)
    return start + split, start + split


@lru_cache(maxsize=1)
def source_sha256() -> str:
    """Hash of the code of this package, blind to comments, docstrings and layout."""
    digest = hashlib.sha256()
    package = resources.files("pchmr.data.synthetic")
    for name in sorted(f.name for f in package.iterdir() if f.name.endswith(".py")):
        if name not in UNHASHED:
            digest.update(code_text((package / name).read_text(encoding="utf-8")).encode())
    digest.update((package / "assets" / "environments_v2.npz").read_bytes())
    return digest.hexdigest()


def code_text(source: str) -> str:
    """Source text without comments, docstrings and white space; indentation becomes marks."""
    marks = {tokenize.INDENT: "{", tokenize.DEDENT: "}", tokenize.NEWLINE: ";"}
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER)
    parts: list[str] = []
    for kind, text in _tokens(source):
        starts = not parts or parts[-1] in marks.values()
        if kind in skipped or (kind == tokenize.STRING and starts):
            continue
        parts.append(marks.get(kind, "".join(text.split())))
    return "".join(part for part in parts if part)


def _tokens(source: str) -> Iterator[tuple[int, str]]:
    """Kinds and texts, every f-string one string: so it was before Python 3.12 took them apart."""
    lines = source.splitlines(keepends=True)
    opened: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == F_STRING_START:
            opened.append(token.start)
        elif token.type == F_STRING_END:
            start = opened.pop()
            if not opened:
                yield tokenize.STRING, _between(lines, start, token.end)
        elif not opened:
            yield token.type, token.string


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """Text from one place to another, each a line, counted from 1, and a column."""
    (first, left), (last, right) = start, end
    shown = lines[first - 1 : last]
    shown[-1] = shown[-1][:right]
    shown[0] = shown[0][left:]
    return "".join(shown)
