"""Runs side by side: which may be compared, and one row for every variant, mean and spread."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pchmr.config import settings_marked
from pchmr.config.marks import COMPARE
from pchmr.report.lines import outdated
from pchmr.report.records import (
    EVALUATION,
    SCORES,
    Plain,
    RunRecord,
    number,
)
from pchmr.results import CENTRALIZED, FEDERATED

BASELINES = {"mean_pose": "Mean pose", "t_pose": "T-pose"}
LABELS = {CENTRALIZED: "Centralized", FEDERATED: "Federated"}
ABSENT = "n/a"
FEW_IMAGES = 100  # below that a page says how little the held-out images are
BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Spread:
    """Mean of some runs' values, and their sample standard deviation where there are several."""

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        tail = "" if self.deviation is None else f" ± {self.deviation:.1f}"
        return f"{self.mean:.1f}{tail}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table; scores in mm."""

    label: str
    kind: str
    detail: str = ""
    scores: dict[str, Spread | None] = field(default_factory=dict)
    change: dict[str, float | None] = field(default_factory=dict)
    leaves_client: str = ABSENT
    server_sees: str = ABSENT
    bytes_up: str = ABSENT
    bytes_down: str = ABSENT
    seconds: str = ABSENT
    unfinished: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows that were scored on the same people, and the runs behind them.

    `synthetic` people are rendered; `stale` says of which other recipe they are.
    """

    title: str
    subtitle: str
    synthetic: bool
    stale: str
    rows: list[Row]
    records: list[RunRecord]

    @property
    def has_spread(self) -> bool:
        """Whether some cell is a mean over several seeds."""
        held = (cell for row in self.rows for cell in row.scores.values())
        return any(cell is not None and cell.deviation is not None for cell in held)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and spread of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    # Runs that share people and start repeat one measurement of it: no spread to speak of.
    deviation = statistics.stdev(known) if len(set(known)) > 1 else None
    return Spread(statistics.fmean(known), deviation)


def human_bytes(value: float | None) -> str:
    """Bytes in decimal units, three digits."""
    if value is None:
        return ABSENT
    place = 0
    while value >= 1000 and place < len(BYTE_UNITS) - 1:
        value, place = value / 1000, place + 1
    digits = f"{value:.0f}" if value >= 100 or place == 0 else f"{value:.3g}"
    return f"{digits} {BYTE_UNITS[place]}"


def human_seconds(value: float | None) -> str:
    """Seconds as a person reads them."""
    if value is None:
        return ABSENT
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def compare(records: list[RunRecord], current: Mapping[str, str]) -> list[Comparison]:
    """Comparisons of runs that share their test people and their start, stale ones last.

    Runs on worlds of another hash than the `current` ones, by domain, are marked as stale.
    """
    worlds: dict[str, list[RunRecord]] = {}
    for record in records:
        worlds.setdefault(record.world, []).append(record)
    found = [_comparison(members, current) for members in worlds.values()]
    return sorted(found, key=lambda comparison: bool(comparison.stale))


def _comparison(records: list[RunRecord], current: Mapping[str, str]) -> Comparison:
    settings, worlds = records[0].settings, records[0].worlds
    model = settings.get("model", "unknown model")
    data = "private people" if records[0].is_private else settings.get("data")
    data = data or f"embedded people, domain {settings.get('domain', '?')}"
    num_test = next((s for r in records if (s := r.summary.get("num_test_samples"))), None)
    shown = num_test or settings.get("num_test_samples", "?")
    return Comparison(
        title=f"{model} on {data}",
        subtitle=_over(shown, records),
        synthetic=settings.get("data") is None or bool(worlds),
        stale=outdated(worlds, current),
        rows=_rows(records),
        records=records,
    )


def _over(shown: object, records: list[RunRecord]) -> str:
    """Of how many images the scores are, and how little that is."""
    said = f"{shown} held-out image{'' if shown == 1 else 's'}"
    if not isinstance(shown, int) or shown >= FEW_IMAGES:
        return said
    widths = [number(record.summary.get("mpjpe_half_width_mm")) for record in records]
    known = [width for width in widths if width is not None]
    chance = (
        f", by chance alone MPJPE is off by up to ± {max(known):.0f} mm (95 %)" if known else ""
    )
    return f"Only {said}: too few to tell runs apart{chance}; give --num-test-samples {FEW_IMAGES}"


def _rows(records: list[RunRecord]) -> list[Row]:
    rows = [
        Row(
            label=label, kind="baseline", detail=_baseline_detail(name), scores=_mean(records, name)
        )
        for name, label in BASELINES.items()
    ]
    before = _mean(records, "before")
    rows.append(_before(records, before))
    variants: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda r: r.kind):
        if record.kind != EVALUATION:
            variants.setdefault(record.variant, []).append(record)
    labels = variant_labels(records)
    for name, members in variants.items():
        rivals = [v[0] for v in variants.values() if v[0].kind == members[0].kind]
        rows.append(_trained(labels[name], members, rivals, before))
    return rows


def variant_labels(records: list[RunRecord]) -> dict[str, str]:
    """What to call each variant: its paradigm, numbered where there are several."""
    names = {r.variant: _paradigm(r) for r in records}
    places: dict[str, int] = {}
    labels = {}
    for variant, name in names.items():
        places[name] = places.get(name, 0) + 1
        several = list(names.values()).count(name) > 1
        labels[variant] = f"{name} {places[name]}" if several else name
    return labels


def _paradigm(record: RunRecord) -> str:
    label = LABELS.get(record.kind, record.kind.capitalize())
    return f"{label}, secure" if record.settings.get("aggregation") == "secure" else label


def _mean(records: list[RunRecord], name: str) -> dict[str, Spread | None]:
    return {score: spread(record.scores(name)[score] for record in records) for score in SCORES}


def _baseline_detail(name: str) -> str:
    return "constant fitted on the training people" if name == "mean_pose" else "upright, no input"


def _before(records: list[RunRecord], scores: dict[str, Spread | None]) -> Row:
    def egress(side: str) -> str:
        evaluated = [r.egress(side) for r in records if r.kind == EVALUATION]
        return _joined([*evaluated, *(r.egress(side, "before_egress") for r in records)])

    return Row(
        label="Before",
        kind="before",
        detail=started_from(records),
        scores=scores,
        leaves_client=egress("leaves_client"),
        server_sees=egress("server_sees"),
    )


def started_from(records: list[RunRecord]) -> str:
    """What the runs started from, in words; each different start once."""
    starts: dict[str, None] = {}
    for record in records:
        start = record.recorded("started_from")
        if isinstance(start, dict):
            names = [str(start[key]) for key in ("kind", "name") if start.get(key)]
            starts[" ".join(names)] = None
    return "; ".join(starts)


def _trained(
    label: str,
    members: list[RunRecord],
    rivals: list[RunRecord],
    before: dict[str, Spread | None],
) -> Row:
    first, scores = members[0], _mean(members, "after")
    return Row(
        label=label,
        kind=first.kind,
        detail=_detail(members, rivals),
        scores=scores,
        change={name: _change(scores[name], before[name]) for name in SCORES},
        leaves_client=_joined([record.egress("leaves_client") for record in members]),
        server_sees=_joined([record.egress("server_sees") for record in members]),
        bytes_up=human_bytes(_total(members, "bytes_up")),
        bytes_down=human_bytes(_total(members, "bytes_down")),
        seconds=human_seconds(_total(members, "seconds")),
        unfinished=_unfinished(members),
    )


def _change(after: Spread | None, before: Spread | None) -> float | None:
    return None if after is None or before is None else after.mean - before.mean


def _joined(texts: list[str | None]) -> str:
    """Each different text once."""
    return "; ".join(dict.fromkeys(text for text in texts if text)) or ABSENT


def _total(members: list[RunRecord], name: str) -> float | None:
    """Mean over the runs of a variant."""
    known = [v for record in members if (v := number(record.summary.get(name))) is not None]
    return statistics.fmean(known) if known else None


def _unfinished(members: list[RunRecord]) -> str:
    open_runs = [record for record in members if not record.finished]
    if not open_runs:
        return ""
    reached, planned = max(record.reached for record in open_runs), open_runs[0].num_planned
    return f"unfinished: {reached:g} of {'?' if planned is None else f'{planned:g}'}"


def _detail(members: list[RunRecord], rivals: list[RunRecord]) -> str:
    """What was run, and whatever sets this variant apart from the others of its kind."""
    settings, said = members[0].settings, []
    if members[0].kind == FEDERATED:
        partition, algorithm = settings.get("partition", "?"), settings.get("algorithm", "?")
        said.append(
            f"{settings.get('clients_per_round', '?')} of {settings.get('num_clients', '?')} "
            f"clients, {partition} partition, {settings.get('num_rounds', '?')} rounds, {algorithm}"
        )
    elif "num_epochs" in settings:
        said.append(f"{settings['num_epochs']} epochs")
    apart = _differing(settings, [rival.settings for rival in rivals])
    said += [f"{name} {value}" for name, value in apart.items()]
    seeds = [str(record.settings.get("seed", "?")) for record in members]
    said.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}")
    return "; ".join(said)


NAMED = ("num_clients", "clients_per_round", "partition", "num_rounds", "algorithm", "num_epochs")


def _differing(settings: Plain, rivals: list[Plain]) -> Plain:
    """Settings that are not the same in all of the rivals and that no row names anyway."""
    names = [name for name in settings if name not in (*NAMED, *settings_marked(COMPARE))]
    values = {name: {json.dumps(r.get(name), default=str) for r in rivals} for name in names}
    return {name: settings[name] for name in names if len(values[name]) > 1}
