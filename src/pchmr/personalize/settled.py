"""The shared model after other people in the users' setting: shipped, found again, or taught here.

What a headset's camera does to pictures is the same for every user, and rendered others show it
with exact labels. For the shipped start weights this was taught once, longer than a user would wait
(`python -m pchmr.workshop.setting`); any other model learns it before the first user's turn.
"""

import hashlib
import json
from pathlib import Path

from pchmr.models import HMRModel, load_checkpoint, save_checkpoint
from pchmr.models.checkpoint import SHIPPED
from pchmr.personalize.teaching import Teacher
from pchmr.progress import say
from pchmr.runs import shipped, state_sha256

NUM_OTHERS, NUM_BESIDE = 1600, 400
"""Others who are rendered to teach a setting, and beside a model that knows it."""
TAUGHT_FROM = "taught_from_sha256"


def shipped_path(model: str, setting: str) -> Path:
    """Where weights that know a setting are shipped, if they are."""
    return SHIPPED / f"{model}_{setting.lower()}.safetensors"


def shipped_model(shared: HMRModel, setting: str) -> HMRModel | None:
    """A shared model after a setting, as shipped; None for models that it was not taught from."""
    path = shipped_path(shared.name, setting)
    if not path.is_file():
        return None
    model, note = load_checkpoint(shipped(path), shared.hierarchy, image_size=shared.image_size)
    return model if note.get(TAUGHT_FROM) == state_sha256(shared.state_dict()) else None


def num_others(shared: HMRModel, setting: str) -> int:
    """How many others are rendered unless a number is asked for."""
    return NUM_OTHERS if shipped_model(shared, setting) is None else NUM_BESIDE


def settled_model(path: Path, teacher: Teacher, shared: HMRModel) -> HMRModel:
    """The shared model in the setting; itself where no setting is named.

    Args:
        path: Where one that is taught here is kept until something decides otherwise.
        teacher: How models learn.
        shared: Where learning begins.

    Raises:
        CheckpointError: The file that is there is damaged.
        ShippedFileError: The shipped file is.
    """
    options, device = teacher.options, teacher.body.v_template.device
    if teacher.others is None or not options.setting_epochs:
        return shared
    known = shipped_model(shared, options.setting)
    if known is not None:
        return known.to(device)
    note = {"settled_sha256": _key(teacher, shared)}
    if path.is_file():
        found, about = load_checkpoint(path, shared.hierarchy)
        if about.get("settled_sha256") == note["settled_sha256"]:
            return found.to(device)
    say("learning the setting from rendered others, once for all users")
    settled = teacher.settle(shared)
    save_checkpoint(path, settled, note)
    return settled


def _key(teacher: Teacher, shared: HMRModel) -> str:
    """Hash of what decides a model that is taught here."""
    options, others = teacher.options, teacher.others
    assert others is not None
    decides = [
        state_sha256(shared.state_dict()),
        others.train.content_hash,
        teacher.source.train.content_hash,
        teacher.seed,
        options.setting_epochs,
        options.optimizer,
        options.learning_rate,
        options.batch_size,
        options.rehearsal_share,
        options.most_forgotten,
    ]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()
