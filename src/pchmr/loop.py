"""The whole story of one run: label, federate, return, personalize; what each stage is worth.

Clients are the subjects of a rendered root. Each labels its own pictures, the clients federate on
these labels, the model that comes back becomes personal at each. The same with true labels is the
upper bound, with SMPLify-X's the baseline. The truth is read by scores, and by the rows named true.
"""

import copy
import dataclasses
from collections.abc import Iterator
from functools import reduce
from statistics import mean
from typing import TypedDict

import numpy as np

from pchmr.annotate.consent import FEDERATED, record
from pchmr.config import FederateConfig, LoopConfig, OptimOptions, PersonalizeConfig, require
from pchmr.data.sample import PeopleDataset, Subset
from pchmr.evaluation import evaluate
from pchmr.federated import World, run_federated
from pchmr.models import HMRModel, save_checkpoint
from pchmr.models.started import StartedFrom
from pchmr.personalize.fitting import personalize
from pchmr.personalize.job import LABELS, Shared
from pchmr.personalize.lessons import Lessons, Mixture
from pchmr.personalize.rehearsal import Source
from pchmr.personalize.rendered import RootLabeler, is_root, open_root, users_of
from pchmr.personalize.users import User, usable, weights
from pchmr.progress import say
from pchmr.runs import CONFIG, MODEL, RunFolder, alone, make_private
from pchmr.seeds import derive_seed

TABLE = "loop.json"
DEPOSER, TRUE, SMPLIFYX = "deposer", "true", "smplifyx"
STAGES = ("shared", "local only", "federated", "federated and personal")


class StageScores(TypedDict):
    """Means over clients, and each client's scores."""

    mpjpe_mm: float
    pa_mpjpe_mm: float
    mpvpe_mm: float
    clients: dict[str, dict[str, float | None]]


class LoopRow(StageScores):
    """A stage of the loop with one kind of labels, and how wrong these are."""

    labels: str
    label_error_mm: float
    stage: str


class LoopTable(TypedDict):
    """What `loop.json` holds."""

    rows: list[LoopRow]
    started_from: StartedFrom


@alone
def run(config: LoopConfig) -> LoopTable:
    """Runs the loop once for every kind of labels; returns the table that it wrote.

    Raises:
        UserError: No rendered root, too few subjects, or too few usable labels at a client.
    """
    require(
        is_root(config.images),
        f"--images {config.images} is no root of `pchmr data synth`: render one with --domain V",
    )
    make_private(config.output, "--output", marks=(CONFIG, TABLE))
    folder = RunFolder.create(config.output, config)
    shared = Shared.open(_personal(config, DEPOSER))
    source = Source.open(shared.body, shared.model.image_size, seed=0)
    rows: list[LoopRow] = []
    for kind in config.kinds:
        for row in _Story(config, shared, source, kind).rows():
            say(f"{row['labels']:<9} {row['stage']:<24} {row['mpjpe_mm']:.1f} mm")
            rows.append(row)
    table: LoopTable = {"rows": rows, "started_from": shared.started_from}
    folder.write_json(TABLE, table)
    say(f"table: {config.output / TABLE}")
    return table


def _personal(config: LoopConfig, kind: str) -> PersonalizeConfig:
    """The settings of one kind of labels, as personalization knows them.

    Where the truth teaches, DePoser's labels are what its errors are told of.
    """
    labeling = config.labeling_options
    if kind == SMPLIFYX:
        labeling = dataclasses.replace(labeling, mode=SMPLIFYX)
    fitting = dataclasses.replace(config.fitting_options, use_review=True)
    return PersonalizeConfig(
        images=config.images,
        output=config.output / (SMPLIFYX if kind == SMPLIFYX else DEPOSER),
        seed=config.seed,
        device=config.device,
        model_options=config.model_options,
        labeling_options=labeling,
        fitting_options=fitting,
    )


