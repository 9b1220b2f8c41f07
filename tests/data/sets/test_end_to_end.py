"""Each set from its own files to scores: import, check, an epoch, a federated round, evaluation."""

import json
import math
from pathlib import Path

import pytest

from pchmr import experiment
from pchmr.bench.cell import Job, measure
from pchmr.cli import main
from pchmr.config import (
    DataOptions,
    EvaluateConfig,
    FederateConfig,
    ModelOptions,
    OptimOptions,
    PartitionOptions,
    TrainConfig,
)
from pchmr.data.errors import InputError
from pchmr.data.sets import conversion
from pchmr.results import AVERAGED, CONSTANT, GENDERED
from pchmr.runs import RunFolder

SIZE = 64
PROTOCOLS = {"3dpw": "3dpw", "h36m": "h36m-p2"}
CLIENTS = {"3dpw": 2, "h36m": 2, "tsv": 2, "spin": 1, "bedlam": 1, "truth": 1}
OPTIM = OptimOptions(batch_size=8)


@pytest.fixture(autouse=True)
def few_conversions(monkeypatch) -> None:
    """The floor is measured over two people."""
    monkeypatch.setattr(conversion, "NUM_PEOPLE", 2)
    monkeypatch.setattr(conversion, "MAX_STEPS", 3)


def cli(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.mark.whole
@pytest.mark.parametrize("name", ["3dpw", "h36m", "tsv", "spin", "bedlam", "truth"])
def test_from_files_to_scores(name: str, tiny_sets, tiny_bodies, tmp_path: Path) -> None:
    folder, runs = tmp_path / "set", tmp_path / "runs"
    word = "npz" if name in ("spin", "bedlam") else name
    own = ("--body", tiny_bodies, "--image-size", SIZE)
    cli("data", "import", word, tiny_sets[name], folder, *own)
    cli("data", "check", folder, "--output", runs / "check", "--body", tiny_bodies)
    checked = json.loads((runs / "check" / "check.json").read_text())
    assert checked["crops_are_whole"] and (runs / "check" / "check.html").is_file()
    has_genders = name in ("3dpw", "bedlam")  # others know no gender, or none of a row with a mesh
    assert checked["about"]["truth"] == ("gendered body" if has_genders else "neutral body")
    floor = checked["conversion"]
    if name == "3dpw":
        assert floor["num_people"] == 2 and 0 < floor["there_mpjpe_mm"] < 400
    model = ModelOptions(body=tiny_bodies, from_scratch=True)
    shared = {
        "data_options": DataOptions(data=folder, image_size=SIZE),
        "model_options": model,
    }
    trained = experiment.train(
        TrainConfig(output=runs / "train", num_epochs=1, optim_options=OPTIM, **shared)
    )
    federated = experiment.federate(
        FederateConfig(
            output=runs / "federate", num_rounds=1, num_clients=CLIENTS[name],
            clients_per_round=CLIENTS[name], partition="natural",
            partition_options=PartitionOptions(partition_label="subject"),
            optim_options=OPTIM, **shared,
        )
    )  # fmt: skip
    scored = experiment.evaluate(
        EvaluateConfig(output=runs / "evaluate", protocol=PROTOCOLS.get(name, "all"), **shared)
    )
    for summary in (trained, federated, scored):
        assert math.isfinite(summary["after"]["mpjpe_mm"])
        assert summary["private"] and summary["data_set"]["set"] == word
    assert federated["partition_sha256"]
    assert scored["per_sequence_mm"] and scored["baselines"]["mean_pose"]
    assert (scored["after"]["mpvpe_mm"] is None) == (name == "h36m")
    assert ("after_gendered" in scored) == (not has_genders)  # gendered truth says it already
    assert not list(runs.rglob("examples.npz"))  # pictures of people stay out of run folders
    assert RunFolder(runs / "evaluate").read_json("summary.json")["data_set"]["box"]


@pytest.mark.whole
def test_tables_have_gendered_truth_beside_the_neutral(tiny_sets, tiny_bodies, tmp_path) -> None:
    folder = tmp_path / "set"
    own = ("--body", tiny_bodies, "--image-size", SIZE, "--truth", "neutral")
    cli("data", "import", "3dpw", tiny_sets["3dpw"], folder, *own)
    shared = {
        "data_options": DataOptions(data=folder, image_size=SIZE),
        "model_options": ModelOptions(body=tiny_bodies, from_scratch=True),
        "output": tmp_path / "run",
    }
    trained = measure(Job(TrainConfig(num_epochs=1, optim_options=OPTIM, **shared)))
    before = measure(Job(EvaluateConfig(protocol="3dpw", **shared)))
    assert set(trained.beside) == {AVERAGED, GENDERED}
    assert set(before.beside) == {CONSTANT, GENDERED}
    for found in (trained, before):
        beside = found.beside[GENDERED].scores
        assert beside["mpjpe_mm"] > 0 and beside != found.row.scores


def test_emdb_is_scored_in_the_world(tiny_sets, tiny_bodies, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    own = ("--body", tiny_bodies, "--image-size", SIZE)
    cli("data", "import", "emdb", tiny_sets["emdb"], folder, *own)
    cli("data", "check", folder, "--output", tmp_path / "check", "--body", tiny_bodies)
    checked = json.loads((tmp_path / "check" / "check.json").read_text())
    assert checked["about"]["truth"] == "gendered body" and checked["reprojection_px"]["p99"] < 0.1
    assert all("were published" in fault for fault in checked["faults"])
    shared = {
        "data_options": DataOptions(data=folder, image_size=SIZE),
        "model_options": ModelOptions(body=tiny_bodies, from_scratch=True),
    }
    scored = {
        name: experiment.evaluate(EvaluateConfig(output=tmp_path / name, protocol=name, **shared))
        for name in ("emdb1", "emdb2")
    }
    assert len(scored["emdb1"]["per_joint_mm"]) == 24 and scored["emdb1"]["num_test_samples"] == 7
    assert "mean_pose" not in scored["emdb1"]["baselines"] and "world" not in scored["emdb1"]
    world = scored["emdb2"]["world"]
    assert world.pop("camera") == "the data set's own"
    assert set(world) == {
        "mrpe_mm", "w_mpjpe_mm", "wa_mpjpe_mm", "rte_percent", "jitter_m_s3", "foot_sliding_mm",
    }  # fmt: skip
    assert world["w_mpjpe_mm"] >= world["wa_mpjpe_mm"] > 0
    with pytest.raises(InputError, match="no people of the split train"):
        experiment.train(TrainConfig(output=tmp_path / "train", optim_options=OPTIM, **shared))
