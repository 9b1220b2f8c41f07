"""A scene, and what comes of a run on it: the functions that verbs and benchmarks share.

Nothing here writes a config or summary; see `pchmr.experiment` for the run folder around it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from pchmr import compute
from pchmr.body import BodyModel
from pchmr.config import EvaluateConfig, FederateConfig, TrainConfig
from pchmr.data import load_people
from pchmr.data.partition import held_back, partition_hash
from pchmr.data.pose_clusters import deal
from pchmr.data.sample import PeopleDataset
from pchmr.data.sets.folder import is_held_out_only, load_body_of
from pchmr.data.synthetic.recipe import Split
from pchmr.evaluation import Scores, by_protocol, evaluate
from pchmr.experiment.own import OwnScores, own_scores
from pchmr.federated import FederatedResult, World, run_federated
from pchmr.federated.accounting import Guarantee
from pchmr.models import HMRModel, load_model
from pchmr.models.started import StartedFrom
from pchmr.progress import bar
from pchmr.runs import RunFolder, state_sha256
from pchmr.runs.state import EMPTY
from pchmr.training import fit

Config = TrainConfig | FederateConfig | EvaluateConfig
Row = Mapping[str, Any]
"""A row of `metrics.jsonl`, or a part of the summary."""
CENTRALIZED_EGRESS = {
    "leaves_client": "raw images and mesh labels",
    "server_sees": "training data and model",
}
LOCAL_EGRESS = {"leaves_client": "nothing", "server_sees": "nothing"}


@dataclass
class Scene:
    """Everything an experiment stands on.

    Attributes:
        body: Neutral body.
        model: The network to start from; a run changes it.
        started_from: What its weights are.
        train_set: People to learn from; the held-out ones for scores of a set that has no others.
        test_set: The held-out people.
        bf16: Whether they are scored in bfloat16.
        latest: The last scores that a run asked for, if any.
        has_no_others: Whether the data set holds nobody to learn from.
    """

    body: BodyModel
    model: HMRModel
    started_from: StartedFrom
    train_set: PeopleDataset
    test_set: PeopleDataset
    bf16: bool = False
    latest: Scores | None = None
    has_no_others: bool = False

    @property
    def recipe(self) -> Row | None:
        """Of rendered people, see `origin_of`; None of others."""
        return getattr(self.train_set, "origin", None)

    @property
    def is_private(self) -> bool:
        """Whether people of the training or the held-out set stood before a camera."""
        return self.train_set.is_private or self.test_set.is_private

    def scores(self, model: nn.Module) -> Scores:
        """Of a model on the held-out people."""
        self.latest = evaluate(model, self.body, self.test_set, bf16=self.bf16)
        return self.latest

    def row(self, model: nn.Module) -> dict[str, float | None]:
        """The scores of a model as a part of a row."""
        return self.scores(model).row()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        kind: `centralized`, `federated` or `evaluation`.
        scores: Of the last weights.
        rows: One an epoch or round.
        egress: What left the clients, and what the server saw.
        bytes_up: From the clients.
        bytes_down: To them.
        partitions: Rows of the training people that each client holds.
        started_from: What the run started from.
        model_sha256: The last weights.
        train_set_sha256: The people that were learned from.
        test_set_sha256: Those that scores are over.
        body_sha256: The body.
        guarantee: Differential privacy of the clients, if there is any.
        own: Scores of clients on held-out images of their own, if they hold any.
    """

    kind: str
    scores: Scores
    rows: list[Row]
    egress: Mapping[str, str]
    bytes_up: int = 0
    bytes_down: int = 0
    partitions: list[np.ndarray] = field(default_factory=list)
    started_from: StartedFrom
    model_sha256: str
    train_set_sha256: str
    test_set_sha256: str
    body_sha256: str
    guarantee: Guarantee | None = None
    own: OwnScores | None = None

    @property
    def partition_sha256(self) -> str | None:
        """Who held which people; None where nobody did."""
        return partition_hash(self.partitions) if self.partitions else None


def open_scene(config: Config, held_out: Split = "test") -> Scene:
    """Loads body, model and people; renders embedded people that are not cached yet.

    Args:
        config: Of the run.
        held_out: People that scores are over; settings are chosen on those of `validation`.
    """
    device = compute.pick_device(config.device)
    data = config.data_options
    body = load_body_of(data.data, config.model_options.body).to(device)
    model, started_from = load_model(
        config.model_options, body.hierarchy, seed=config.seed, image_size=data.image_size
    )
    model.to(device)
    with compute.first_alone():
        train_set = None
        if not (isinstance(config, EvaluateConfig) and is_held_out_only(data.data)):
            train_set = _people(config, "train", data.num_samples, body, model.image_size)
        test_set = _people(config, held_out, data.num_test_samples, body, model.image_size)
    others = train_set or test_set
    if isinstance(config, EvaluateConfig):
        test_set = by_protocol(test_set, config.protocol, config.joint_truth)
    bf16 = isinstance(config, EvaluateConfig) and config.bf16
    return Scene(body, model, started_from, others, test_set, bf16, has_no_others=train_set is None)


