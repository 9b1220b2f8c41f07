"""Personalization against the truth: headset wearers nobody has seen, before, after, and beside.

Every seed draws other users, whose test clips come from another session. Beside the scores of the
model stand a constant, the upper bound of true labels, SMPLify-X's labels, and the annotator itself
on the test frames, begun from the shared and from the personal network (`--refine`). Labels, models
and finished users are kept in the cache, so a run that was stopped goes on.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

import numpy as np

from pchmr import worlds
from pchmr.bench import append, stamped
from pchmr.bench.start import begun
from pchmr.body import load_body
from pchmr.config import (
    BenchConfig,
    DataConfig,
    DataOptions,
    FittingOptions,
    LabelingOptions,
    PersonalizeConfig,
)
from pchmr.data.sample import PeopleDataset
from pchmr.data.synthetic.people import default_cache
from pchmr.evaluation import evaluate
from pchmr.personalize import run as personalize
from pchmr.personalize.job import USERS, School, decided
from pchmr.personalize.rendered import RootLabeler, label_errors_mm, open_root
from pchmr.personalize.teaching import known, labeled
from pchmr.personalize.users import User
from pchmr.progress import say
from pchmr.results import Number, ResultRow, Target, slug
from pchmr.runs import MODEL

FILE = "personalize"
NUM_USERS = 8
DATA = DataOptions(domain="V", num_samples=2000, num_test_samples=320)
NUM_FRAMES = 200
FIRST_SEED = 500
DEPOSER, TRUE, SMPLIFYX = "DePoser", "true", "SMPLify-X"
SHARE = Target(">=", 80)
TRUTH = "consistency with labels, not accuracy"
PAPER = "before -> after, four clips: 172.57 -> 62.30 at best, against its own labels"


@dataclass(frozen=True, kw_only=True)
class Study:
    """The users of one seed.

    Attributes:
        seed: Of the users.
        place: Where what was rendered and learned is kept.
        num_users: First ones of the root.
        data: How many images.
        fitting: How models learn.
    """

    seed: int
    place: Path
    num_users: int = NUM_USERS
    data: DataOptions = DATA
    fitting: FittingOptions = field(default_factory=FittingOptions)

    @property
    def root(self) -> Path:
        """Of the rendered users."""
        return self.place / "root"

    def config(self, mode: str = "auto") -> PersonalizeConfig:
        """Of `pchmr personalize`, with one way to label."""
        return PersonalizeConfig(
            images=self.root,
            output=self.place / mode,
            num_users=self.num_users,
            labeling_options=LabelingOptions(mode=mode),
            fitting_options=self.fitting,
        )


def run(config: BenchConfig) -> Path:
    """Appends the rows of every seed that is not there yet."""
    path, body = config.output / f"{FILE}.jsonl", load_body()
    for seed in range(FIRST_SEED, FIRST_SEED + config.num_seeds):
        study = Study(seed=seed, place=default_cache() / "bench" / f"{FILE}-{seed}")
        for row in stamped(FILE, begun(body, rows(study))):
            append(path, row)
            say(f"  {row.label}: {dict(row.scores)}")
    return path


def rows(study: Study) -> Iterator[ResultRow]:
    """The rows of one seed."""
    if not (study.root / "test" / "meta.json").is_file():
        worlds.run(
            DataConfig(task="synth", output=study.root, seed=study.seed, data_options=study.data)
        )
    is_whole = not study.config().output.exists()  # what goes on after a stop costs less
    began = time.process_time()
    summary = personalize(study.config())
    spent = time.process_time() - began if is_whole else None
    for name, label in (
        ("before_truth", "shared model"),
        ("settled_truth", "setting alone, no picture of the user"),
        ("constant_truth", "constant of the training pictures' truth"),
        ("after_truth", f"personal, {DEPOSER} labels"),
    ):
        if name in summary:
            yield _row(study, label, summary[name])
    for name in ("before", "after"):
        yield _row(study, f"{name}, against labels", summary[name], differs=TRUTH, paper=PAPER)
    yield _share(study, f"forgetting, {DEPOSER} labels", summary["forgetting"], Target("<=", 5))
    yield from _beside(study, summary, spent)


def _beside(study: Study, summary: dict, spent: float | None) -> Iterator[ResultRow]:
    """What stands beside the personal model, and the ratios that are promised."""
    school = School.open(decided(study.config()))
    users = list(school.users())
    before, after = summary["before_truth"]["mpjpe_mm"], summary["after_truth"]["mpjpe_mm"]
    constant = summary["constant_truth"]["mpjpe_mm"]
    best = _taught(school, users, TRUE)
    yield _row(study, f"personal, {TRUE} labels", best)
    gain = (before - after) / (before - best["mpjpe_mm"])
    yield _share(study, f"{DEPOSER} labels' share of the gain of true ones", gain, SHARE)
    yield _ratio(study, "after over constant", after / constant, Target("<=", 0.85))
    yield _ratio(study, "after over before", after / before, Target("<=", 0.65))
    other = School.open(decided(study.config("smplifyx")))
    others = list(other.users())
    yield _row(study, f"personal, {SMPLIFYX} labels", _taught(other, others, SMPLIFYX))
    for kind, taught in ((DEPOSER, users), (SMPLIFYX, others)):
        usable = {"value": round(100 * _usable(taught), 1)}
        yield replace(_row(study, f"{kind} labels that count", usable), unit="%")
    if spent is not None:
        shown = sum(len(u.train) + len(u.validation) + len(u.test) for u in users)
        per_frames = {"CPU-s": round(NUM_FRAMES * spent / shown, 1)}
        yield replace(_row(study, f"{NUM_FRAMES} frames, all of it", per_frames), unit="CPU-s")
    alone = mean(user.about["annotator_error_mm"] for user in users)
    yield _row(study, f"{DEPOSER} alone on the training frames", {"mpjpe_mm": alone})
    for label, fit in (
        ("labels: the same and the setting's network, averaged", _trained),
        (f"{DEPOSER} alone on the test frames, begun from the setting", _tests(school, None)),
        (f"{DEPOSER} alone on the test frames, begun from the personal", _tests(school, study)),
    ):
        errors = [label_errors_mm(school.body, *fit(user)).mean() for user in users]
        yield _row(study, label, {"mpjpe_mm": float(np.mean(errors))})


def _usable(users: list[User]) -> float:
    """Share of the training frames whose labels may teach."""
    return mean(len(labeled(u, use_review=True).train) / len(u.train) for u in users)


def _trained(user: User) -> tuple[PeopleDataset, PeopleDataset]:
    """The labels that taught a user's model, and their truth."""
    return user.train, user.truth["train"]


