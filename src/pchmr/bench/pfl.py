"""`pchmr bench pfl|batch-norm`: what clients have of a network whose people are of one scene each.

Every client keeps a quarter of its images to be scored on. Some clients take no part in the rounds:
half of them choose the rates of what is trained alone, the other half are scored as newcomers. A
row a method and seed: errors over the clients that took part, over newcomers, and of the clients'
networks on people of other scenes. Every seed of the methods on common rounds comes before those
with rounds of their own. A method that stands in the file is not run again, and stopped
rounds go on.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pchmr.bench import append, stamped
from pchmr.bench.comparison import MOST_WIDER, UNFINISHED, beyond, whole_lines
from pchmr.bench.estimate import SECONDS_PER_IMAGE
from pchmr.bench.likeness import AS_EVER
from pchmr.bench.tailoring import People, Trained, deal_people, tailor, train_rounds
from pchmr.config import BenchConfig, FederateConfig, ModelOptions, ServerOptions, require
from pchmr.data.sample import Subset
from pchmr.evaluation import evaluate
from pchmr.experiment.scene import Scene, open_scene
from pchmr.progress import say
from pchmr.recipes.personal import GLOBAL, METHODS, STUDIES, Method, Part, PersonalScale
from pchmr.results import Number, ResultRow, Start
from pchmr.runs import file_sha256
from pchmr.seeds import derive_seed

LATER = (*AS_EVER, ("batch_norm", "average"), ("checkpoint", None), ("edition", 2))
"""Settings that came later and are no part of a key while they are as here."""


def run(config: BenchConfig) -> Path:
    """Measures what the file does not hold yet; returns it.

    Raises:
        SettingError: The start weights of a network are not there.
    """
    size, methods = STUDIES[config.name]
    start = size.checkpoint
    require(
        start is None or start.is_file(),
        f"start weights {start} not found: make them by `pchmr train --recipe start-xs-bn`",
    )
    path = config.output / f"{config.name}.jsonl"
    known = {row.key: row for row in whole_lines(path)}
    plans = [
        Plan(size, model, seed, name, methods[name])
        for names in _by_rounds(methods)
        for seed in range(config.num_seeds)
        for model in size.models
        for name in names
    ]
    left = [plan for plan in plans if plan.key not in known]
    say(f"{len(left)} of {len(plans)} runs are left: about {_hours(size, left):.1f} CPU hours")
    for plan in left:
        bench = Bench.of(size, plan.model, plan.seed, config.output / UNFINISHED)
        whole = known.get(replace(plan, name=GLOBAL, method=methods[GLOBAL]).key)
        row = replace(bench.measured(plan.name, plan.method, whole), key=plan.key)
        for made in stamped(plan.model, [row]):
            append(path, made)
            known[plan.key] = made
        if plan.method.rounds != methods[GLOBAL].rounds:  # nobody goes on from them
            shutil.rmtree(bench.folder(plan.method), ignore_errors=True)
        say(f"  {row.label}, seed {plan.seed}: {row.scores['own_mm']} mm")
    return path


@dataclass(frozen=True)
class Plan:
    """A row to be measured."""

    size: PersonalScale
    model: str
    seed: int
    name: str
    method: Method

    @property
    def key(self) -> str:
        """Hash of all that the row depends on but the code."""
        settings = [dataclasses.asdict(part) for part in (self.size, self.method)]
        parts = [*map(_told, settings), self.model, self.seed]
        if self.size.checkpoint is not None:
            parts.append(file_sha256(self.size.checkpoint))
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _told(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {name: _told(v) for name, v in value.items() if (name, v) not in LATER}


def _by_rounds(methods: dict[str, Method]) -> tuple[list[str], list[str]]:
    """Methods on the rounds of one network for all, or on none; then those with own rounds."""
    common = (None, methods[GLOBAL].rounds)
    shared = [name for name, method in methods.items() if method.rounds in common]
    return shared, [name for name in methods if name not in shared]


def _hours(size: PersonalScale, left: Sequence[Plan]) -> float:
    """CPU hours of training, rounds that methods share counted once, evaluation left out."""
    rounds = {(plan.model, plan.seed, plan.method.rounds) for plan in left}
    twice = sum(name in ("ditto", "apfl") for _, _, name in rounds)
    images = size.num_seen * (sum(name is not None for _, _, name in rounds) + twice)
    alone = sum(len(plan.method.parts) for plan in left)
    images += alone * size.alone_epochs * size.data.num_samples
    return images * SECONDS_PER_IMAGE / 3600


@dataclass
class Bench:
    """One network and seed.

    Attributes:
        size: Of the comparison.
        seed: Of dealing and training.
        model: Name of the network.
        scene: Network and people; the network is changed.
        people: Who holds what.
        scratch: Where rounds that were stopped are kept.
    """

    size: PersonalScale
    seed: int
    model: str
    scene: Scene
    people: People
    scratch: Path

    @classmethod
    def of(cls, size: PersonalScale, model: str, seed: int, scratch: Path) -> "Bench":
        """Opens the scene and deals its people."""
        scene = open_scene(config_of(size, model, seed, METHODS[GLOBAL]))
        return cls(size, seed, model, scene, deal_people(size, scene.train_set, seed), scratch)

    def measured(self, name: str, method: Method, whole: ResultRow | None) -> ResultRow:
        """The row of a method.

        Args:
            name: Of the row.
            method: What its clients do.
            whole: The row of one network for all, which others are held against.
        """
        began = time.process_time()
        config = config_of(self.size, self.model, self.seed, method)
        trained = train_rounds(config, method, self.scene, self.people, self.folder(method))
        rates: dict[Part, float] = {}
        for part in sorted(method.parts):
            rates[part] = self._chosen(part, method, config, trained)
        own, others = self._scored(
            trained, config, self.people.seated, method.after, rates, with_others=True
        )
        new, _ = self._scored(trained, config, self.people.newcomers, method.newcomer, rates)
        chosen, _ = self._scored(trained, config, self.people.choosing, method.newcomer, rates)
        scores: dict[str, Number | None] = {
            **_spread("own", own),
            **_spread("newcomers", new),
            "choosing_mm": round(float(np.mean(chosen)), 3),
            "others_mm": round(float(np.mean(others)), 3),
        }
        before = scores["others_mm"] if whole is None else whole.scores.get("others_mm")
        if before is not None:
            scores["forgotten_mm"] = round(float(np.mean(others)) - float(before), 3)
        return ResultRow(
            id=name,
            label=method.label,
            seed=self.seed,
            scores=scores,
            clients_mm=tuple(np.round(own, 2).tolist()),
            chosen={f"rate_{part}": rate for part, rate in rates.items()},
            client_samples=self.people.sizes,
            started_from=Start.of(self.scene.started_from),
            differs=f"rendered people of domain {self.size.data.domain} by scene, embedded body, "
            "start from domain A",
            cpu_seconds=round(time.process_time() - began, 1),
            config={"algorithm": method.algorithm or "none"},
        )

    def folder(self, method: Method) -> Path:
        """Where the rounds of a method are kept."""
        return self.scratch / f"pfl-{self.model}-{self.seed}-{method.rounds}"

    def _chosen(
        self, part: Part, method: Method, config: FederateConfig, trained: Trained
    ) -> float:
        """The rate at which the choosing clients end best."""

        def error(rate: float) -> float:
            found, _ = self._scored(trained, config, self.people.choosing, part, {part: rate})
            return float(np.mean(found))

        return chosen_rate(self.size.alone_rates, error)

    def _scored(
        self,
        trained: Trained,
        config: FederateConfig,
        clients: Sequence[int],
        part: Part | None,
        rates: dict[Part, float],
        *,
        with_others: bool = False,
    ) -> tuple[list[float], list[float]]:
        """Mean errors in mm of some clients' networks on images of their own, and of others."""
        scene, own, others = self.scene, [], []
        for client in clients:
            trained.show(scene.model, client)
            rows = self.people.to_learn[client]
            seed = derive_seed(self.seed, "alone", client)
            if part is not None:
                options = replace(config.optim_options, learning_rate=rates[part])
                learned = Subset(scene.train_set, rows)
                tailor(scene, learned, part, options, self.size.alone_epochs, seed)
            held = Subset(scene.train_set, self.people.to_score[client])
            own.append(_error(scene, held))
            if with_others:
                rng = np.random.default_rng(seed)
                some = rng.permutation(len(scene.test_set))[: self.size.num_others]
                others.append(_error(scene, Subset(scene.test_set, np.sort(some))))
        return own, others


