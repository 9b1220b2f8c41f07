"""The whole story of one run: label, federate, return, personalize; what each stage is worth.

Clients are the subjects of a rendered root. Each labels its own pictures, the clients federate on
these labels, the model that comes back becomes personal at each. The same with true labels is the
upper bound, with SMPLify-X's the baseline. The truth is read by scores, and by the rows named true.
"""

import copy
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from statistics import mean
from typing import TypedDict

import numpy as np

from pchmr.annotate.consent import FEDERATED, record
from pchmr.config import (
    FederateConfig,
    LoopConfig,
    OptimOptions,
    PersonalizeConfig,
    PrivacyOptions,
    require,
    to_json,
)
from pchmr.config.privacy import FEWEST
from pchmr.data.sample import PeopleDataset
from pchmr.evaluation import evaluate
from pchmr.federated import World, run_federated
from pchmr.models import HMRModel, save_checkpoint
from pchmr.models.started import StartedFrom
from pchmr.personalize.job import LABELS, School, decided
from pchmr.personalize.lessons import Mixture
from pchmr.personalize.rendered import is_root, open_root, users_of
from pchmr.personalize.teaching import Pictures, known, labeled
from pchmr.personalize.users import User
from pchmr.progress import say
from pchmr.runs import CONFIG, MODEL, RunFolder, alone, make_private, state_sha256

TABLE = "loop.json"
DEPOSER, TRUE, SMPLIFYX = "deposer", "true", "smplifyx"
PLAIN, SECURE = "federated", "federated, secure"
SHARED, SETTLED, LOCAL = "shared", "setting only", "local only"
PERSONAL = "{} and personal"
FOLDERS = {PLAIN: "federated", SECURE: "secure"}


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
    """What `loop.json` holds; `key` is a hash of all that decides the rows."""

    rows: list[LoopRow]
    started_from: StartedFrom
    key: str


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
    school = School.open(_personal(config, DEPOSER))
    key = _key(config, school)
    before = folder.read_json(TABLE)
    is_same = isinstance(before, dict) and before.get("key") == key
    known = {(row["labels"], row["stage"]): row for row in before["rows"]} if is_same else {}
    rows: list[LoopRow] = []
    table: LoopTable = {"rows": rows, "started_from": school.started_from, "key": key}
    for kind in config.kinds:
        for row in _Story(config, school, kind, known).rows():
            say(f"{row['labels']:<9} {row['stage']:<32} {row['mpjpe_mm']:.1f} mm")
            rows.append(row)
            if (row["labels"], row["stage"]) not in known:
                folder.write_json(TABLE, table)
    folder.write_json(TABLE, table)
    say(f"table: {config.output / TABLE}")
    return table


def _key(config: LoopConfig, school: School) -> str:
    """Hash of settings, models and people; which labels are asked for decides no row."""
    settings = to_json(dataclasses.replace(config, label_kinds=DEPOSER))
    models = [state_sha256(model.state_dict()) for model in (school.shared, school.settled)]
    people = [part.content_hash for part in open_root(config.images).values()]
    return hashlib.sha256("\n".join([settings, *models, *people]).encode()).hexdigest()


def stages(num_clients: int) -> list[str]:
    """Names of the rows of a kind of labels, in order; fewer than five sum nothing securely."""
    ways = [PLAIN, SECURE] if num_clients >= FEWEST else [PLAIN]
    return [
        SHARED,
        SETTLED,
        LOCAL,
        *(stage for way in ways for stage in (way, PERSONAL.format(way))),
    ]


def _personal(config: LoopConfig, kind: str) -> PersonalizeConfig:
    """The settings of one kind of labels, as personalization knows them.

    Where the truth teaches, DePoser's labels are what its errors are told of.
    """
    labeling = config.labeling_options
    if kind == SMPLIFYX:
        labeling = dataclasses.replace(labeling, mode=SMPLIFYX)
    return decided(
        PersonalizeConfig(
            images=config.images,
            output=config.output / (SMPLIFYX if kind == SMPLIFYX else DEPOSER),
            seed=config.seed,
            device=config.device,
            model_options=config.model_options,
            labeling_options=labeling,
            fitting_options=config.fitting_options,
        )
    )