def held_out_people(config: Config, scene: Scene, split: Split) -> PeopleDataset:
    """Other held-out people than those that scores are over."""
    count = config.data_options.num_test_samples
    return _people(config, split, count, scene.body, scene.model.image_size)


def _people(
    config: Config, split: Split, count: int, body: BodyModel, image_size: int
) -> PeopleDataset:
    data = config.data_options
    named = f"people of {data.domain}" if data.data is None else data.data.resolve().name
    with bar(f"{named}, {split}", count) as advance:
        people = load_people(
            data,
            split,
            body=body,
            seed=config.seed,
            image_size=image_size,
            progress=advance.to,
        )
        advance.to(len(people), len(people))
    return people


def run_train(
    config: TrainConfig,
    scene: Scene,
    run: RunFolder | None = None,
    on_step: Callable[[int], None] | None = None,
    beside: Mapping[str, Tensor] = EMPTY,
) -> Outcome:
    """Trains on all people in one place; leaves the model with its last weights.

    Args:
        config: Of the run.
        scene: See `open_scene`.
        run: Keeps rows and state; without it nothing is written.
        on_step: Called with the number of images of each step.
        beside: Tensors that `on_step` changes; kept and restored with the state.
    """
    scene.latest = None
    rows = fit(
        scene.model,
        scene.body,
        scene.train_set,
        config,
        run=run,
        evaluate_fn=scene.row,
        on_step=on_step,
        beside=beside,
    )
    scored = scene.latest or scene.scores(scene.model)
    stored = int(getattr(scene.train_set, "stored_bytes", 0))
    return _outcome(scene, "centralized", scored, rows, CENTRALIZED_EGRESS, bytes_up=stored)


def world_of(config: FederateConfig, scene: Scene) -> World:
    """The scene's model, and its people dealt to clients."""
    parts = deal(config, scene.train_set)
    return World(model=scene.model, body=scene.body, train_set=scene.train_set, partitions=parts)


def run_federate(
    config: FederateConfig,
    scene: Scene,
    run: RunFolder,
    on_round: Callable[[], None] | None = None,
    federated: Callable[..., FederatedResult] = run_federated,
) -> Outcome:
    """Federated training over the clients of the partition; leaves the model with its last weights.

    Args:
        config: Of the run.
        scene: See `open_scene`.
        run: Keeps rows and checkpoints.
        on_round: Called after each round.
        federated: Runs the rounds; benchmarks let clients that mean harm take part.
    """
    world, held = world_of(config, scene), None
    share = config.server_options.held_out_share
    if share is not None:
        world.partitions, held = held_back(world.partitions, share, config.seed)
    parts = world.partitions
    scene.latest = None
    result = federated(
        config,
        world,
        run,
        evaluate_fn=scene.row,
        on_round=lambda _: on_round() if on_round else None,
    )
    scored = scene.latest or scene.scores(scene.model)
    moved = {"bytes_up": result.bytes_up, "bytes_down": result.bytes_down}
    made = _outcome(scene, "federated", scored, result.rows, result.egress, **moved)
    own = None
    if held is not None:
        own = own_scores(config, scene.model, scene.body, scene.train_set, held, run.path)
    return replace(made, partitions=parts, guarantee=result.guarantee, own=own)


def run_evaluate(config: Config, scene: Scene) -> Outcome:
    """Scores of the weights as they are."""
    scored = scene.latest or scene.scores(scene.model)
    rows: list[Row] = [{"round": 0, **scored.row()}]
    return _outcome(scene, "evaluation", scored, rows, LOCAL_EGRESS)


def _outcome(
    scene: Scene,
    kind: str,
    scored: Scores,
    rows: Sequence[Row],
    egress: Mapping[str, str],
    *,
    bytes_up: int = 0,
    bytes_down: int = 0,
) -> Outcome:
    return Outcome(
        kind=kind,
        scores=scored,
        rows=list(rows),
        egress=egress,
        bytes_up=bytes_up,
        bytes_down=bytes_down,
        started_from=scene.started_from,
        model_sha256=state_sha256(scene.model.state_dict()),
        train_set_sha256=scene.train_set.content_hash,
        test_set_sha256=scene.test_set.content_hash,
        body_sha256=scene.body.sha256,
    )
