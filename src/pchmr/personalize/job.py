"""What `pchmr personalize` does: label, learn, score, keep the best; one user after the other.

Whatever is written lies in a private folder and appears whole; a killed run finds its labels and
its finished users again.
"""

import copy
import dataclasses
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy import ndarray

from pchmr import compute
from pchmr.annotate.consent import PERSONAL, record
from pchmr.body import BodyModel, load_body
from pchmr.config import ExportConfig, PersonalizeConfig, UserError, require
from pchmr.data.sample import Subset
from pchmr.device.export import EXTRA
from pchmr.device.export import run as export
from pchmr.door import Json
from pchmr.evaluation import Scores, evaluate
from pchmr.models import HMRModel, load_model, save_checkpoint
from pchmr.models.started import StartedFrom
from pchmr.personalize.fitting import Fitted, personalize
from pchmr.personalize.lessons import Lessons
from pchmr.personalize.own import own_user
from pchmr.personalize.pictures import PICTURES, write_pictures
from pchmr.personalize.rehearsal import Source
from pchmr.personalize.rendered import RootLabeler, is_root, open_root, users_of
from pchmr.personalize.scores import AGAINST_LABELS, constants, gathered, named, sentence
from pchmr.personalize.users import User, usable, weights
from pchmr.progress import say
from pchmr.runs import CONFIG, MODEL, SUMMARY, RunFolder, alone, make_private
from pchmr.seeds import derive_seed

LABELS, USERS, EXPORT = "labels", "users", "export"
NUM_EXPORT_CHECKED = 16  # rendered people that the exported model is held against


class NothingToLearnError(UserError):
    """No user has labels enough; the message says where to look."""


@alone
def run(config: PersonalizeConfig) -> Json:
    """Makes a model personal for each user of the input; returns the summary it wrote.

    Raises:
        UserError: Nobody to label, too few usable labels, or files that do not fit together.
    """
    began = time.perf_counter()
    require(
        config.images.exists(),
        f"--images {config.images} does not exist: give photos, a video or a root of `pchmr data "
        "synth`",
    )
    config = _decided(config)
    make_private(config.output, "--output", marks=(CONFIG, LABELS, SUMMARY))
    shared = Shared.open(config)
    folder = RunFolder.create(config.output, config)
    source = Source.open(shared.body, shared.model.image_size, seed=0)
    source_before = source.mpjpe_mm(shared.model, shared.body)
    rows: dict[str, Json] = {}
    for user in opened_users(config, shared):
        rows[user.name] = Lesson(config, shared, source, source_before, user).learn()
    if not any(row["num_usable"] >= config.fitting_options.min_labels for row in rows.values()):
        raise NothingToLearnError(_nothing(config, rows))
    summary = {
        **gathered(rows),
        "users": rows,
        "source_mpjpe_mm": source_before,
        "started_from": shared.started_from,
        "truth": "scores only" if is_root(config.images) else "none: consistency, not accuracy",
        "seconds": time.perf_counter() - began,
    }
    folder.write_json(SUMMARY, summary)
    export_own(config)
    tell(config, summary)
    return summary


def export_own(config: PersonalizeConfig) -> None:
    """Exports the personal model of a person's own pictures, where the extra is installed."""
    model = config.output / MODEL
    if is_root(config.images) or not model.is_file():
        return
    if not all(map(find_spec, EXTRA)):
        say(f"not exported: pip install 'pchmr[export]', then pchmr export --checkpoint {model}")
        return
    options = dataclasses.replace(config.model_options, checkpoint=model)
    export(
        ExportConfig(
            output=config.output / EXPORT,
            variants="fp32",
            num_calibration=NUM_EXPORT_CHECKED,
            num_held_out=NUM_EXPORT_CHECKED,
            repeats=2,
            model_options=options,
        )
    )


def _decided(config: PersonalizeConfig) -> PersonalizeConfig:
    """The config; labels for review count for rendered users, as nobody can look at them."""
    if not is_root(config.images):
        return config
    options = dataclasses.replace(config.fitting_options, use_review=True)
    return dataclasses.replace(config, fitting_options=options)


@dataclasses.dataclass(frozen=True)
class Shared:
    """The body and the model that everybody starts from."""

    body: BodyModel
    model: HMRModel
    started_from: StartedFrom

    @classmethod
    def open(cls, config: PersonalizeConfig) -> "Shared":
        """Loads both."""
        device = compute.pick_device(config.device)
        body = load_body(config.model_options.body).to(device)
        model, started_from = load_model(config.model_options, body.hierarchy, seed=config.seed)
        return cls(body, model.to(device).eval(), started_from)