@dataclasses.dataclass(frozen=True)
class _Story:
    """The loop with one kind of labels.

    Attributes:
        config: Of the loop.
        school: What every client shares.
        kind: Of labels.
        known: Rows of a loop that was stopped, by kind of labels and stage.
    """

    config: LoopConfig
    school: School
    kind: str
    known: Mapping[tuple[str, str], LoopRow]

    def rows(self) -> Iterator[LoopRow]:
        """A row of each stage: scores against the truth, means over clients and each client's."""
        wanted = stages(self.config.num_clients)
        found = [self.known.get((self.kind, stage)) for stage in wanted]
        if all(found):
            yield from filter(None, found)
            return
        users = self._users()
        pictures = [self._pictures(user) for user in users]
        error = mean(user.about["label_error_mm"] for user in users)
        for stage in wanted:
            row = self.known.get((self.kind, stage))
            yield row or {
                "labels": self.kind,
                "label_error_mm": 0.0 if self.kind == TRUE else error,
                "stage": stage,
                **self._scores(self._models(stage, users, pictures), users),
            }

    def _models(self, stage: str, users: list[User], pictures: list[Pictures]) -> list[HMRModel]:
        """Each client's model after a stage."""
        school = self.school
        if stage == SHARED:
            return [school.shared] * len(users)
        if stage == SETTLED:
            return [school.settled] * len(users)
        if stage == LOCAL:
            return self._taught(school.settled, pictures)
        if stage in FOLDERS:
            return [self._federate(users, pictures, stage)] * len(users)
        way = next(way for way in FOLDERS if stage == PERSONAL.format(way))
        back = self._folder(way) / MODEL
        if not back.is_file():
            self._federate(users, pictures, way)
        return self._taught(school.load(back), pictures)

    def _folder(self, way: str) -> Path:
        """Of the federated run."""
        return self.config.output / self.kind / FOLDERS[way]

    def _users(self) -> list[User]:
        splits = open_root(self.config.images)
        subjects = users_of(splits, self.config.images, self.config.num_clients)
        require(
            len(subjects) == self.config.num_clients,
            f"{self.config.images} shows {len(subjects)} subjects in every split, --num-clients "
            f"asks for {self.config.num_clients}: render more images or world 2",
        )
        personal = _personal(self.config, self.kind)
        labeler = self.school.labeler(personal)
        return [labeler.user(splits, one, self.school.shared.image_size) for one in subjects]

    def _pictures(self, user: User) -> Pictures:
        """What a client learns from."""
        if self.kind == TRUE:
            return known(user)
        pictures, least = labeled(user, use_review=True), self.config.fitting_options.min_labels
        require(
            len(pictures.train) >= least,
            f"client {user.name}: {len(pictures.train)} usable labels, {least} are needed: give "
            "more images, another --keypoint-prior, or a larger --reject-mm",
        )
        return pictures

    def _taught(self, start: HMRModel, pictures: list[Pictures]) -> list[HMRModel]:
        """A personal model of each client, from a model that all share."""
        return [self.school.teacher.teach(start, one)[0] for one in pictures]

    def _federate(self, users: list[User], pictures: list[Pictures], way: str) -> HMRModel:
        """The shared model after federated training on the clients' labels.

        Each client has its own pictures, and the rendered people that every device can render.
        """
        teacher, options = self.school.teacher, self.school.teacher.options
        sets = [teacher.lessons(one).of_epoch(0) for one in pictures]
        ends = np.cumsum([len(people) for people in sets])
        parts = np.split(np.arange(ends[-1]), ends[:-1])
        people: PeopleDataset = reduce(lambda one, two: Mixture(first=one, second=two), sets)
        federate = FederateConfig(
            output=self._folder(way),
            seed=self.config.seed,
            num_clients=len(sets),
            clients_per_round=len(sets),
            evaluate_every=0,
            num_rounds=self.config.num_rounds,
            privacy_options=PrivacyOptions(aggregation="secure" if way == SECURE else "plain"),
            optim_options=OptimOptions(
                optimizer=options.optimizer,
                learning_rate=options.learning_rate,
                batch_size=options.batch_size,
            ),
        )
        folder = RunFolder.create(federate.output, federate)
        model = copy.deepcopy(self.school.settled)
        world = World(model=model, body=teacher.body, train_set=people, partitions=parts)
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

    def _scores(self, models: list[HMRModel], users: list[User]) -> StageScores:
        pairs = zip(models, users, strict=True)
        body = self.school.body
        each = {user.name: evaluate(model, body, user.truth["test"]).row() for model, user in pairs}

        def middle(name: str) -> float:
            return mean(row[name] or 0.0 for row in each.values())

        return {
            "mpjpe_mm": middle("mpjpe_mm"),
            "pa_mpjpe_mm": middle("pa_mpjpe_mm"),
            "mpvpe_mm": middle("mpvpe_mm"),
            "clients": each,
        }
