"""Makes shipped start weights and their cards: `python -m pchmr.workshop.start_weights RUN ...`.

Weights are stored in float16; the card holds the config, the curve and the scores of the run, and
the scores of what is stored on held-out people of every domain. The same scores, the curve and the
ratio to the mean pose become rows of `results/start.jsonl`, beside those of `pchmr bench start`.
"""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pchmr.baselines import baselines
from pchmr.bench import append, stamped
from pchmr.body import load_body
from pchmr.config import DataOptions, Domain, ModelOptions
from pchmr.data import load_people
from pchmr.door import Json
from pchmr.evaluation import evaluate
from pchmr.models import HMRModel, load_model, save_checkpoint
from pchmr.models.checkpoint import start_path
from pchmr.report.results import write_results
from pchmr.results import ResultRow, Start, figure, slug
from pchmr.runs import CONFIG, ENVIRONMENT, MODEL, SUMMARY, RunFolder, file_sha256, write_bytes
from pchmr.runs.hashes import record_shipped

NUM_PEOPLE = 500
MPJPE = "mpjpe_mm"
DOMAINS: tuple[Domain, ...] = ("A", "B", "V")
RESULTS, FILE = Path("results"), "start"


def ship(folder: Path) -> Path:
    """Writes weights and card of a finished run; returns the path of the weights."""
    run, body = RunFolder(folder), load_body()
    options = ModelOptions(checkpoint=folder / MODEL)
    model, _ = load_model(options, body.hierarchy, seed=0)
    path = start_path(model.name)
    summary = run.read_json(SUMMARY)
    note = {"started_from": summary["started_from"], "synthetic": True}
    save_checkpoint(path, model, note, dtype=torch.float16)
    stored, _ = load_model(ModelOptions(checkpoint=path), body.hierarchy, seed=0)
    card = {
        "weights_sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "run": {name: summary[name] for name in ("before", "after", "baselines", "seconds")},
        "started_from": summary["started_from"],
        "recipe": summary["recipe"],
        "num_steps": num_steps(run.read_json(CONFIG)),
        "train_set_sha256": summary["train_set_sha256"],
        "test_set_sha256": summary["test_set_sha256"],
        "body_sha256": summary["body_sha256"],
        "scores_of_stored_weights": {d: _scores(stored, body, d) for d in DOMAINS},
        "curve": run.read_rows(),
        "config": run.read_json(CONFIG),
        "environment": run.read_json(ENVIRONMENT),
    }
    write_bytes(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    record_shipped()
    for row in stamped(FILE, rows(model.name, card)):
        append(RESULTS / f"{FILE}.jsonl", row)
    write_results(RESULTS)
    return path


def rows(model: str, card: Json) -> list[ResultRow]:
    """What a card says, as rows of results."""
    scored: dict[str, dict[str, float]] = {}
    for epoch in card["curve"]:
        scores = {name: epoch[name] for name in card["run"]["after"]}
        scored[f"{model}, A, epoch {epoch['round']}"] = scores
    for domain, by_name in card["scores_of_stored_weights"].items():
        for name in ("model", "mean_pose", "t_pose"):
            label = model if name == "model" else f"{name.replace('_', ' ')} beside {model}"
            scored[f"{label}, {domain}, as stored"] = by_name[name]
    found = [ResultRow(id=slug(label), label=label, scores=s) for label, s in scored.items()]
    ratio = card["run"]["after"][MPJPE] / card["run"]["baselines"]["mean_pose"][MPJPE]
    label = f"{model}, A: MPJPE over that of the mean pose"
    found.append(figure(label, round(ratio, 4), "x"))
    weights = Start(kind="shipped", name=model, sha256=card["weights_sha256"])
    return [replace(row, seed=card["config"]["seed"], started_from=weights) for row in found]


def num_steps(config: Json) -> int:
    """Optimizer steps of a run of `pchmr train`."""
    size, batch = config["data_options"]["num_samples"], config["optim_options"]["batch_size"]
    return config["num_epochs"] * math.ceil(size / batch)


def _scores(model: HMRModel, body: Any, domain: Domain) -> Json:
    """Scores on held-out people of a domain, with a constant fitted on its training people."""
    data = DataOptions(domain=domain, num_samples=NUM_PEOPLE, num_test_samples=NUM_PEOPLE)
    train, test = (
        load_people(data, split, body=body, seed=0, image_size=model.image_size)
        for split in ("train", "test")
    )
    constants = baselines(body, train, test)
    return {
        "model": evaluate(model, body, test).row(),
        **{name: scores.row() for name, scores in constants.items()},
        "num_people": len(test),
    }


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(ship(Path(name)))
