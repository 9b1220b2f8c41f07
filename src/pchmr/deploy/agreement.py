"""Whose pictures a device holds, and what was agreed: asked at joining, held against every task.

The record is `consent.json` of `pchmr.annotate.consent`, in the folder of the people.
"""

from pathlib import Path

from pchmr.annotate.consent import FEDERATED, read_consent, record
from pchmr.annotate.custody import MANIFEST, manage
from pchmr.config import DeployConfig, LabelsConfig, require


def agree(config: DeployConfig) -> None:
    """Makes sure that somebody agreed to federated training, and takes it down.

    Raises:
        SettingError: Nobody did, or the time is over.
    """
    assert config.data is not None
    known = read_consent(config.data)
    who = config.who or (known.who if known else None)
    require(
        who is not None,
        "these are pictures of people: say who agrees to federated training with --who, and until "
        "when with --keep-days",
    )
    assert who is not None
    is_agreed = known is not None and FEDERATED in known.purposes
    require(
        is_agreed or config.who is not None,
        f"{who} agreed to other uses of these pictures, not to {FEDERATED}: ask, and join with "
        "--who",
    )
    record(config.data, who=who, purpose=FEDERATED, keep_days=config.keep_days)


def is_agreed(data: Path) -> bool:
    """Whether people before a camera still let their pictures be used in a federation."""
    known = read_consent(data)
    return known is not None and FEDERATED in known.purposes and not known.is_over


def note_model(data: Path, model: str) -> None:
    """Takes down a federated model that learns from a folder's people."""
    known = read_consent(data)
    if known is not None and model not in known.federated_models:
        record(data, who=known.who, purpose=FEDERATED, federated_models=[model])


def forget_people(data: Path) -> list[str]:
    """Deletes the labels that were made on this device, and the personal models of them.

    Returns:
        Lines for the owner.
    """
    if not (data / MANIFEST).is_file():
        return [f"the people in {data} were brought by their owner and stay"]
    manage(LabelsConfig(labels=data, delete="all"))
    return [f"labels deleted: {data}"]