def chosen_rate(rates: Sequence[float], error: Callable[[float], float]) -> float:
    """The rate with the least error; the grid grows while that is its least or its largest."""
    errors = {rate: error(rate) for rate in rates}
    best = min(errors, key=errors.__getitem__)
    for _ in range(MOST_WIDER if len(errors) > 1 else 0):
        further = beyond(errors, best)
        if further is None:
            break
        errors[further] = error(further)
        best = min(errors, key=errors.__getitem__)
    return best


def _error(scene: Scene, people: Subset) -> float:
    found = evaluate(scene.model, scene.body, people).mpjpe_mm
    assert found is not None
    return found


def _spread(name: str, errors: Sequence[float]) -> dict[str, Number | None]:
    """Mean over clients, standard deviation, and 0.9 quantile."""
    return {
        f"{name}_mm": round(float(np.mean(errors)), 3),
        f"{name}_sd_mm": round(float(np.std(errors, ddof=1)), 3),
        f"{name}_worst_decile_mm": round(float(np.quantile(errors, 0.9)), 3),
    }


def config_of(size: PersonalScale, model: str, seed: int, method: Method) -> FederateConfig:
    """The rounds of a method, on as many images as any other's."""
    images = size.data.num_samples * (1 - size.held_share) * size.per_round / size.num_clients
    rounds = max(1, round(size.num_seen / images / method.local_epochs))
    return FederateConfig(
        seed=seed,
        num_clients=size.num_seated,
        clients_per_round=min(size.per_round, size.num_seated),
        num_rounds=rounds,
        local_epochs=method.local_epochs,
        algorithm=method.algorithm or "fedavg",
        partition="natural",
        evaluate_every=0,
        data_options=size.data,
        model_options=ModelOptions(
            model=model,
            checkpoint=size.checkpoint,
            edition=None if size.checkpoint else size.edition,
        ),
        optim_options=size.optim,
        server_options=ServerOptions(round_schedule="cosine", batch_norm=method.batch_norm),
    )