@dataclasses.dataclass(frozen=True)
class _Story:
    """The loop with one kind of labels."""

    config: LoopConfig
    shared: Shared
    source: Source
    kind: str

    def rows(self) -> Iterator[LoopRow]:
        """A row of each stage: scores against the truth, means over clients and each client's."""
        users = self._users()
        start = self.shared.model
        error = mean(user.about["label_error_mm"] for user in users)
        back = self._federate(users)
        for stage, models in (
            ("shared", [start] * len(users)),
            ("local only", [self._fitted(start, user) for user in users]),
            ("federated", [back] * len(users)),
            ("federated and personal", [self._fitted(back, user) for user in users]),
        ):
            yield {
                "labels": self.kind,
                "label_error_mm": 0.0 if self.kind == TRUE else error,
                "stage": stage,
                **self._scores(models, users),
            }

    def _users(self) -> list[User]:
        splits = open_root(self.config.images)
        subjects = users_of(splits, self.config.images, self.config.num_clients)
        require(
            len(subjects) == self.config.num_clients,
            f"{self.config.images} shows {len(subjects)} subjects in every split, --num-clients "
            f"asks for {self.config.num_clients}: render more images or world 2",
        )
        labeler = RootLabeler.open(_personal(self.config, self.kind), self.shared.body)
        return [labeler.user(splits, one, self.shared.model.image_size) for one in subjects]

    def _taught(self, user: User) -> PeopleDataset:
        """What a client learns from."""
        if self.kind == TRUE:
            return user.truth["train"]
        rows = usable(user.train, use_review=True)
        least = self.config.fitting_options.min_labels
        require(
            len(rows) >= least,
            f"client {user.name}: {len(rows)} usable labels, {least} are needed: give more images, "
            "another --keypoint-prior, or a larger --reject-mm",
        )
        return Subset(user.train, rows)

    def _federate(self, users: list[User]) -> HMRModel:
        """The shared model after federated training on the clients' labels."""
        sets = [self._taught(user) for user in users]
        ends = np.cumsum([len(people) for people in sets])
        parts = np.split(np.arange(ends[-1]), ends[:-1])
        people = reduce(lambda one, two: Mixture(first=one, second=two), sets)
        model = copy.deepcopy(self.shared.model)
        options = self.config.fitting_options
        federate = FederateConfig(
            output=self.config.output / self.kind / "federated", seed=self.config.seed,
            num_clients=len(users), clients_per_round=len(users), evaluate_every=0,
            num_rounds=self.config.num_rounds,
            optim_options=OptimOptions(
                learning_rate=options.learning_rate, batch_size=options.batch_size
            ),
        )  # fmt: skip
        folder = RunFolder.create(federate.output, federate)
        world = World(model=model, body=self.shared.body, train_set=people, partitions=parts)
        run_federated(federate, world, folder)
        folder.write_with(MODEL, lambda path: save_checkpoint(path, model))
        self._tell_consent(users, federate)
        return model.eval()

    def _tell_consent(self, users: list[User], federate: FederateConfig) -> None:
        """Notes at each client's labels which federated model they went into."""
        if self.kind == TRUE:
            return
        who, name = PersonalizeConfig(images=self.config.images).who, str(federate.output / MODEL)
        for user in users:
            place = self.config.output / self.kind / LABELS / user.name
            record(place, who=who, purpose=FEDERATED, federated_models=[name])

    def _fitted(self, start: HMRModel, user: User) -> HMRModel:
        """A personal model of a client, from a model that all share."""
        model, options = copy.deepcopy(start), self.config.fitting_options
        is_true = self.kind == TRUE
        people = self._taught(user)
        seed = derive_seed(self.config.seed, "user", user.name)
        sure = np.ones(len(people)) if is_true else weights(people)
        lessons = Lessons(
            people=people, weights=sure, rehearsal=self.source.train,
            share=options.rehearsal_share, seed=seed,
        )  # fmt: skip
        validation = user.truth["validation"] if is_true else user.validation
        personalize(model, self.shared.body, lessons, validation, options, seed=seed)
        return model

    def _scores(self, models: list[HMRModel], users: list[User]) -> StageScores:
        pairs = zip(models, users, strict=True)
        body = self.shared.body
        each = {user.name: evaluate(model, body, user.truth["test"]).row() for model, user in pairs}

        def middle(name: str) -> float:
            return mean(row[name] or 0.0 for row in each.values())

        return {
            "mpjpe_mm": middle("mpjpe_mm"),
            "pa_mpjpe_mm": middle("pa_mpjpe_mm"),
            "mpvpe_mm": middle("mpvpe_mm"),
            "clients": each,
        }
