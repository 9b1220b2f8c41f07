"""Teaches shipped start weights a setting, and ships what they became.

    python -m pchmr.workshop.setting --model fastmetro_xs --setting V

Others in the setting are rendered with exact labels, far more than `pchmr personalize` renders for
a model that nobody taught. What was forgotten of the source domain is held back as it is there. The
card beside the weights tells the figures.
"""

import dataclasses
import json
from dataclasses import dataclass

import torch
import tyro

from pchmr.body import load_body
from pchmr.config import Domain, FittingOptions, ModelOptions, to_json
from pchmr.data.synthetic import SyntheticRecipe
from pchmr.models import load_checkpoint, load_model, save_checkpoint
from pchmr.personalize.rehearsal import others_in, source_people
from pchmr.personalize.settled import TAUGHT_FROM, shipped_path
from pchmr.personalize.teaching import Teacher
from pchmr.progress import say
from pchmr.runs import file_sha256, state_sha256, write_bytes
from pchmr.runs.hashes import record_shipped


@dataclass(frozen=True, kw_only=True)
class SettingConfig:
    """Teach shipped start weights a setting."""

    model: str = "fastmetro_xs"
    """Which start weights."""
    setting: Domain = "V"
    """Whose people they are shown."""
    world: int = 2
    """In which they are rendered."""
    seed: int = 0
    """Order and augmentation."""
    fitting_options: FittingOptions = dataclasses.field(
        default_factory=lambda: FittingOptions(num_others=8000, num_rehearsed=4000)
    )
    """How many others, for how many passes."""


def run(config: SettingConfig) -> None:
    """Writes weights and card beside the start weights."""
    body, options = load_body(), config.fitting_options
    assert options.num_others is not None
    shared, started_from = load_model(ModelOptions(model=config.model), body.hierarchy, seed=0)
    source = source_people(body, shared.image_size, options.num_rehearsed)
    users = SyntheticRecipe(
        domain=config.setting,
        split="train",
        num_samples=1,
        image_size=shared.image_size,
        version=config.world,
    )
    others = others_in(config.setting, body, shared.image_size, options.num_others, users)
    teacher = Teacher.of(shared, body, source, others, options, config.seed)
    settled = teacher.settle(shared)
    path = shipped_path(config.model, config.setting)
    note = {TAUGHT_FROM: state_sha256(shared.state_dict()), "synthetic": True}
    save_checkpoint(path, settled, note, dtype=torch.float16)
    stored, _ = load_checkpoint(path, body.hierarchy)
    card = {
        "weights_sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "started_from": started_from,
        "others_sha256": others.train.content_hash,
        "mpjpe_mm_on_yet_others": {
            "before": others.mpjpe_mm(shared, body),
            "after": others.mpjpe_mm(stored, body),
            "num_people": len(others.test),
        },
        "mpjpe_mm_in_the_source_domain": {
            "before": source.mpjpe_mm(shared, body),
            "after": source.mpjpe_mm(stored, body),
            "num_people": len(source.test),
        },
        "config": json.loads(to_json(config)),
    }
    write_bytes(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    record_shipped()
    say(f"written: {path}")


if __name__ == "__main__":
    run(tyro.cli(SettingConfig))
