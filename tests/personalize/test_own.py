"""Own pictures: several people need a choice, too few labels name the way on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pchmr.annotate.labels import LabelFolder
from pchmr.body import load_body
from pchmr.config import FittingOptions, LabelingOptions, PersonalizeConfig, SettingError
from pchmr.personalize import own
from pchmr.personalize.users import NothingToLearnError


def labels(folder: Path, status: str, *, crowded: bool) -> Path:
    """A folder with labels of one picture."""
    picture = folder / "photo.png"
    picture.write_bytes(b"picture")
    hidden = np.zeros((1, 4, 4), dtype=bool)
    hidden[0, 0] = crowded
    LabelFolder.open(folder / "labels").write(
        "photo", {"status": np.array([status]), "bystanders": hidden}, {"input_sha256": "0"},
        source=str(picture), status={status: 1},
    )  # fmt: skip
    return folder / "labels"


@pytest.fixture
def config(tmp_path: Path) -> PersonalizeConfig:
    return PersonalizeConfig(images=tmp_path / "photo.png", output=tmp_path / "out")


def test_several_people_and_no_choice_are_refused(
    config: PersonalizeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = labels(tmp_path, "accepted", crowded=True)
    monkeypatch.setattr(own.job, "run", lambda wanted: made)
    with pytest.raises(SettingError, match=r"photo\.png first, show several people.*--person"):
        own.own_user(config, load_body(), 112)
    own.require_choice(replace(config, labeling_options=LabelingOptions(person="largest")), made)


@pytest.mark.parametrize("use_review", [False, True])
def test_no_label_that_counts_names_the_way_on(
    config: PersonalizeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_review: bool
) -> None:
    status = "rejected" if use_review else "review"
    made = labels(tmp_path, status, crowded=False)
    monkeypatch.setattr(own.job, "run", lambda wanted: made)
    options = replace(config, fitting_options=FittingOptions(use_review=use_review))
    with pytest.raises(NothingToLearnError) as told:
        own.own_user(options, load_body(), 112)
    assert f"0 usable labels (1 {status}), 20 are needed" in str(told.value)
    assert ("--use-review" in str(told.value)) is not use_review
    assert f"pchmr labels {made}" in str(told.value)
