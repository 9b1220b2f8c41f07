"""What `pchmr personalize` does: label, learn, score, keep the best; one user after the other.

Whatever is written lies in a private folder and appears whole; a killed run finds its labels and
its finished users again.
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pchmr import compute
from pchmr.annotate.consent import PERSONAL, record
from pchmr.body import BodyModel, load_body
from pchmr.config import ExportConfig, PersonalizeConfig, require, to_json
from pchmr.device.export import EXTRA
from pchmr.device.export import run as export
from pchmr.door import Json
from pchmr.models import HMRModel, load_checkpoint, load_model, save_checkpoint
from pchmr.models.started import StartedFrom
from pchmr.personalize.lesson import Lesson
from pchmr.personalize.own import own_user
from pchmr.personalize.rehearsal import Rendered, others_in, source_people
from pchmr.personalize.rendered import RootLabeler, is_root, open_root, users_of
from pchmr.personalize.scores import AGAINST_LABELS, gathered, sentence
from pchmr.personalize.settled import num_others, settled_model
from pchmr.personalize.teaching import Teacher
from pchmr.personalize.users import NothingToLearnError, User, too_few
from pchmr.progress import say
from pchmr.runs import CONFIG, MODEL, SUMMARY, RunFolder, alone, make_private, state_sha256

LABELS, USERS, EXPORT, SETTLED, ROW = (
    "labels",
    "users",
    "export",
    "settled.safetensors",
    "user.json",
)
NUM_EXPORT_CHECKED = 16  # rendered people that the exported model is held against


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
    config = decided(config)
    make_private(config.output, "--output", marks=(CONFIG, LABELS, SUMMARY))
    school = School.open(config)
    folder = RunFolder.create(config.output, config)
    rows = {user.name: _learned(school, user) for user in school.users()}
    if not any(row["num_usable"] >= config.fitting_options.min_labels for row in rows.values()):
        raise NothingToLearnError(_nothing(config, rows))
    summary = {
        **gathered(rows),
        "users": rows,
        "source_mpjpe_mm": school.source_before,
        "started_from": school.started_from,
        "setting": config.fitting_options.setting,
        "truth": "scores only" if is_root(config.images) else "none: consistency, not accuracy",
        "seconds": time.perf_counter() - began,
    }
    folder.write_json(SUMMARY, summary)
    export_own(config)
    tell(config, summary)
    return summary


def decided(config: PersonalizeConfig) -> PersonalizeConfig:
    """The config with what the input decides.

    A rendered root tells its setting, and labels for review count for its users, as nobody can look
    at them; photos and videos have no setting unless one is named.
    """
    options, setting = config.fitting_options, "none"
    if is_root(config.images):
        setting = next(iter(open_root(config.images).values())).recipe.domain
        options = dataclasses.replace(options, use_review=True)
    if options.setting == "auto":
        options = dataclasses.replace(options, setting=setting)
    return dataclasses.replace(config, fitting_options=options)


@dataclasses.dataclass(frozen=True)
class School:
    """What every user of a run shares.

    Attributes:
        config: Of the run, decided.
        shared: The model that everybody starts from.
        settled: The same after others in the setting.
        started_from: Weights of the shared model.
        teacher: How models learn.
        source_before: Error of the shared model in the source domain.
    """

    config: PersonalizeConfig
    shared: HMRModel
    settled: HMRModel
    started_from: StartedFrom
    teacher: Teacher
    source_before: float

    @property
    def body(self) -> BodyModel:
        """Of everybody."""
        return self.teacher.body

    @property
    def source(self) -> Rendered:
        """People of the source domain."""
        return self.teacher.source

    @classmethod
    def open(cls, config: PersonalizeConfig) -> "School":
        """Loads or renders all of it; a setting that was taught before is found again."""
        device = compute.pick_device(config.device)
        body = load_body(config.model_options.body).to(device)
        shared, started_from = load_model(config.model_options, body.hierarchy, seed=config.seed)
        shared = shared.to(device).eval()
        side, options = shared.image_size, config.fitting_options
        root = open_root(config.images) if is_root(config.images) else None
        others = None
        if options.setting not in ("auto", "none"):
            users = root["train"].recipe if root else None
            count = options.num_others or num_others(shared, options.setting)
            others = others_in(options.setting, body, side, count, users)
        source = source_people(body, side, options.num_rehearsed)
        teacher = Teacher.of(shared, body, source, others, options, config.seed)
        settled = settled_model(config.output / SETTLED, teacher, shared)
        source_before = teacher.source.mpjpe_mm(shared, body)
        return cls(config, shared, settled, started_from, teacher, source_before)

    def labeler(self, config: PersonalizeConfig) -> RootLabeler:
        """What labels rendered users, with the network that knows the setting."""
        others = self.teacher.others
        sure = None if others is None else others.mpjpe_mm(self.settled, self.body)
        return RootLabeler.open(config, self.body, self.settled, sure)

    def load(self, path: Path) -> HMRModel:
        """A model that this school has written."""
        return load_checkpoint(path, self.shared.hierarchy)[0].to(self.body.v_template.device)

    def users(self) -> Iterator[User]:
        """Each user with labels, made when they are not there yet."""
        config, side = self.config, self.shared.image_size
        if not is_root(config.images):
            yield own_user(config, self.body, side)
            return
        splits = open_root(config.images)
        labeler = self.labeler(config)
        for subject in users_of(splits, config.images, config.num_users):
            yield labeler.user(splits, subject, side)


def _learned(school: School, user: User) -> Json:
    """A user's row: that of a killed run where nothing that decides it changed."""
    config = school.config
    folder = config.output if user.name == "own" else config.output / USERS / user.name
    names = (school.shared, school.settled)
    hashes = [state_sha256(model.state_dict()) for model in names]
    hashes += [part.content_hash for part in (user.train, user.validation, user.test)]
    decides = [to_json(config), *hashes, *[part.content_hash for part in user.truth.values()]]
    key = hashlib.sha256("\n".join(decides).encode()).hexdigest()
    kept = RunFolder(folder)
    before = kept.read_json(ROW)
    if isinstance(before, dict) and before.get("key") == key and (folder / MODEL).is_file():
        return before["row"]
    lesson = Lesson(school.teacher, school.shared, school.settled, school.source_before, user)
    row, model = lesson.learn(folder)
    if model is not None:
        _keep(school, user.name, folder / MODEL, model)
        kept.write_json(ROW, {"key": key, "row": row})
    say(f"{user.name}: {sentence(row)}")
    return row


def _keep(school: School, name: str, path: Path, model: HMRModel) -> None:
    """Writes the personal model, and into the record of consent that it exists."""
    config = school.config
    save_checkpoint(path, model, {"started_from": school.started_from, "personal": True})
    labels = config.labels or config.output / LABELS
    record(
        labels if name == "own" else labels / name,
        who=config.who,
        purpose=PERSONAL,
        keep_days=config.keep_days,
        personal_models=[path],
    )


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


def _nothing(config: PersonalizeConfig, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Why nobody learned anything, by the user who came closest."""
    name, row = max(rows.items(), key=lambda item: item[1]["num_usable"])
    labels = config.labels or config.output / LABELS
    labels = labels if name == "own" else labels / name
    return too_few(labels, row["labels"], row["num_usable"], config.fitting_options)


def tell(config: PersonalizeConfig, summary: Mapping[str, Any]) -> None:
    """The figures in words, and what comes next."""
    count = len(summary["users"])
    say(f"{count} user{'s' * (count > 1)}: {sentence(summary)}")
    if "before_truth" not in summary:
        say(AGAINST_LABELS)
    model = config.output / (MODEL if "own" in summary["users"] else f"{USERS}/USER/{MODEL}")
    say(f"personal model: {model}")
