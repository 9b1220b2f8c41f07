"""`pchmr personalize` end to end on rendered users: scores, files, privacy, what is refused."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pchmr.annotate import manage
from pchmr.annotate.consent import read_consent, record
from pchmr.config import (
    FittingOptions,
    LabelsConfig,
    PersonalizeConfig,
    SettingError,
    UserError,
)
from pchmr.data.sample import Subset
from pchmr.data.synthetic import SyntheticPeople
from pchmr.door import Json
from pchmr.personalize import rehearsal, rendered, run
from pchmr.personalize.teaching import Teacher

pytestmark = pytest.mark.whole

SHORT = FittingOptions(
    num_epochs=1, setting_epochs=1, num_others=6, num_rehearsed=8, min_labels=2, use_review=True,
    batch_size=4,
)  # fmt: skip
SCORES = {"mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm"}


@pytest.fixture(scope="module")
def config(root: Path, tmp_path_factory: pytest.TempPathFactory) -> PersonalizeConfig:
    """One user, one epoch; every test that runs it finds the labels of the first."""
    output = tmp_path_factory.mktemp("personal") / "out"
    return PersonalizeConfig(images=root, output=output, num_users=1, fitting_options=SHORT)


@pytest.fixture(scope="module")
def summary(config: PersonalizeConfig) -> Json:
    """What one run found; its output stays for the other tests."""
    return run(config)


def test_a_rendered_user_gets_a_personal_model_and_scores(
    config: PersonalizeConfig, summary: Json
) -> None:
    written = json.loads((config.output / "summary.json").read_text())
    assert written["users"].keys() == summary["users"].keys()
    for name in ("before", "after", "before_truth", "after_truth", "constant_truth"):
        assert set(summary[name]) == SCORES and all(v > 0 for v in summary[name].values())
    (user,) = summary["users"].values()
    assert user["best_epoch"] in (0, 1) and len(user["validation_mm"]) == 2
    assert min(user["validation_mm"]) == user["validation_mm"][user["best_epoch"]]
    assert sum(user["labels"].values()) == 6
    (model,) = config.output.glob("users/*/model.safetensors")
    assert (model.parent / "before_after.png").is_file()
    for path in (config.output, *config.output.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_truth_teaches_nothing(
    config: PersonalizeConfig,
    summary: Json,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    batch = SyntheticPeople.batch

    def lying(people: SyntheticPeople, indices: np.ndarray):
        sample = batch(people, indices)
        if people.recipe.domain != "V" or people.recipe.seed in rehearsal.OTHERS_SEEDS:
            return sample
        return replace(
            sample, body_pose=sample.body_pose + 1, joints=-sample.joints, betas=sample.betas + 1,
            keypoints_2d=-sample.keypoints_2d, intrinsics=2 * sample.intrinsics,
        )  # fmt: skip

    monkeypatch.setattr(SyntheticPeople, "batch", lying)
    again = replace(config, output=tmp_path / "out", labels=config.output / "labels")
    second = run(again)
    assert second["after"] == summary["after"]
    assert second["after_truth"] != summary["after_truth"]


def test_a_second_run_finds_finished_users(
    config: PersonalizeConfig, summary: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr(Teacher, "teach", never)
    monkeypatch.setattr(Teacher, "settle", never)
    again = run(config)
    assert again["users"] == summary["users"] and again["after_truth"] == summary["after_truth"]


def test_the_setting_and_the_labels_are_told_apart(
    config: PersonalizeConfig, summary: Json
) -> None:
    (user,) = summary["users"].values()
    assert set(summary["settled_truth"]) == SCORES and summary["setting"] == "V"
    assert user["network_error_mm"] > 0 and user["annotator_error_mm"] > 0
    assert user["label_error_mm"] > 0


def test_too_few_held_out_labels_leave_the_setting(
    config: PersonalizeConfig, summary: Json, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rendered, "held_out", lambda labels, _: Subset(labels, np.arange(0)))
    again = run(replace(config, output=tmp_path / "out", labels=config.output / "labels"))
    assert again["after_truth"] == again["settled_truth"] == summary["settled_truth"]
    (user,) = again["users"].values()
    assert "best_epoch" not in user and list(tmp_path.glob("out/users/*/model.safetensors"))


def test_too_few_labels_say_where_to_look(
    config: PersonalizeConfig, summary: Json, tmp_path: Path
) -> None:
    few = replace(config, output=tmp_path / "out", labels=config.output / "labels",
                  fitting_options=replace(SHORT, min_labels=7))  # fmt: skip
    with pytest.raises(UserError, match=r"7 are needed.*pchmr labels"):
        run(few)
    assert not list((tmp_path / "out").rglob("model.safetensors"))


def test_labels_of_other_pictures_are_refused(config: PersonalizeConfig, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="missing or belong to other pictures"):
        run(replace(config, output=tmp_path / "out", labels=tmp_path / "labels"))


def test_deleting_labels_takes_the_personal_model_along(
    config: PersonalizeConfig, summary: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    (labels,) = config.output.glob("labels/*")
    (model,) = config.output.glob("users/*/model.safetensors")
    consent = read_consent(labels)
    assert consent is not None and str(model.resolve()) in consent.personal_models
    record(labels, who=consent.who, purpose="federated training", federated_models=["round-3"])
    manage(LabelsConfig(labels=labels, delete="all"))
    told = capsys.readouterr().out
    assert not model.exists() and not labels.exists()
    assert "not unlearned: federated model round-3" in told
