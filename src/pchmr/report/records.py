"""Run folders as the report reads them: whatever a finished, killed or damaged run left behind.

Nothing here raises on the content of a run; what cannot be read is absent and shows as n/a.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pchmr.config import settings_marked
from pchmr.config.marks import COMPARE, SCORED
from pchmr.data.errors import InputError
from pchmr.report.files import folders_of, is_file, read_json, read_lines
from pchmr.results import CENTRALIZED, FEDERATED
from pchmr.results import number as figure_of
from pchmr.runs import CONFIG, ENVIRONMENT, METRICS, START, SUMMARY

SCORES = {"mpjpe_mm": "MPJPE", "pa_mpjpe_mm": "PA-MPJPE", "mpvpe_mm": "MPVPE"}
EVALUATION = "evaluation"

Scores = dict[str, float | None]
Plain = Mapping[str, object]
"""What a JSON object of a run holds: anything."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run folder. `summary` is empty for a run that did not finish.

    `start` holds what was known before the first round: scores and weights to start from.
    """

    path: Path
    config: Plain = field(default_factory=dict)
    environment: Plain = field(default_factory=dict)
    start: Plain = field(default_factory=dict)
    rows: list[Plain] = field(default_factory=list)
    summary: Plain = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the run wrote its summary, which it does last."""
        return bool(self.summary)

    @property
    def kind(self) -> str:
        """What the run did: centralized, federated or evaluation."""
        known = self.summary.get("kind")
        if isinstance(known, str):
            return known
        if "num_rounds" in self.config:
            return FEDERATED
        return CENTRALIZED if "num_epochs" in self.config else EVALUATION

    @property
    def settings(self) -> Plain:
        """The config without its levels."""
        flat: dict[str, object] = {}
        for name, value in self.config.items():
            flat |= value if isinstance(value, dict) else {name: value}
        return flat

    @property
    def is_private(self) -> bool:
        """Whether people of the run stood before a camera; so said version 0.1 of no run."""
        known = self.recorded("private")
        return bool(self.settings.get("data") and not self.worlds) if known is None else bool(known)

    @property
    def num_planned(self) -> float | None:
        """Rounds or epochs that the config asks for."""
        settings = self.settings
        return number(settings.get("num_rounds")) or number(settings.get("num_epochs"))

    @property
    def worlds(self) -> dict[str, str]:
        """Hash of each rendered world that the run's people are from, as the run recorded it."""
        return worlds_of(_dict(self.recorded("recipe")))

    def recorded(self, name: str) -> object:
        """A value of the summary, or of what the run wrote before it began."""
        for held in (self.summary, self.start, self.environment):
            if held.get(name) is not None:
                return held[name]
        return None

    @property
    def world(self) -> str:
        """Equal for runs whose scores may stand in one table."""
        settings = self.settings
        values = {name: settings.get(name) for name in sorted(settings_marked(SCORED))}
        return json.dumps([values, self.worlds], sort_keys=True, default=str)

    @property
    def variant(self) -> str:
        """Equal for runs that differ only in their seed."""
        compared = {n: v for n, v in self.settings.items() if n not in settings_marked(COMPARE)}
        return json.dumps([self.kind, compared], sort_keys=True, default=str)

    def points(self, score: str) -> list[tuple[float, float]]:
        """(round or epoch, mm) wherever the run recorded the score; 0 is the start."""
        found = {}
        if (before := self.scores("before")[score]) is not None:
            found[0.0] = before
        for row in self.rows:
            at, value = number(row.get("round", row.get("epoch"))), number(row.get(score))
            if at is not None and value is not None:
                found[at] = value
        return sorted(found.items())

    @property
    def reached(self) -> float:
        """The last round or epoch with a row."""
        places = (number(row.get("round", row.get("epoch"))) for row in self.rows)
        return max((at for at in places if at is not None), default=0.0)

    def scores(self, name: str) -> Scores:
        """Scores `before`, `after`, or of a baseline (`mean_pose`, `t_pose`); None is unknown.

        After a run that did not finish come the last scores it recorded.
        """
        held: object = self.recorded(name) or _dict(self.recorded("baselines")).get(name)
        if name == "after" and not held:
            scored = [
                row for row in self.rows if any(number(row.get(s)) is not None for s in SCORES)
            ]
            held = scored[-1] if scored else {}
        return {score: number(_dict(held).get(score)) for score in SCORES}

    def egress(self, side: str, record: str = "egress") -> str | None:
        """What the run recorded as `leaves_client` or `server_sees`.

        The record `before_egress` is about the weights as they were before the run.
        """
        value = _dict(self.recorded(record)).get(side)
        return None if value is None else str(value)


def worlds_of(recipe: object) -> dict[str, str]:
    """Hash of each rendered world that a recorded recipe names."""
    return {str(name): str(sha) for name, sha in _dict(_dict(recipe).get("worlds")).items()}


def number(value: object) -> float | None:
    """The value as a float; None where it is no number that can be a figure."""
    known = figure_of(value)
    return None if known is None else float(known)


def number_list(value: object) -> list[float]:
    """The numbers of a list; none where one of its values is no figure."""
    found = [number(v) for v in value] if isinstance(value, list) else []
    return [] if None in found else [v for v in found if v is not None]


def _dict(value: object) -> Plain:
    return value if isinstance(value, dict) else {}


def read_record(folder: Path) -> RunRecord:
    """Whatever can be read of a run folder."""
    return RunRecord(
        path=folder,
        config=_dict(read_json(folder, CONFIG)),
        environment=_dict(read_json(folder, ENVIRONMENT)),
        start=_dict(read_json(folder, START)),
        rows=[row for row in read_lines(folder, METRICS) if isinstance(row, dict)],
        summary=_dict(read_json(folder, SUMMARY)),
    )


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The run folders among the paths and two levels below them, in order, each once.

    Links below the paths are not followed.

    Raises:
        InputError: A path does not exist, or none of them leads to a run.
    """
    paths = list(paths)
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path} is no folder: give a run folder, as --output of a run names")
        below = folders_of(path, ("*", "*/*"))
        found |= dict.fromkeys(folder for folder in (path, *below) if _is_run(folder))
    if not found:
        names = ", ".join(map(str, paths))
        raise InputError(f"no run in {names}: make one with `pchmr demo` or `pchmr federate`")
    return list(found)


def _is_run(folder: Path) -> bool:
    return any(is_file(folder, name) for name in (CONFIG, METRICS))
