"""Trains, ships and scores the embedded prior, on rendered people of domain A.

After `pchmr train --recipe start-keypoints`:

    python -m pchmr.workshop.keypoint_prior --start runs/start-keypoints/model.safetensors

`--resume` goes on after the last finished epoch; `--ship` writes weights and card of a finished run
into the package.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from pchmr.annotate.keypoints import BodyPoints
from pchmr.annotate.kinematics import Skeleton, State, points, pose
from pchmr.annotate.rig import Rig
from pchmr.body import BodyModel, load_body
from pchmr.body.joints import COCO_23
from pchmr.config import DataOptions, Domain, OptimOptions, SettingError
from pchmr.data import load_people
from pchmr.data.augment import training_batch
from pchmr.data.sample import PeopleDataset, Sample
from pchmr.door import Json
from pchmr.geometry import project_pinhole, rotvec_to_rotmat
from pchmr.losses.terms import map_loss
from pchmr.perception.embedded import WEIGHTS
from pchmr.perception.network import (
    IMAGE_SIZE,
    NAMES,
    PriorNetwork,
    Seen,
    load_network,
    save_network,
)
from pchmr.recipes import RECIPES, START_DATA, START_OPTIONS
from pchmr.runs import MODEL, SUMMARY, RunFolder, file_sha256, write_bytes
from pchmr.runs.hashes import record_shipped
from pchmr.runs.state import load_state, save_state
from pchmr.seeds import derive_seed
from pchmr.training import new_optimizer, schedule

DOMAINS: tuple[Domain, ...] = ("A", "B", "V")
NUM_SCORED = 500
WARMUP_EPOCHS = 0.05
MAP_SHARE, SPREAD_SHARE = 0.1, 0.02
PRIOR_OPTIONS = replace(START_OPTIONS, learning_rate=7e-4)
PCK_SHARES = (0.05, 0.1)
CM_PER_METRE = 100


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """How the embedded prior is trained."""

    start: Path = RECIPES["start-keypoints"].output / MODEL
    """Weights of the recipe start-keypoints."""
    output: Path = Path("runs/prior")
    """Run folder."""
    seed: int = 0
    """Of the order of the people and of augmentation."""
    num_epochs: int = 2
    """Passes over the people."""
    num_samples: int = START_DATA.num_samples
    """People of domain A."""
    optim_options: OptimOptions = PRIOR_OPTIONS
    """How weights are fitted; a cosine takes the learning rate to a hundredth."""
    resume: bool = False
    """Go on after the last finished epoch."""
    ship: bool = False
    """Write weights and card into the package when done."""


@dataclass(frozen=True)
class Truth:
    """Where points are and how deep, as the network should see them.

    Attributes:
        places: Crop coordinates.
        depths: Metres behind the middle of the hips, of the surface in front of each point.
        inside: 1 in the crop, 0 beside it.
    """

    places: Float[Tensor, "batch points 2"]
    depths: Float[Tensor, "batch points"]
    inside: Float[Tensor, "batch points"]


class Labeled:
    """The points of a body, found from the parameters of samples."""

    def __init__(self, body: BodyModel) -> None:
        table = BodyPoints.of(body)
        kinds = ["coco" if name in COCO_23.names else "hand" for name in NAMES]
        rows = table.indices([f"{k}:{n}" for k, n in zip(kinds, NAMES, strict=True)])
        self.rig: Rig = table.rig.take(rows)
        self.offset = table.surface_offset[rows]
        self.skeleton = Skeleton.of(body)
        self.hips = [NAMES.index(f"{side}_hip") for side in ("left", "right")]

    def truth(self, sample: Sample) -> Truth:
        """Places and depths of a batch."""
        rotvec = torch.cat([sample.global_orient[:, None], sample.body_pose], dim=1)
        still = sample.transl[:, :2] * 0
        rotmat, zero = rotvec_to_rotmat(rotvec), still[:, 0]
        state = State(rotmat, sample.betas, sample.transl, still, zero, still)
        xyz = points(self.rig, pose(self.skeleton, state), state.betas)
        places = 2 * project_pinhole(xyz, sample.intrinsics) / sample.images.shape[-1] - 1
        depths = xyz[..., 2] - self.offset
        depths = depths - depths[:, self.hips].mean(dim=1, keepdim=True)
        return Truth(places, depths, (places.abs() <= 1).all(dim=-1).float())


def loss_terms(seen: Seen, truth: Truth) -> dict[str, Tensor]:
    """Cross entropy of the maps, mean errors, and how well the spreads foretell them.

    The spreads learn from errors that they cannot change: negative log likelihood of Laplace.
    """
    count = truth.inside.sum().clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return (values * truth.inside).sum() / count

    place = (seen.places - truth.places).abs().mean(dim=-1)
    depth = (seen.depths - truth.depths).abs()
    return {
        "maps": MAP_SHARE * map_loss(seen.maps, truth.places, truth.inside),
        "places": mean(place),
        "depths": mean(depth),
        "spreads": SPREAD_SHARE
        * mean(
            place.detach() / seen.place_spread
            + seen.place_spread.log()
            + depth.detach() / seen.depth_spread
            + seen.depth_spread.log()
        ),
    }


def train(config: PriorConfig) -> Path:
    """Trains into the run folder and returns its weights."""
    body = load_body()
    if not config.start.is_file():
        raise SettingError(
            f"start weights {config.start} do not exist: make them with "
            "`pchmr train --recipe start-keypoints`"
        )
    network = PriorNetwork()
    network.start_from(load_file(config.start))
    run = RunFolder.create(config.output, config, resume=config.resume)
    people = _people(body, "A", config.num_samples, "train", config.seed)
    labeled = Labeled(body)
    optimizer = new_optimizer(network, config.optim_options)
    identity = {"start": file_sha256(config.start), "data": people.content_hash}
    rows = load_state(run, network, optimizer, identity) if config.resume else []
    run.write_rows(rows)
    for epoch in range(len(rows), config.num_epochs):
        losses = _epoch(network, labeled, people, optimizer, config, epoch)
        rows.append({"round": epoch + 1, "losses": losses})
        save_state(run, network, optimizer, rows, identity)
        run.append_row(rows[-1])
        print(f"epoch {epoch + 1}: {losses}", file=sys.stderr)
    note = {"start_sha256": file_sha256(config.start), "people": people.content_hash}
    run.write_with(MODEL, lambda path: save_network(path, network, note))
    run.write_json(SUMMARY, note)
    return run.path / MODEL


def _people(body: BodyModel, domain: Domain, count: int, split: Any, seed: int) -> PeopleDataset:
    data = DataOptions(domain=domain, num_samples=count, num_test_samples=count)
    return load_people(data, split, body=body, seed=seed, image_size=IMAGE_SIZE)


def _epoch(
    network: PriorNetwork,
    labeled: Labeled,
    people: PeopleDataset,
    optimizer: torch.optim.Optimizer,
    config: PriorConfig,
    epoch: int,
) -> dict[str, float]:
    """One pass in an order drawn from the seed; returns the mean loss terms."""
    network.train()
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "prior", epoch))
    order = torch.randperm(len(people), generator=generator).numpy()
    options, factor = config.optim_options, schedule("cosine", config.num_epochs, WARMUP_EPOCHS)
    totals: dict[str, float] = {}
    for at in range(0, len(order), options.batch_size):
        rows = order[at : at + options.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * factor(epoch + at / len(order))
        sample = training_batch(people, rows, generator, options)
        with torch.no_grad():
            truth = labeled.truth(sample)
        terms = loss_terms(network(sample.images), truth)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        optimizer.step()
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach()) * len(rows) / len(order)
    return {name: round(value, 5) for name, value in totals.items()}


@torch.inference_mode()
def errors(
    network: PriorNetwork, labeled: Labeled, people: PeopleDataset
) -> Iterator[tuple[Tensor, Tensor, Tensor, Seen]]:
    """Distances in pixels of the crop, depth errors in metres, and which points lie in the crop."""
    network.eval()
    for at in range(0, len(people), 64):
        sample = people.batch(range(at, min(at + 64, len(people))))
        truth, seen = labeled.truth(sample), network(sample.images)
        pixels = (seen.places - truth.places).norm(dim=-1) * IMAGE_SIZE / 2
        yield pixels, (seen.depths - truth.depths).abs(), truth.inside > 0, seen


def score(network: PriorNetwork, body: BodyModel, domain: Domain) -> Json:
    """2D error in px of a crop of 112, PCK, depth error in cm, on held-out people of a domain."""
    labeled, people = Labeled(body), _people(body, domain, NUM_SCORED, "test", 0)
    parts = [
        torch.cat(p) for p in zip(*(e[:3] for e in errors(network, labeled, people)), strict=True)
    ]
    pixels, depth, inside = parts
    per_point = {
        name: {
            "px": round(float(pixels[:, k][inside[:, k]].mean()), 2),
            "depth_cm": round(CM_PER_METRE * float(depth[:, k][inside[:, k]].mean()), 1),
        }
        for k, name in enumerate(NAMES)
    }
    pixels, depth = pixels[inside], depth[inside]
    pck = {
        f"pck_{share:g}": round(float((pixels < share * IMAGE_SIZE).float().mean()), 4)
        for share in PCK_SHARES
    }
    return {
        "num_people": len(people),
        "px_of_112": round(float(pixels.mean()), 2),
        **pck,
        "depth_cm": round(CM_PER_METRE * float(depth.mean()), 2),
        "per_point": per_point,
    }


def ship(weights: Path, config: PriorConfig) -> Path:
    """Copies weights of a finished run into the package and writes their card."""

    write_bytes(WEIGHTS, weights.read_bytes())
    record_shipped()
    network, body, run = load_network(WEIGHTS), load_body(), RunFolder(config.output)
    card = {
        "what": "keypoints of one person, their relative depth in metres, and spreads of both",
        "license": "that of this package; rendered licence-free people only",
        "weights_sha256": file_sha256(WEIGHTS),
        "bytes": WEIGHTS.stat().st_size,
        "names": NAMES,
        "image_size": IMAGE_SIZE,
        "body_sha256": body.sha256,
        **run.read_json(SUMMARY),
        "scores_of_stored_weights": {d: score(network, body, d) for d in DOMAINS},
        "curve": run.read_rows(),
        "config": run.read_json("config.json"),
        "environment": run.read_json("environment.json"),
        "made_by": [
            "pchmr train --recipe start-keypoints",
            "python -m pchmr.workshop.keypoint_prior --ship",
        ],
    }
    write_bytes(WEIGHTS.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    record_shipped()
    return WEIGHTS


def main() -> None:
    """Trains; ships where asked."""
    torch.set_num_threads(1)
    config = tyro.cli(PriorConfig)
    weights = train(config)
    print(ship(weights, config) if config.ship else weights)


if __name__ == "__main__":
    main()
