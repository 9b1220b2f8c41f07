"""What is refused before people are rendered and a model is scored."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pchmr import cli, experiment
from pchmr.config import DataOptions, FederateConfig, PartitionOptions, SettingError, TrainConfig
from pchmr.experiment import Scene
from pchmr.models import build_model
from pchmr.runs import CONFIG, RunFolder


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_scene(_: object) -> None:
        raise AssertionError("people were rendered")

    monkeypatch.setattr(experiment, "open_scene", open_scene)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": "natural", "num_clients": 400}, "natural clients"),
        ({"partition": "dirichlet", "partition_options": PartitionOptions(partition_label="mood")},
         "no such column"),
    ],
)  # fmt: skip
def test_partitions(changes: dict, message: str, blind: None, tmp_path: Path) -> None:
    data = DataOptions(num_samples=400)
    with pytest.raises(SettingError, match=message):
        experiment.federate(FederateConfig(output=tmp_path, data_options=data, **changes))


def test_resuming_with_another_config(blind: None, tmp_path: Path) -> None:
    config = FederateConfig(output=tmp_path, resume=True)
    RunFolder.create(tmp_path, replace(config, seed=1))
    with pytest.raises(SettingError, match="another seed"):
        experiment.federate(config)
    (tmp_path / CONFIG).write_text("{torn")
    with pytest.raises(SettingError, match="is damaged; start anew"):
        experiment.federate(config)


@pytest.fixture
def toy_scene(monkeypatch: pytest.MonkeyPatch, tiny_body, make_people) -> None:
    """A few random people and the same random weights, whenever a scene is opened."""

    def open_scene(config: TrainConfig | FederateConfig) -> Scene:
        torch.manual_seed(0)
        model = build_model("fastmetro_xs", tiny_body.hierarchy, image_size=64)
        people, others = make_people(tiny_body, 6, 64), make_people(tiny_body, 4, 64, seed=1)
        return Scene(tiny_body, model, {"kind": "random"}, people, others)

    monkeypatch.setattr(experiment, "open_scene", open_scene)


def scores_in(folder: Path) -> list[dict]:
    summary = json.loads((folder / "summary.json").read_text())
    return [summary["before"], summary["after"]]


@pytest.mark.parametrize("verb", ["train", "federate"])
def test_a_run_killed_after_its_end_is_scored_and_a_finished_one_stays(
    verb: str, toy_scene: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = getattr(experiment, verb)
    config = TrainConfig(num_epochs=1)
    if verb == "federate":
        config = FederateConfig(num_clients=2, clients_per_round=2, num_rounds=1)
    run(replace(config, output=tmp_path / "whole"))

    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(experiment, "_finish", killed)
        run(replace(config, output=tmp_path / "killed"))
    resumed = replace(config, output=tmp_path / "killed", resume=True)
    run(resumed)
    before, after = scores_in(tmp_path / "killed")
    assert [before, after] == scores_in(tmp_path / "whole") and before != after
    files = {p: p.read_bytes() for p in (tmp_path / "killed").rglob("*") if p.is_file()}
    run(replace(resumed, evaluate_every=1))
    assert "nothing was left to do" in " ".join(capsys.readouterr().err.split())
    assert files == {p: p.read_bytes() for p in (tmp_path / "killed").rglob("*") if p.is_file()}


def test_nothing_to_resume_is_said(
    toy_scene: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.train(TrainConfig(output=tmp_path / "new", num_epochs=1, resume=True))
    assert "nothing to resume in" in " ".join(capsys.readouterr().err.split())


def test_another_number_of_threads_is_told(
    toy_scene: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sums are made in another order: the same seed gives weights with other last digits."""
    config = TrainConfig(output=tmp_path / "one", num_epochs=1)
    threads, weights = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        try:
            experiment.train(replace(config, output=tmp_path / str(number)))
        finally:
            torch.set_num_threads(threads)
        about = json.loads((tmp_path / str(number) / "environment.json").read_text())
        assert about["threads"] == number
        weights.append(load_file(tmp_path / str(number) / "model.safetensors"))
    one, two = weights
    assert all(torch.allclose(one[name], two[name], atol=1e-3) for name in one)
    experiment.train(replace(config, output=tmp_path / "2", num_epochs=2, resume=True))
    said = " ".join(capsys.readouterr().err.split())
    assert "begun with 2 threads, goes on with 1" in said and "OMP_NUM_THREADS=2" in said


def test_a_run_of_version_0_1_is_refused_with_the_cure(blind: None, tmp_path: Path) -> None:
    config = TrainConfig(output=tmp_path, resume=True)
    RunFolder.create(tmp_path, config)
    (tmp_path / "training_state.safetensors").write_bytes(b"")
    with pytest.raises(SettingError, match=r"older version of pchmr.*start anew"):
        experiment.train(config)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["predict", "photo.jpg", "--output", "out"], "meshes in out"),
        (["annotate", "photo.jpg", "--output", "out"], "`pchmr labels out` lists"),
        (["federate", "--output", "out"], "`pchmr report out` reads what is finished, --resume"),
    ],
)
def test_a_stopped_verb_names_what_reads_its_result(
    command: list[str], said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Verb, "__call__", stopped)
    assert cli.main(command) == 130
    assert said in capsys.readouterr().err