def _tests(school: School, study: Study | None):
    """The annotator's test frames with a user's own network as a start, and their truth."""

    def fit(user: User):
        network = school.settled
        config = school.config
        if study is not None:
            path = config.output / USERS / user.name / MODEL
            network = school.load(path)
            config = replace(config, output=config.output / "refined", labels=None)
        labeler = RootLabeler.open(config, school.body, network)
        splits = open_root(config.images)
        return labeler.part(splits, int(user.name), "test", network.image_size), user.truth["test"]

    return fit


def _taught(school: School, users: list[User], kind: str) -> dict[str, Number]:
    """Mean scores against the truth of models that learned from one kind of labels."""
    scores = []
    for user in users:
        pictures = known(user) if kind == TRUE else labeled(user, use_review=True)
        model = school.shared
        if len(pictures.train) >= school.config.fitting_options.min_labels:
            model, _ = school.teacher.teach(school.settled, pictures)
        scores.append(evaluate(model, school.body, user.truth["test"]).row())
    return {name: mean(row[name] or 0.0 for row in scores) for name in scores[0]}


def _row(
    study: Study, label: str, scores: dict, *, differs: str = "", paper: str = ""
) -> ResultRow:
    """Scores of one thing, how it differs from the paper's, and the paper's figure."""
    told = {name: round(value, 3) for name, value in scores.items() if value is not None}
    return ResultRow(
        id=slug(label),
        label=label,
        seed=study.seed,
        n=study.num_users,
        scores=told,
        differs=differs,
        paper=paper,
    )


def _ratio(study: Study, label: str, value: float, target: Target) -> ResultRow:
    return replace(_row(study, label, {"value": value}), target=target, unit="ratio")


def _share(study: Study, label: str, share: float, target: Target) -> ResultRow:
    return replace(_row(study, label, {"value": 100 * share}), target=target, unit="%")
