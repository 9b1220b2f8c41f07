"""`byzantine`: clients that mean harm, how many, what they send, and what stands against them."""

from dataclasses import fields, replace

from pchmr.config import FederateConfig
from pchmr.recipes.cells import AttackedRun, Cell
from pchmr.recipes.rows import EVERYONE, LAST, PER_ROUND, SKEW, Rows

ATTACKS = ("updates backwards", "updates times 100", "one value", "labels of other pictures")
FACTORS = (-1000.0, -100.0, -27.0, -10.0, -4.5, -2.0, -1.0, 4.5, 10.0, 100.0)
# The attacks of the sweep, which is made with few images.
SWEPT = (
    *(f"updates times {factor:g}" for factor in FACTORS),
    "labels of other pictures",
    "one value",
    "one direction times 4.5",
)
MILD = ("updates times -10", "updates times -2", "updates times -1", "updates times 10")
# Those of the sweep that are run first.
DECIDING = tuple(what for what in SWEPT[:-2] if what not in MILD)
SWEEP_IMAGES, SWEEP_TEST_IMAGES, SWEEP_ROUNDS, SWEEP_RATE = 240, 200, 2, 1.5e-3
SWEPT_IID, SWEPT_SKEWED, HONEST = "few-iid-", "few-skewed-", "honest"
NUM_BAD, TRIMMED = (3, 1), 3  # of ten clients
RULES = (None, "geometric-median")


def honest_row_of(id_: str) -> str:
    """Id of the row that one with bad clients is held against."""
    swept = [prefix for prefix in (SWEPT_IID, SWEPT_SKEWED) if id_.startswith(prefix)]
    return swept[0] + HONEST if swept else EVERYONE


def byzantine(rows: Rows) -> list[Cell]:
    """Attacks of every strength on few images; last, for the first seed, longer runs."""
    if rows.model != rows.scale.models[0]:
        return []
    long = _attacked(rows) if rows.seed == 0 else []
    return _sweep(few_images(rows)) + [replace(cell, stage=LAST) for cell in long]


def _attacked(rows: Rows) -> list[Cell]:
    """Ten clients, of which three, then one, mean harm: behind the gate, trimmed, or neither."""
    made = [rows.before(), rows.centralized(), rows.iid(PER_ROUND), trimmed(rows, TRIMMED)]
    for num_bad in NUM_BAD:
        for attack in ATTACKS:
            made += [
                attacked(rows, attack, num_bad, gate=True),
                attacked(rows, attack, num_bad, gate=True, num_trimmed=TRIMMED),
                attacked(rows, attack, num_bad, gate=False),
            ]
    return made


def _sweep(rows: Rows) -> list[Cell]:
    """Behind the gate alone, then by a robust rule; some also on clients of different sizes.

    The attacks that decide are made first, for every seed.
    """
    made = [swept(rows, None, 0, rule, None) for rule in RULES]
    made.append(swept(rows, None, 0, None, SKEW))
    for num_bad in NUM_BAD:
        for what in SWEPT:
            stage = int(what not in DECIDING)
            cells = [swept(rows, what, num_bad, rule, None) for rule in RULES]
            made += [replace(cell, stage=stage) for cell in cells]
    skewed = [swept(rows, what, NUM_BAD[0], None, SKEW) for what in DECIDING[2::2]]
    return made + [replace(cell, stage=1) for cell in skewed]


def attacked(
    rows: Rows, attack: str, num_bad: int, *, gate: bool, num_trimmed: int | None = None
) -> Cell:
    """All of ten clients, of which some attack, at the rate that is best for honest ones."""
    honest = trimmed(rows, num_trimmed) if num_trimmed else rows.iid(PER_ROUND)
    settings = {f.name: getattr(honest.base, f.name) for f in fields(FederateConfig)}
    run = AttackedRun(**settings, attack=attack, num_bad=num_bad, gate=gate)
    defence = f"trimmed by {num_trimmed}" if num_trimmed else "gate" if gate else "no gate"
    name = f"{attack}, {num_bad} of {PER_ROUND} clients, {defence}"
    id_ = name.replace(",", "").replace(" ", "-")
    return replace(honest, id=id_, name=name, base=run, paper=None, contest=None)


def few_images(rows: Rows) -> Rows:
    """Runs of the sweep over attacks; the learning rate is what longer ones once chose."""
    data = replace(
        rows.scale.data,
        num_samples=SWEEP_IMAGES,
        num_test_samples=SWEEP_TEST_IMAGES,
    )
    scale = replace(
        rows.scale,
        data=data,
        num_seen=SWEEP_ROUNDS * SWEEP_IMAGES,
        learning_rates=(SWEEP_RATE,),
    )
    return replace(rows, scale=scale)


def swept(
    rows: Rows, attack: str | None, num_bad: int, rule: str | None, alpha: float | None
) -> Cell:
    """Ten clients with few images, of which some attack.

    Args:
        attack: One of `SWEPT`; None for honest clients only.
        num_bad: Clients that attack.
        rule: How replies are put together; None is the weighted mean.
        alpha: Of a Dirichlet partition, whose clients differ in size; None is iid.
    """
    plain = rows.iid(PER_ROUND)
    run = plain.base
    assert isinstance(run, FederateConfig)
    run = replace(run, server_options=replace(run.server_options, aggregation_rule=rule))
    if alpha is not None:
        skew = replace(run.partition_options, alpha=alpha)
        run = replace(run, partition="dirichlet", partition_options=skew)
    if attack:
        settings = {f.name: getattr(run, f.name) for f in fields(FederateConfig)}
        run = AttackedRun(**settings, attack=attack, num_bad=num_bad)
    said = f"{attack}, {num_bad} of {PER_ROUND} clients" if attack else "honest clients only"
    dealt = "" if alpha is None else f", LDA alpha {alpha:g}"
    name = f"{SWEEP_IMAGES} images{dealt}: {said}, {rule or 'gate'}"
    what = f"{attack}-{num_bad}-bad".replace(" ", "-") if attack else HONEST
    id_ = (SWEPT_IID if alpha is None else SWEPT_SKEWED) + what + (f"-{rule}" if rule else "")
    return replace(plain, id=id_, name=name, base=run, paper=None, contest=None)


def trimmed(rows: Rows, number: int) -> Cell:
    """FedAvg on iid clients, so many replies left out at each end of every weight."""
    only, id_ = {"trimmed_replies": number}, f"{EVERYONE}-trimmed-by-{number}"
    name = f"10 of {PER_ROUND} clients, trimmed by {number}"
    return rows.federated(id_, name, PER_ROUND, servers=(only,))
