"""People rendered during training: those of the cache in the first epoch, others in the next."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pchmr.body import load_body
from pchmr.config import DataOptions, FederateConfig, OptimOptions, SettingError, TrainConfig
from pchmr.data import load_people
from pchmr.data.live import LivePeople
from pchmr.data.sample import PeopleDataset, RenewedPeople
from pchmr.models import build_model
from pchmr.runs import RunFolder, state_sha256
from pchmr.training import fit

OPTIONS = DataOptions(num_samples=5, num_test_samples=3, on_the_fly=True)


@pytest.fixture
def live(tmp_path: Path) -> LivePeople:
    options = replace(OPTIONS, cache=tmp_path)
    found = load_people(options, "train", body=load_body(), seed=0, image_size=64)
    assert isinstance(found, LivePeople) and not list(tmp_path.iterdir())
    return found


def test_the_first_epoch_is_what_a_cache_would_hold(live: LivePeople, tmp_path: Path) -> None:
    options = replace(OPTIONS, on_the_fly=False, cache=tmp_path)
    stored = load_people(options, "train", body=load_body(), seed=0, image_size=64)
    assert isinstance(live, PeopleDataset) and isinstance(live, RenewedPeople)
    assert not isinstance(stored, RenewedPeople)
    rows = [3, 0, 4]
    ours, theirs = live.batch(rows), stored.batch(rows)
    assert (ours.images - theirs.images).abs().max() <= 1 / 255
    assert (ours.images != theirs.images).float().mean() < 0.01
    for name in ("keypoints_2d", "joints", "body_pose", "betas", "transl", "intrinsics"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    for name, column in stored.columns.items():
        if name in live.columns:
            np.testing.assert_array_equal(column, live.columns[name])


def test_every_epoch_shows_other_moments_of_the_same_subjects(live: LivePeople) -> None:
    wide = LivePeople(replace(live.recipe, num_samples=400), load_body())
    later = wide.of_epoch(2)
    assert len(later) == 400 and later.content_hash != wide.content_hash
    assert set(later.columns["subject"]) <= set(range(1_000_000, 1_100_000))
    assert set(later.columns["subject"]) & set(wide.columns["subject"])

    def moments(people: LivePeople) -> set[tuple[int, int]]:
        return set(zip(people.columns["clip"], people.columns["frame"], strict=True))

    assert not moments(wide) & moments(later)
    assert wide.of_epoch(0) is wide and moments(wide.of_epoch(2)) == moments(later)


def test_a_stopped_run_resumes_with_the_people_of_its_epoch(
    live: LivePeople, tmp_path: Path
) -> None:
    body, hashes = load_body(), []
    config = TrainConfig(num_epochs=2, optim_options=OptimOptions(batch_size=5), resume=True)
    for stops in (False, True):
        torch.manual_seed(0)
        model = build_model("fastmetro_xs", body.hierarchy, image_size=64)
        folder = tmp_path / str(stops)
        folder.mkdir()
        run = RunFolder(folder)
        if stops:
            fit(model, body, live, replace(config, num_epochs=1), run=run)
            torch.manual_seed(0)
            model = build_model("fastmetro_xs", body.hierarchy, image_size=64)
        rows = fit(model, body, live, config, run=run)
        assert [row["num_samples"] for row in rows] == [5, 5]
        hashes.append(state_sha256(model.state_dict()))
    assert hashes[0] == hashes[1]


def test_what_cannot_be_rendered_anew_is_refused() -> None:
    with pytest.raises(SettingError, match=r"--on-the-fly .*cannot read --data"):
        replace(OPTIONS, data=Path("people"))
    with pytest.raises(SettingError, match=r"--on-the-fly .*a client keeps its own"):
        FederateConfig(data_options=OPTIONS)
