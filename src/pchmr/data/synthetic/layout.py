"""What each row of a recipe shows: subject, scene, activity, clip and frame.

A row is a frame of a clip; a clip is one subject doing one thing in one scene. Row i depends on
(version, domain, split, seed, i) alone: a smaller `num_samples` is a prefix, spread evenly over
subjects, scenes and clips, and a larger one fills the clips up before it adds more.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Int

from pchmr.data.synthetic.domains import DOMAINS, SPLITS
from pchmr.data.synthetic.recipe import (
    DOMAIN_STRIDE,
    SPLIT_STRIDE,
    Rows,
    SyntheticRecipe,
    first_ids,
)

SESSION_CLIPS = {
    1: {"train": (0, 0, 5), "validation": (0, 5, 8), "test": (1, 0, 8)},
    2: {"train": (0, 0, 5), "validation": (1, 5, 8), "test": (2, 0, 8)},
}
"""Headset domain, by world: session, first clip and last clip (exclusive) of each split."""


def layout(recipe: SyntheticRecipe) -> Rows:
    """What each row of a recipe shows."""
    clips = _clips(recipe)
    length = clips.pop("length")
    clip, frame = _spread(length, recipe.generator("spread", recipe.split))
    total = len(clip)
    taken, slot = np.divmod(np.arange(recipe.num_samples), total)
    base = DOMAIN_STRIDE * 100 * DOMAINS.index(recipe.domain)
    base += SPLIT_STRIDE * 100 * SPLITS.index(recipe.split)
    columns = {name: values[clip[slot]] for name, values in clips.items()}
    return Rows(**columns, clip=base + taken * len(length) + clip[slot], frame=frame[slot])


def _clips(recipe: SyntheticRecipe) -> dict[str, np.ndarray]:
    return _session_clips(recipe) if recipe.domain == "V" else _pool_clips(recipe)


def _pool_clips(recipe: SyntheticRecipe) -> dict[str, np.ndarray]:
    """Clips of subjects that each visit a few scenes, with log-normal volumes."""
    pools, spec = recipe.spec.pools[recipe.split], recipe.spec
    rng, first = recipe.generator("layout"), first_ids(recipe)
    columns: dict[str, list] = {name: [] for name in ("subject", "scene", "action", "length")}
    volume = rng.lognormal(-(pools.volume_spread**2) / 2, pools.volume_spread, pools.num_subjects)
    for subject in range(pools.num_subjects):
        visited = rng.choice(pools.num_scenes, pools.scenes_per_subject, replace=False)
        for scene in [subject] if pools.own_scene else visited:
            share = rng.dirichlet(np.full(len(spec.activities), spec.action_skew))
            actions = rng.choice(len(spec.activities), pools.clips_per_scene, p=share)
            length = pools.frames * volume[subject] * rng.lognormal(-0.08, 0.4, len(actions))
            columns["subject"] += [first[0] + subject] * len(actions)
            columns["scene"] += [first[1] + int(scene)] * len(actions)
            columns["action"] += [spec.activities[a] for a in actions]
            columns["length"] += list(np.clip(length, 8, 400).astype(int))
    found = {name: np.array(values) for name, values in columns.items()}
    return {**found, "session": np.zeros(len(found["length"]), dtype=np.int64)}


def _session_clips(recipe: SyntheticRecipe) -> dict[str, np.ndarray]:
    """Clips of the headset domain: every subject in its own room, another room each session."""
    pools, spec = recipe.spec.pools[recipe.split], recipe.spec
    session, first, last = SESSION_CLIPS[recipe.version][recipe.split]
    start = first_ids(recipe)
    subject, clip = np.divmod(np.arange(pools.num_subjects * (last - first)), last - first)
    action = (clip + first + subject) % len(spec.activities)
    length = recipe.generator("layout", recipe.split).lognormal(
        np.log(pools.frames), 0.25, len(clip)
    )
    return {
        "subject": start[0] + subject,
        "scene": start[1] + session * pools.num_subjects + subject,
        "action": np.array(spec.activities)[action],
        "length": np.clip(length, 24, 200).astype(int),
        "session": np.full(len(clip), session),
    }


def _spread(
    length: Int[np.ndarray, " clips"], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """An order of all frames of all clips in which every prefix is spread over clips and time."""
    clip = np.repeat(np.arange(len(length)), length)
    rank = np.arange(len(clip)) - np.repeat(np.cumsum(length) - length, length)
    due = (rank + rng.random(len(length))[clip]) / length[clip]
    frame = np.concatenate([_bit_reversed(n) for n in length.tolist()])
    order = np.argsort(due, kind="stable")
    return clip[order], frame[order]


@lru_cache(maxsize=512)
def _bit_reversed(count: int) -> np.ndarray:
    """0 .. count - 1, each prefix spread over the range (van der Corput)."""
    bits = max(int(count - 1).bit_length(), 1)
    value = np.arange(1 << bits)
    reverse = sum(((value >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return np.asarray(reverse)[np.asarray(reverse) < count]
