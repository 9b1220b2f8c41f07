import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.body import BodyModel
from pchmr.data.sample import COLUMNS, Subset
from pchmr.data.synthetic import CacheError, SyntheticPeople, SyntheticRecipe, origin_of
from pchmr.data.synthetic.check import check

RECIPE = SyntheticRecipe(domain="B", num_samples=10, image_size=48)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def people(body: BodyModel, cache: Path) -> SyntheticPeople:
    return SyntheticPeople(RECIPE, body, cache)


def test_is_a_people_dataset(people: SyntheticPeople) -> None:
    assert len(people) == 10
    assert people.image_size == 48
    assert set(COLUMNS) <= set(people.columns)
    assert all(len(column) == 10 for column in people.columns.values())


def test_batch_gives_rows_in_the_order_asked_for(people: SyntheticPeople) -> None:
    whole, some = people.batch(range(10)), people.batch([7, 2])
    assert some.images.shape == (2, 3, 48, 48)
    assert some.index.tolist() == [7, 2]
    assert torch.equal(some.images, whole.images[[7, 2]])
    assert torch.equal(some.joints, whole.joints[[7, 2]])
    assert bool(whole.has_smpl.all())


def test_same_recipe_same_bytes(people: SyntheticPeople, body: BodyModel, tmp_path: Path) -> None:
    again = SyntheticPeople(RECIPE, body, tmp_path)
    assert again.content_hash == people.content_hash
    for name in ("images.bin", "meta.json"):
        assert (again.folder / name).read_bytes() == (people.folder / name).read_bytes()


def test_second_opening_renders_nothing(people: SyntheticPeople, body: BodyModel) -> None:
    calls: list[tuple[int, int]] = []
    again = SyntheticPeople(
        RECIPE, body, people.folder.parents[1], lambda done, total: calls.append((done, total))
    )
    assert calls == []
    assert torch.equal(again.batch([3]).images, people.batch([3]).images)


