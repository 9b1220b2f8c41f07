import dataclasses
from itertools import combinations

import numpy as np
import pytest

from pchmr.body import BodyModel
from pchmr.config import SettingError
from pchmr.data.synthetic.activities import ACTIVITIES
from pchmr.data.synthetic.domains import DOMAINS, SPLITS, WORLD_1, WORLDS
from pchmr.data.synthetic.layout import layout
from pchmr.data.synthetic.recipe import SyntheticRecipe, code_text
from pchmr.data.synthetic.world import World


def recipe(**settings) -> SyntheticRecipe:
    return SyntheticRecipe(**{"num_samples": 100, "image_size": 64, **settings})


@pytest.mark.parametrize("domain", ["A", "B"])
def test_a_hundred_rows_show_many_subjects(domain: str) -> None:
    rows = layout(recipe(domain=domain))
    counts = np.unique(rows.subject, return_counts=True)[1]
    assert len(counts) >= 10
    assert counts.max() <= 10


@pytest.mark.parametrize("domain", list(DOMAINS))
def test_fewer_rows_are_a_prefix(domain: str) -> None:
    few, many = layout(recipe(domain=domain)), layout(recipe(domain=domain, num_samples=900))
    for field in dataclasses.fields(few):
        assert (getattr(few, field.name) == getattr(many, field.name)[:100]).all()


def test_rows_repeat_no_frame() -> None:
    rows = layout(recipe(domain="V", num_samples=5000))
    assert len(set(zip(rows.clip, rows.frame, strict=True))) == 5000


def test_a_prefix_is_spread_over_the_time_of_a_clip() -> None:
    rows = layout(recipe(domain="V", num_samples=480))
    for clip in np.unique(rows.clip):
        frames = np.sort(rows.frame[rows.clip == clip])
        assert np.diff(frames).min() >= 3


def test_splits_share_no_subject_scene_or_clip() -> None:
    for domain in ("A", "B", "W"):
        for name in ("subject", "scene", "clip"):
            ids = [set(getattr(layout(recipe(domain=domain, split=s)), name)) for s in SPLITS]
            assert not (ids[0] & ids[1] or ids[0] & ids[2] or ids[1] & ids[2])


def test_domains_share_no_subject_or_clip() -> None:
    parts = [layout(recipe(domain=domain)) for domain in DOMAINS]
    for name in ("subject", "scene", "clip"):
        ids = [set(getattr(part, name)) for part in parts]
        assert all(not one & other for one, other in combinations(ids, 2))


def test_many_wearers_have_a_room_each_and_headsets(body: BodyModel) -> None:
    many = recipe(domain="W", num_samples=2000)
    rows = layout(many)
    assert len(set(rows.subject)) == 60
    assert len(set(zip(rows.subject, rows.scene, strict=True))) == len(set(rows.scene)) == 60
    assert len(set(layout(recipe(domain="W", split="test", num_samples=400)).subject)) > 250
    wearer = World(many, body).subject(int(rows.subject[0]))
    assert wearer.headset is not None
    with pytest.raises(SettingError, match="world 1 has no domain W"):
        recipe(domain="W", version=1)


def test_headset_wearers_of_world_one_are_four_with_two_sessions_apart() -> None:
    parts = {s: layout(recipe(domain="V", split=s, num_samples=600, version=1)) for s in SPLITS}
    assert all(len(set(p.subject)) == 4 for p in parts.values())
    assert set(parts["train"].subject) == set(parts["test"].subject)
    assert {s: set(p.session) for s, p in parts.items()} == {
        "train": {0}, "validation": {0}, "test": {1},
    }  # fmt: skip
    assert not set(parts["train"].scene) & set(parts["test"].scene)
    clips = [set(p.clip) for p in parts.values()]
    assert not (clips[0] & clips[1] or clips[0] & clips[2] or clips[1] & clips[2])
    assert min(len(set(parts["train"].clip[parts["train"].subject == s])) for s in set(
        parts["train"].subject)) >= 4  # fmt: skip


def test_clients_domain_feeds_a_thousand_clients() -> None:
    rows = layout(recipe(domain="B", num_samples=12_000))
    volumes = np.unique(rows.subject, return_counts=True)[1]
    assert len(np.unique(rows.clip)) >= 1000
    assert volumes.max() > 4 * np.median(volumes) / 2
    assert len(np.unique(rows.action)) >= 12


def test_world_shows_at_least_twelve_activities_and_b_others_than_a() -> None:
    assert all(
        name in ACTIVITIES
        for specs in WORLDS.values()
        for spec in specs.values()
        for name in spec.activities
    )
    a, b = set(WORLD_1["A"].activities), set(WORLD_1["B"].activities)
    assert len(a) >= 12
    assert len(b - a) >= 8


def test_hash_follows_settings() -> None:
    hashes = {
        recipe(**change).content_hash()
        for change in ({}, {"seed": 1}, {"split": "test"}, {"domain": "A"}, {"image_size": 65})
    }
    assert len(hashes) == 5


def test_hash_is_blind_to_comments_and_layout() -> None:
    one = 'def f(a):\n    """Says."""\n    return (a + 1)  # why\n'
    two = 'def f( a ):\n    "Says more."\n\n    return (\n        a + 1\n    )\n'
    assert code_text(one) == code_text(two)
    assert code_text(one) != code_text(one.replace("1", "2"))


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"version": 9}, "version 9"), ({"image_size": 8}, "image_size"), ({"num_samples": 0}, "num")],
)
def test_refuses_what_it_cannot_render(settings: dict, word: str) -> None:
    with pytest.raises(SettingError, match=word):
        recipe(**settings)


def test_every_python_reads_an_f_string_as_one_string() -> None:
    source = 'x = f"{a:>{b}} {{c}}" + (f"d "\n  f"{e!r}")\nf"no docstring {g}"\n'
    assert code_text(source) == 'x=f"{a:>{b}}{{c}}"+(f"d"f"{e!r}");;'
