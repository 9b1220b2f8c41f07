"""The figures of a summary: constants beside a user's scores, means over users, words for them."""

from collections.abc import Mapping
from functools import partial
from statistics import mean
from typing import Any

from torch import Tensor

from pchmr.baselines import mean_mesh
from pchmr.body import BodyModel
from pchmr.data.sample import PeopleDataset, Sample, Subset
from pchmr.door import Json
from pchmr.evaluation import Scores, score
from pchmr.personalize.users import User, usable

SCORED = (
    "before",
    "settled",
    "after",
    "before_truth",
    "settled_truth",
    "after_truth",
    "constant_truth",
    "constant_labels_truth",
)
AGAINST_LABELS = "against held-out labels of the same annotator: consistency, not accuracy"


def named(moments: Mapping[str, Mapping[str, Scores]]) -> Json:
    """Scores under the names of a summary: against labels, and against the truth if it is known."""
    names = {"labels": "", "truth": "_truth"}
    return {
        f"{when}{names[kind]}": scores.row()
        for when, found in moments.items()
        for kind, scores in found.items()
    }


def constants(body: BodyModel, user: User) -> Json:
    """Scores against the truth of one mesh for every picture; nothing where there is no truth.

    `constant_truth` is fitted on the truth of all training pictures, which is more than the model
    sees; `constant_labels_truth` on the labels that may teach.
    """
    if not user.truth:
        return {}
    fitted: dict[str, PeopleDataset] = {"constant_truth": user.truth["train"]}
    rows = usable(user.train, use_review=True)
    if len(rows):
        fitted["constant_labels_truth"] = Subset(user.train, rows)
    return {
        name: score(partial(_repeated, mean_mesh(body, people)), body, user.truth["test"]).row()
        for name, people in fitted.items()
    }


def _repeated(mesh: Tensor, sample: Sample) -> Tensor:
    return mesh.expand(len(sample), -1, -1)


def gathered(rows: Mapping[str, Mapping[str, Any]]) -> Json:
    """Means over users of every score that they have, and of forgetting."""
    found: Json = {}
    for name in SCORED:
        scores = [row[name] for row in rows.values() if name in row]
        if scores:
            found[name] = {key: _mean([one[key] for one in scores]) for key in scores[0]}
    found["forgetting"] = _mean([row["forgetting"] for row in rows.values()])
    return found


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def sentence(row: Mapping[str, Any]) -> str:
    """MPJPE before and after, forgetting."""
    parts = []
    for name, words in (("", "against labels"), ("_truth", "against the truth")):
        if f"before{name}" in row:
            before, after = (row[f"{when}{name}"]["mpjpe_mm"] for when in ("before", "after"))
            parts.append(f"{words} {before:.1f} -> {after:.1f} mm")
    if "constant_truth" in row:
        parts.append(f"constant {row['constant_truth']['mpjpe_mm']:.1f} mm")
    parts.append(f"source {100 * row['forgetting']:+.1f} %")
    return f"MPJPE {', '.join(parts)}"