@pytest.mark.parametrize("name", ["images.bin", "labels.npz", "meta.json"])
def test_a_damaged_cache_is_rendered_again(body: BodyModel, tmp_path: Path, name: str) -> None:
    recipe = SyntheticRecipe(domain="V", num_samples=2, image_size=32)
    first = SyntheticPeople(recipe, body, tmp_path)
    kept = (first.folder / name).read_bytes()
    (first.folder / name).write_bytes(kept[: len(kept) // 2])
    calls: list[int] = []
    SyntheticPeople(recipe, body, tmp_path, lambda done, _: calls.append(done))
    assert calls == [2]
    assert (first.folder / name).stat().st_size == len(kept)


def test_a_killed_rendering_leaves_no_folder(body: BodyModel, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SyntheticPeople(RECIPE, body, tmp_path, stop)
    assert list((tmp_path / "people").iterdir()) == []


def test_an_unwritable_cache_is_named(body: BodyModel, tmp_path: Path) -> None:
    (tmp_path / "people").write_text("a file in the way")
    with pytest.raises(CacheError, match="--cache"):
        SyntheticPeople(RECIPE, body, tmp_path)


def test_the_other_of_two_writers_wins_quietly(
    people: SyntheticPeople, body: BodyModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pchmr.data.synthetic.people as module

    real = module.is_whole
    monkeypatch.setattr(module, "_is_of", lambda *_: False)
    monkeypatch.setattr(module.shutil, "rmtree", lambda *args, **kwargs: None)
    again = SyntheticPeople(RECIPE, body, cache)
    assert real(again.folder)


def test_check_measures_and_draws(people: SyntheticPeople, body: BodyModel) -> None:
    found = check(people, body, num_posed=10)
    assert found.summary["limits"]["from_labels_deg"] < 0.01
    assert found.summary["labels"]["joints_inside_person"] > 0.9
    assert found.summary["duplicates"] == {"pictures": 0, "poses": 0}
    height = found.summary["distributions"]["height"]
    assert 1.3 < min(height.values()) <= max(height.values()) < 2.2
    assert set(found.figures) == {"distributions", "angles", "sheet", "overlay"}
    assert all(png.startswith(b"\x89PNG") for png in found.figures.values())


def test_a_folder_names_the_recipe_it_was_rendered_by(body: BodyModel, tmp_path: Path) -> None:
    written = SyntheticPeople.write(tmp_path / "train", RECIPE, body)
    assert written.origin == origin_of(RECIPE) == Subset(written, np.arange(2)).origin
    reseal(tmp_path / "train", origin={"version": 1, "worlds": {"B": "0" * 64}})
    older = SyntheticPeople.open(tmp_path / "train")
    assert older.origin == {"version": 1, "worlds": {"B": "0" * 64}}


def reseal(folder: Path, **changes: object) -> None:
    """Changes what `meta.json` says, None for nothing, and its seal with it."""
    path = folder / "meta.json"
    meta = {**json.loads(path.read_text()), **changes}
    meta = {name: value for name, value in meta.items() if value is not None}
    meta.pop("meta_sha256")
    text = json.dumps(meta, sort_keys=True).encode()
    path.write_text(json.dumps({**meta, "meta_sha256": hashlib.sha256(text).hexdigest()}))


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {}},
        {"files": {"labels.npz": "0" * 64}},
        {"recipe": {"num_samples": 10**9}},
        {"recipe": {"num_samples": 1}},
        {"content_hash": "0" * 64, "meta_sha256": None},
    ],
)
def test_a_folder_whose_meta_was_changed_is_refused(
    people: SyntheticPeople, tmp_path: Path, changes: dict
) -> None:
    """Sealed anew where only the rows or files are wrong; else as somebody edited it."""
    folder = tmp_path / "train"
    shutil.copytree(people.folder, folder)
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    if "recipe" in changes:
        reseal(folder, recipe={**meta["recipe"], **changes["recipe"]})
    elif "meta_sha256" in changes:
        path.write_text(json.dumps({**meta, **changes}))
    else:
        reseal(folder, **changes)
    with pytest.raises(CacheError, match="data synth"):
        SyntheticPeople.open(folder)


def test_a_cache_without_a_seal_is_read_and_an_emptied_one_is_rendered_anew(
    people: SyntheticPeople, body: BodyModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As version 0.1 left it; what its `meta.json` should say is known."""
    import pchmr.data.synthetic.people as module

    path = people.folder / "meta.json"
    whole = path.read_text()
    plain = {name: value for name, value in json.loads(whole).items() if name != "meta_sha256"}
    written: list[object] = []
    monkeypatch.setattr(module, "write_folder", lambda *found: written.append(found))
    monkeypatch.setattr(module.shutil, "rmtree", lambda *args, **kwargs: None)
    try:
        path.write_text(json.dumps(plain))
        assert len(SyntheticPeople(RECIPE, body, cache)) == len(people) and not written
        path.write_text(json.dumps({**plain, "files": {}}))
        SyntheticPeople(RECIPE, body, cache)
        assert len(written) == 1
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("gone", ["recipe", "content_hash"])
def test_a_folder_that_does_not_say_what_it_holds(
    body: BodyModel, tmp_path: Path, gone: str
) -> None:
    SyntheticPeople.write(tmp_path / "train", RECIPE, body)
    reseal(tmp_path / "train", **{gone: None})
    with pytest.raises(CacheError, match=rf"meta\.json .*{gone}.*pchmr data synth"):
        SyntheticPeople.open(tmp_path / "train")


@pytest.mark.slow
def test_worker_processes_render_the_same(body: BodyModel, tmp_path: Path) -> None:
    recipe = SyntheticRecipe(domain="A", num_samples=130, image_size=48)
    one = SyntheticPeople(recipe, body, tmp_path / "one")
    two = SyntheticPeople(recipe, body, tmp_path / "two", num_workers=2)
    assert np.array_equal(one.batch(range(130)).images, two.batch(range(130)).images)


def test_any_body_of_the_format_can_be_rendered(tiny_body: BodyModel, tmp_path: Path) -> None:
    recipe = SyntheticRecipe(domain="V", num_samples=4, image_size=32)
    people = SyntheticPeople(recipe, tiny_body, tmp_path)
    assert torch.isfinite(people.batch(range(4)).joints).all()
