"""`pchmr audit`: opens a run folder, replays its recipe, attacks a view, writes JSON and a page."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pchmr.body import load_body
from pchmr.config import AuditConfig, FederateConfig, SettingError, from_dict, require
from pchmr.config.audit import retrained
from pchmr.config.privacy import FEWEST, MOST
from pchmr.data.synthetic import RECIPE_VERSION
from pchmr.door import FileError, read_json
from pchmr.models import load_model
from pchmr.privacy.audit.attacks import ATTACKS
from pchmr.privacy.audit.evidence import Evidence, ServerView, gathered
from pchmr.privacy.audit.figures import Figure
from pchmr.privacy.audit.page import LIMITS, RELEASED, page, shown
from pchmr.privacy.audit.people import QUICK, Plan, draw_cast
from pchmr.privacy.audit.replay import replayed
from pchmr.progress import bar, say
from pchmr.runs.files import write_bytes
from pchmr.runs.folder import CONFIG

STEPS, QUICK_STEPS = 40, 3


@dataclass(frozen=True)
class Audit:
    """What came of an audit.

    Attributes:
        view: That was attacked.
        figures: What attacks reached.
        facts: About run and attacks, for people.
        seconds: Of the clock.
        cpu_seconds: Of the processor, this process alone.
    """

    view: ServerView
    figures: list[Figure]
    facts: dict[str, str]
    seconds: float
    cpu_seconds: float

    def plain(self) -> dict[str, object]:
        """In plain values."""
        return {
            "view": self.view.name,
            "cohort": self.view.cohort,
            "figures": [figure.plain() for figure in self.figures],
            "facts": self.facts,
            "limits": list(LIMITS),
            "released_model": RELEASED,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }


def run(config: AuditConfig) -> Audit:
    """Audits a run and writes audit-VIEW.json and audit-VIEW.html.

    Raises:
        SettingError: The folder is none of `federate`, or the view is none of this run's.
    """
    played = run_config(config)
    view = view_of(config, played)
    plan, steps = (QUICK, QUICK_STEPS) if config.quick else (Plan(), STEPS)
    began, spent = time.perf_counter(), time.process_time()
    with evidence_of(played, plan, steps, config.seed, config.cache, config.data) as evidence:
        found = attacked(evidence, view)
        facts = facts_of(config.run, played, evidence)
    made = Audit(
        view,
        found,
        facts,
        round(time.perf_counter() - began, 1),
        round(time.process_time() - spent, 1),
    )
    _write(config.output or config.run, made)
    return made


def run_config(config: AuditConfig) -> FederateConfig:
    """What the run was asked to do, with the part that trains as this audit wants it.

    Raises:
        SettingError: There is no federated run in the folder.
    """
    try:
        raw = read_json(config.run / CONFIG)
    except FileError as error:
        raise SettingError(
            f"{config.run} is no run folder ({error.reason}): give one of `pchmr federate`"
        ) from None
    is_federated = isinstance(raw, dict) and "clients_per_round" in raw
    require(is_federated, f"{config.run} holds no federated run: give a folder of `pchmr federate`")
    found = from_dict(FederateConfig, raw)
    options = retrained(found.server_options, config.trainable)
    return replace(found, server_options=options, resume=False)


def view_of(config: AuditConfig, played: FederateConfig) -> ServerView:
    """What the server of the run may look at, or of another that was asked about.

    Raises:
        SettingError: Sums over cohorts of this size are not taken.
    """
    privacy = played.privacy_options
    name = config.view or privacy.aggregation
    cohort = config.cohort or played.clients_per_round
    require(
        name == "plain" or FEWEST <= cohort <= MOST,
        f"--view secure: the run asks {cohort} clients a round, and sums are taken over {FEWEST} "
        f"to {MOST}: give --cohort",
    )
    noise, clip = privacy.dp_noise_multiplier or 0.0, privacy.dp_clip or 0.0
    return ServerView(name, cohort, noise * clip)


@contextmanager
def evidence_of(
    played: FederateConfig,
    plan: Plan,
    steps: int,
    seed: int,
    cache: Path | None = None,
    people: Path | None = None,
) -> Iterator[Evidence]:
    """Everybody's updates at the start weights of a run.

    Args:
        played: The run.
        plan: How many people.
        steps: Of the search for a picture.
        seed: Draws people.
        cache: Folder of renderings.
        people: Folder of rendered people in place of new ones.
    """
    torch.set_num_threads(1)
    body = load_body(played.model_options.body)
    data = played.data_options
    model, _ = load_model(
        played.model_options, body.hierarchy, seed=played.seed, image_size=data.image_size
    )
    world = data.world or RECIPE_VERSION
    cast = draw_cast(
        plan, body, image_size=model.image_size, seed=seed, world=world, cache=cache, data=people
    )
    with replayed(played, cast, model, body) as replay, bar("clients", len(cast.rows)) as advance:
        yield gathered(replay, seed, steps, lambda: advance(1))


def attacked(evidence: Evidence, view: ServerView) -> list[Figure]:
    """Figures of all attacks on a view."""
    found: list[Figure] = []
    for name, attack in ATTACKS.items():
        say(f"attack: {name}")
        found += attack(evidence, view)
    return found


def facts_of(folder: Path, played: FederateConfig, evidence: Evidence) -> dict[str, str]:
    """About the run and how attacks were made."""
    cast, attack = evidence.replay.cast, evidence.attack
    tensors = sorted(attack.by_tensor, key=lambda name: -attack.by_tensor[name])[:3]
    return {
        "run": str(folder.resolve().name),
        "algorithm": f"{played.algorithm}, {played.optim_options.optimizer}, "
        f"{played.local_epochs} local epoch(s), {played.server_options.trainable} trains",
        "replayed from": "the run's start weights and settings, one person a client",
        "people": f"{len(cast.shadow)} shadow, {len(cast.tuning)} tuning, {len(cast.target)} "
        "target: nobody is in two roles, nobody is in the run",
        "pictures of a client": f"{min(map(len, cast.rows))} to {max(map(len, cast.rows))}",
        "R2 of shapes on tuning people": f"{attack.tuning_r2:.3f}",
        "most telling tensors": ", ".join(f"{n} ({attack.by_tensor[n]:.2f})" for n in tensors),
    }


def _write(folder: Path, made: Audit) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"audit-{made.view.name}"
    content = json.dumps(made.plain(), indent=2, default=str) + "\n"
    write_bytes(stem.with_suffix(".json"), content.encode())
    title = f"Audit: what the server saw, {made.view.words}"
    lead = f"Attacks on the {made.view.name} view of {made.facts['run']}. {RELEASED}"
    html = page(title, lead, made.figures, made.facts)
    write_bytes(stem.with_suffix(".html"), html.encode())
    for figure in made.figures:
        low, high = (shown(v, figure.unit) for v in figure.interval)
        say(
            f"{figure.attack:<14} {figure.name:<14} {shown(figure.value, figure.unit)} "
            f"({low} to {high}; chance {shown(figure.chance, figure.unit)}, ceiling "
            f"{shown(figure.ceiling, figure.unit)})"
        )
    say(RELEASED)
    say(f"page: {stem.with_suffix('.html')}")
