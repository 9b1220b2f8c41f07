"""Who said that these pictures may be used, for what and until when, and what came of them.

`consent.json` lies in the private folder of labels. It names what must go when a person withdraws,
and which federated models cannot forget them.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pchmr.config import SettingError, from_dict
from pchmr.door import FileError, read_json
from pchmr.runs import write_bytes

CONSENT = "consent.json"
SECONDS_PER_DAY = 86_400
LABELING, PERSONAL, FEDERATED = "labeling", "personal model", "federated training"


@dataclass(frozen=True, kw_only=True)
class Consent:
    """The record of one person's pictures.

    Attributes:
        who: Whose pictures these are, in their own words.
        purposes: What they are used for.
        given: Unix time of the first use.
        until: Unix time after which labels and models go; None until asked.
        personal_models: Paths of models that learned from them alone.
        federated_models: Paths or names of models that they went into with others.
    """

    who: str
    purposes: tuple[str, ...] = ()
    given: float
    until: float | None = None
    personal_models: tuple[str, ...] = field(default=())
    federated_models: tuple[str, ...] = field(default=())

    @property
    def is_over(self) -> bool:
        """Whether its time has passed."""
        return self.until is not None and time.time() > self.until


def read_consent(folder: Path) -> Consent | None:
    """The record of a folder, None where nobody wrote one.

    Raises:
        SettingError: It is damaged.
    """
    path = folder / CONSENT
    if not path.is_file():
        return None
    try:
        raw = dict(read_json(path))
        lists = ("purposes", "personal_models", "federated_models")
        plain = {name: value for name, value in raw.items() if name not in lists}
        texts = {name: tuple(map(str, raw.get(name, ()))) for name in lists}
        return replace(from_dict(Consent, plain), **texts)
    except (FileError, ValueError, TypeError) as error:
        raise SettingError(
            f"{path} is damaged ({error}): withdraw with `pchmr labels {folder} --delete all`, or "
            "remove the file to start a new record"
        ) from None


def record(
    folder: Path,
    *,
    who: str,
    purpose: str,
    keep_days: float | None = None,
    personal_models: Iterable[Path] = (),
    federated_models: Iterable[str] = (),
) -> Consent:
    """Adds a use to the record of a folder, and models that came of it.

    Raises:
        SettingError: The record is another person's, damaged, or its time has passed.
    """
    known = read_consent(folder)
    if known is not None and known.who != who:
        raise SettingError(
            f"{folder} holds pictures of {known.who}, not of {who}: give another --output, or the "
            "same --who"
        )
    if known is not None and known.is_over:
        raise SettingError(
            f"the time for which {known.who} let {folder} be kept has passed: delete it with "
            f"`pchmr labels {folder} --delete all`, and ask again"
        )
    now = float(round(time.time()))
    known = known or Consent(who=who, given=now)
    until = known.until if keep_days is None else now + keep_days * SECONDS_PER_DAY
    own = [str(path.resolve()) for path in personal_models]
    found = replace(
        known,
        until=until,
        purposes=_with(known.purposes, [purpose]),
        personal_models=_with(known.personal_models, own),
        federated_models=_with(known.federated_models, federated_models),
    )
    _write(folder, found)
    return found


def _with(known: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *more)))


def withdraw(folder: Path) -> list[str]:
    """Deletes the personal models that learned from a folder; says what went and what cannot.

    Returns:
        Lines for the person: each deleted model, and each federated model that has not unlearned
        them.
    """
    known = read_consent(folder)
    if known is None:
        return []
    lines = []
    for path in map(Path, known.personal_models):
        if path.is_file():
            path.unlink()
            lines.append(f"deleted: personal model {path}")
    _write(folder, replace(known, personal_models=()))
    return lines + [
        f"not unlearned: federated model {name} learned from these pictures; it forgets them only "
        "if it is trained again from before their first contribution"
        for name in known.federated_models
    ]


def _write(folder: Path, consent: Consent) -> None:
    write_bytes(folder / CONSENT, (json.dumps(asdict(consent), indent=2) + "\n").encode())
