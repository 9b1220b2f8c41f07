import dataclasses
import json
from pathlib import Path

import pytest

from pchmr import config
from pchmr.cli import VERBS, parse
from pchmr.config import (
    DataOptions,
    FederateConfig,
    ModelOptions,
    OptimOptions,
    SettingError,
    TrainConfig,
    from_json,
    to_json,
)
from pchmr.recipes import RECIPES
from pchmr.recipes.cells import SCALES
from pchmr.runs import MODEL
from pchmr.seeds import derive_seed

REQUIRED = {
    "images": Path("a.jpg"),
    "task": "check",
    "labels": Path("labels"),
    "run": Path("runs/federated"),
}
TASKS = {config.PriorsConfig: "list", config.DeployConfig: "status"}


def example(kind: type) -> object:
    known = {name: v for name, v in REQUIRED.items() if name in kind.__dataclass_fields__}
    return kind(**known | ({"task": TASKS[kind]} if kind in TASKS else {}))


@pytest.mark.parametrize("verb", VERBS)
def test_every_config_round_trips(verb: str) -> None:
    value = example(VERBS[verb].config)
    assert from_json(type(value), to_json(value)) == value


@pytest.mark.parametrize("model", SCALES["gpu"].models)
def test_a_recipe_leaves_the_start_weights_where_the_comparison_looks(model: str) -> None:
    recipe = RECIPES[f"start-{model.replace('_', '-')}"]
    assert recipe.output / MODEL == SCALES["gpu"].checkpoints[model]
    assert recipe.model_options.model == model
    assert recipe.data_options.image_size == SCALES["gpu"].data.image_size


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_round_trips(name: str) -> None:
    assert from_json(type(RECIPES[name]), to_json(RECIPES[name])) == RECIPES[name]


def test_paper_recipes_train_as_published_and_others_do_not() -> None:
    for name, recipe in RECIPES.items():
        options = recipe.optim_options
        assert options.augment and options.augments_as_published == name.startswith("paper-")


def test_unknown_setting_is_named() -> None:
    with pytest.raises(SettingError, match="unknown setting num_epoch;"):
        from_json(TrainConfig, '{"num_epoch": 3}')


@pytest.mark.parametrize(
    "text", ['{"num_epochs": "3"}', '{"num_epochs": true}', '{"schedule": "linear"}', "[]", "{"]
)
def test_wrong_values_are_refused(text: str) -> None:
    with pytest.raises(SettingError):
        from_json(TrainConfig, text)


def test_contradictions_are_refused() -> None:
    with pytest.raises(SettingError, match="clients-per-round"):
        FederateConfig(num_clients=3)
    with pytest.raises(SettingError, match="every client needs a sample"):
        FederateConfig(num_clients=20, data_options=DataOptions(num_samples=10))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TrainConfig(warmup_epochs=-1.0), "--warmup-epochs must not be negative"),
        (lambda: TrainConfig(keypoint_epochs=-1), "--keypoint-epochs must not be negative"),
        (lambda: OptimOptions(weight_decay=-0.1), "--weight-decay must not be negative"),
        (lambda: OptimOptions(weight_decay=float("nan")), "--weight-decay"),
        (lambda: OptimOptions(augment=False, paper_augment=True), "--paper-augment contradicts"),
        (lambda: ModelOptions(keep_ratio=0.0), r"--keep-ratio must lie in \(0, 1\]"),
    ],
)
def test_values_out_of_range_tell_the_cure(make, named) -> None:
    with pytest.raises(SettingError, match=named):
        make()


def test_whole_numbers_are_read_as_floats() -> None:
    assert type(from_json(ModelOptions, '{"keep_ratio": 1}').keep_ratio) is float
    assert type(from_json(TrainConfig, '{"warmup_epochs": 1}').warmup_epochs) is float


def test_nested_field_names_are_unique() -> None:
    for verb in VERBS.values():
        own = [f.name for f in dataclasses.fields(verb.config)]
        nested = [
            f.name
            for field in dataclasses.fields(verb.config)
            if dataclasses.is_dataclass(kind := getattr(config, str(field.type), field.type))
            for f in dataclasses.fields(kind)
        ]
        assert len(own + nested) == len(set(own + nested))


def test_parse_reads_flags_config_and_recipe(tmp_path: Path) -> None:
    _, by_flag = parse(["train", "--num-epochs", "3", "--num-samples", "7"])
    assert by_flag.num_epochs == 3 and by_flag.data_options.num_samples == 7
    file = tmp_path / "c.json"
    file.write_text(to_json(by_flag))
    _, replayed = parse(["train", "--config", str(file), "--seed", "5"])
    assert replayed == dataclasses.replace(by_flag, seed=5)
    _, recipe = parse(["train", "--recipe", "start-xs"])
    assert recipe == RECIPES["start-xs"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--config", "nowhere.json"],
        ["train", "--recipe", "nope"],
        ["federate", "--recipe", "start-xs"],
        ["train", "--no-such-option"],
        ["train", "--seed", "x"],
        ["federate", "--num-clients", "3"],
        ["nonsense"],
        [],
    ],
)
def test_bad_command_lines_end_as_one_line(arguments: list[str]) -> None:
    with pytest.raises(SettingError) as error:
        parse(arguments)
    assert "\n" not in str(error.value)


def test_derived_seeds_differ_and_stay() -> None:
    assert derive_seed(0, "a") != derive_seed(0, "b") != derive_seed(1, "b")
    assert derive_seed(0, "a", 1) == derive_seed(0, "a", 1) < 2**63
    assert json.dumps(derive_seed(3, "x"))