def opened_users(config: PersonalizeConfig, shared: Shared) -> Iterator[User]:
    """Each user with labels, made when they are not there yet."""
    side = shared.model.image_size
    if not is_root(config.images):
        yield own_user(config, shared.body, side)
        return
    splits = open_root(config.images)
    labeler = RootLabeler.open(config, shared.body)
    for subject in users_of(splits, config.images, config.num_users):
        yield labeler.user(splits, subject, side)


@dataclasses.dataclass(frozen=True)
class Lesson:
    """One user's turn."""

    config: PersonalizeConfig
    shared: Shared
    source: Source
    source_before: float
    user: User

    def learn(self) -> Json:
        """Fine-tunes, scores, writes the personal model and pictures; returns the user's row."""
        began, user, options = time.perf_counter(), self.user, self.config.fitting_options
        rows = usable(user.train, options.use_review)
        found: Json = {"num_usable": len(rows), **user.about}
        model = copy.deepcopy(self.shared.model)
        before = self._scores(model)
        if len(rows) < options.min_labels or not len(user.validation):
            say(f"{user.name}: {len(rows)} usable labels, too few: the shared model stays")
        else:
            found |= dataclasses.asdict(self._fit(model, rows))
            self._keep(model)
        after = self._scores(model)
        source_after = self.source.mpjpe_mm(model, self.shared.body)
        row = {
            **found,
            **named(before, after),
            **constants(self.shared.body, user),
            "forgetting": source_after / self.source_before - 1,
            "seconds": time.perf_counter() - began,
        }
        if len(user.test) and "best_epoch" in found:
            pair = (self.shared.model, model)
            write_pictures(self.folder / PICTURES, pair, self.shared.body, user.test)
        say(f"{user.name}: {sentence(row)}")
        return row

    @property
    def folder(self) -> Path:
        """Where what belongs to the user lies."""
        output = self.config.output
        return output if self.user.name == "own" else output / USERS / self.user.name

    def _fit(self, model: HMRModel, rows: ndarray) -> Fitted:
        user, options = self.user, self.config.fitting_options
        seed = derive_seed(self.config.seed, "user", user.name)
        lessons = Lessons(
            people=Subset(user.train, rows),
            weights=weights(user.train)[rows],
            rehearsal=self.source.train,
            share=options.rehearsal_share,
            seed=seed,
        )
        return personalize(model, self.shared.body, lessons, user.validation, options, seed=seed)

    def _scores(self, model: HMRModel) -> dict[str, Scores]:
        """Against labels where there are any, and against the truth where it is known."""
        body, found = self.shared.body, {}
        if len(self.user.test):
            found["labels"] = evaluate(model, body, self.user.test)
        if "test" in self.user.truth:
            found["truth"] = evaluate(model, body, self.user.truth["test"])
        return found

    def _keep(self, model: HMRModel) -> None:
        """Writes the personal model, and into the record of consent that it exists."""
        path = self.folder / MODEL
        note = {"started_from": self.shared.started_from, "personal": True}
        save_checkpoint(path, model, note)
        labels = self.config.labels or self.config.output / LABELS
        if self.user.name != "own":
            labels = labels / self.user.name
        record(
            labels, who=self.config.who, purpose=PERSONAL, keep_days=self.config.keep_days,
            personal_models=[path],
        )  # fmt: skip


def _nothing(config: PersonalizeConfig, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Why nothing was learned, which frames to look at, and the way on."""
    name, row = max(rows.items(), key=lambda item: item[1]["num_usable"])
    labels = config.labels or config.output / LABELS
    labels = labels if name == "own" else labels / name
    found = ", ".join(f"{count} {status}" for status, count in sorted(row["labels"].items()))
    ways = [f"look at the frames that `pchmr labels {labels}` lists and --accept good ones"]
    if not config.fitting_options.use_review and row["labels"].get("review"):
        ways.insert(0, "count them with less weight: --use-review")
    return (
        f"{row['num_usable']} usable labels ({found or 'none'}), "
        f"{config.fitting_options.min_labels} are needed: {'; or '.join(ways)}; or give more "
        "pictures"
    )


def tell(config: PersonalizeConfig, summary: Mapping[str, Any]) -> None:
    """The figures in words, and what comes next."""
    say(f"{len(summary['users'])} users: {sentence(summary)}")
    if "before_truth" not in summary:
        say(AGAINST_LABELS)
    model = config.output / (MODEL if "own" in summary["users"] else f"{USERS}/USER/{MODEL}")
    say(f"personal model: {model}")
