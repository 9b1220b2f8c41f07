"""Answers in sentences: what a row costs against what it may, and whether chance alone says so."""

import numpy as np
import pytest

from pchmr.report.answers import Found, both, costs, rungs, state
from pchmr.results import ResultRow, Start

PEOPLE = np.linspace(-20, 20, 21)
TABLE = ("plateau", "fastmetro_xs")


def rows(name: str, *errors: float) -> list[ResultRow]:
    """A row a seed, whose people lie evenly about its error."""
    return [
        ResultRow(
            id=name,
            label=name.replace("-", " "),
            kind="federated",
            seed=seed,
            scores={"mpjpe_mm": error},
            people_mm=tuple((error + PEOPLE).tolist()),
            started_from=Start(sha256="start"),
        )
        for seed, error in enumerate(errors)
    ]


@pytest.mark.parametrize(
    ("errors", "target", "said", "met"),
    [
        ((100.5, 100.5, 100.5), 1.0, "(target 1)", True),
        ((98.0, 100.0, 103.5), 1.0, "(target 1, by its mean)", None),
        ((104.0, 104.0, 104.0), 1.0, "(target 1)", False),
        ((100.5, 100.5), 1.0, "(target 1, not yet: 2 of 3 seeds)", None),
    ],
)
def test_a_cost_says_whether_its_mean_alone_keeps_the_target(
    errors: tuple[float, ...], target: float, said: str, met: bool | None
) -> None:
    central = rows("centralized", *[100.0] * len(errors))
    ask = costs("plateau", "Against it", "centralized", {"ours": target, "absent": 1.0})
    found = ask({}, {TABLE: [*central, *rows("ours", *errors)]})
    assert found is not None and said in found.words and found.met is met
    assert found.titles == ["plateau: fastmetro_xs"] and "absent" not in found.words
    assert ask({}, {("plateau", "fastmetro_xs on domain B"): central}) is None


def test_averaged_state_is_held_against_forgotten() -> None:
    plain, averaged = "10-of-100-clients", "10-of-100-clients-state-average"
    made = [*rows(plain, 100.0, 100.0), *rows(averaged, 97.0, 97.0)]
    found = state({}, {("client-scale", "fastmetro_xs"): made})
    assert found is not None and "10 of 100 clients -3.0" in found.words and found.met is None


@pytest.mark.parametrize(
    ("first", "second", "met"),
    [(True, True, True), (True, None, None), (False, None, False), (True, False, False)],
)
def test_two_answers_are_kept_where_both_are(
    first: bool | None, second: bool | None, met: bool | None
) -> None:
    one, two = (Found(f"{met}.", [str(met)], met) for met in (first, second))
    found = both(lambda *_: one, lambda *_: two)({}, {})
    assert found == Found(f"{first}. {second}.", [str(first), str(second)], met)
    assert both(lambda *_: None, lambda *_: two)({}, {}) == two
    assert both(lambda *_: None, lambda *_: None)({}, {}) is None


def test_each_change_on_the_way_to_clients_is_told() -> None:
    errors = {"centralized": 90.0, "control-sequential": 90.0, "control-minibatch": 92.7}
    made = [row for name, error in errors.items() for row in rows(name, error, error)]
    found = rungs({}, {("ladder", "fastmetro_xs"): made})
    assert found is not None and found.titles == ["ladder: fastmetro_xs"]
    assert "the order of images alone +0.0" in found.words
    assert "a tenth of the steps +3.0" in found.words and "stay" not in found.words
    assert rungs({}, {TABLE: made}) is None
