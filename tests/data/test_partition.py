"""Partitions: every row in one client, no client empty, known shapes, clear refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pchmr.config import FederateConfig, PartitionOptions, SettingError
from pchmr.data.partition import (
    PARTITIONS,
    dirichlet,
    equal_dirichlet,
    held_back,
    label_skew,
    label_table,
    make_partition,
    natural,
    partition_hash,
    shards,
)

FORMS = {**PARTITIONS, "equal_dirichlet": equal_dirichlet}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def labels_of(num_rows: int, num_labels: int, seed: int = 0) -> np.ndarray:
    return generator(seed).integers(num_labels, size=num_rows)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(FORMS)),
    num_rows=st.integers(1, 120),
    num_labels=st.integers(1, 12),
    num_clients=st.integers(1, 40),
    seed=st.integers(0, 10_000),
)
def test_every_row_lands_in_exactly_one_client(name, num_rows, num_labels, num_clients, seed):
    labels = labels_of(num_rows, num_labels, seed)
    limit = len(np.unique(labels)) if name == "natural" else num_rows
    if num_clients > limit:
        with pytest.raises(SettingError, match="--num-clients"):
            FORMS[name](labels, num_clients, generator(seed))
        return
    parts = FORMS[name](labels, num_clients, generator(seed))
    assert len(parts) == num_clients
    assert min(len(rows) for rows in parts) >= 1
    assert all((np.diff(rows) > 0).all() for rows in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(num_rows))
    again = FORMS[name](labels, num_clients, generator(seed))
    assert partition_hash(parts) == partition_hash(again)


def test_text_labels_work():
    labels = np.array(["walk", "sit", "walk", "run", "sit", "run"])
    parts = natural(labels, 3, generator())
    assert sorted(len(set(labels[rows])) for rows in parts) == [1, 1, 1]


def test_one_client_holds_the_rows_in_order():
    for form in FORMS.values():
        parts = form(labels_of(50, 5), 1, generator())
        np.testing.assert_array_equal(parts[0], np.arange(50))


def test_iid_sizes_differ_by_one_at_most():
    sizes = [len(rows) for rows in PARTITIONS["iid"](labels_of(103, 4), 10, generator())]
    assert sorted(set(sizes)) == [10, 11]


@pytest.mark.parametrize("form", [dirichlet, equal_dirichlet])
def test_smaller_alpha_skews_more(form):
    labels = labels_of(4000, 10)
    skews = [
        label_skew(labels, form(labels, 20, generator(), alpha=alpha)).mean()
        for alpha in (100.0, 1.0, 0.1, 0.01)
    ]
    assert skews[:3] == sorted(skews[:3])
    assert skews[0] < 0.2
    assert skews[-1] > 0.75


def test_classic_dirichlet_expects_equal_shares_over_draws():
    labels = np.zeros(1000, dtype=np.int64)
    sizes = [
        [len(rows) for rows in dirichlet(labels, 4, generator(seed), alpha=1.0)]
        for seed in range(300)
    ]
    mean, spread = np.mean(sizes, axis=0), np.std(sizes, axis=0)
    # A symmetric Dirichlet over 4 with alpha 1 has mean 1/4 and variance 3/80 per share.
    np.testing.assert_allclose(mean, 250, atol=40)
    np.testing.assert_allclose(spread, 1000 * np.sqrt(3 / 80), rtol=0.15)


def test_thousand_clients_at_alpha_001():
    labels = labels_of(20_000, 20)
    parts = equal_dirichlet(labels, 1000, generator(), alpha=0.01)
    assert {len(rows) for rows in parts} == {20}
    _, table = label_table(labels, parts)
    pure = (table.max(axis=1) == 20).mean()
    assert pure > 0.8  # nearly every client sees a single label
    sizes = [len(rows) for rows in dirichlet(labels, 1000, generator(), alpha=0.01)]
    assert min(sizes) >= 1
    assert sum(sizes) == 20_000


def test_tiny_alpha_does_not_underflow():
    parts = dirichlet(labels_of(200, 5), 20, generator(), alpha=1e-300)
    assert sum(map(len, parts)) == 200


def test_natural_keeps_scenes_whole_and_volumes_skewed():
    labels = np.repeat(np.arange(12), np.arange(1, 13))
    parts = natural(labels, 12, generator())
    assert sorted(len(rows) for rows in parts) == list(range(1, 13))
    merged = natural(labels, 5, generator())
    owners = [set(labels[rows]) for rows in merged]
    assert sum(map(len, owners)) == 12


def test_shards_give_few_labels_each():
    labels = np.repeat(np.arange(10), 100)
    _, table = label_table(labels, shards(labels, 10, generator(), shards_per_client=2))
    assert (table > 0).sum(axis=1).max() <= 2
    assert table.sum() == 1000


def config_of(**changes) -> FederateConfig:
    return FederateConfig(**{"num_clients": 4, "clients_per_round": 2, "seed": 3} | changes)


def test_make_partition_reads_the_column_by_name():
    columns = {"action": labels_of(80, 4), "scene": np.repeat(np.arange(8), 10)}
    parts = make_partition(config_of(partition="natural"), columns, 80)
    assert all(len(rows) % 10 == 0 for rows in parts)
    chosen = PartitionOptions(partition_label="scene", alpha=0.1)
    other = make_partition(config_of(partition="dirichlet", partition_options=chosen), columns, 80)
    assert partition_hash(parts) != partition_hash(other)
    same = make_partition(config_of(partition="natural"), columns, 80)
    assert partition_hash(parts) == partition_hash(same)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition_options": PartitionOptions(partition_label="mood")}, "no such column"),
        ({"partition": "natural", "num_clients": 30}, "natural clients"),
        ({"partition": "iid", "num_clients": 81}, "more than the 80 samples"),
    ],
)
def test_make_partition_refuses(changes, message):
    columns = {"action": labels_of(80, 4), "scene": np.repeat(np.arange(8), 10)}
    with pytest.raises(SettingError, match=message):
        make_partition(config_of(**{"partition": "dirichlet"} | changes), columns, 80)


def test_options_refuse_alpha_and_what_nobody_reads():
    with pytest.raises(SettingError, match="--alpha"):
        PartitionOptions(alpha=0.0)
    with pytest.raises(SettingError, match="--alpha is read by dirichlet only"):
        config_of(partition="iid", partition_options=PartitionOptions(alpha=0.1))
    with pytest.raises(SettingError, match="--alpha"):
        dirichlet(labels_of(10, 2), 2, generator(), alpha=-1.0)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.1, 1.0, 100.0])
def test_agrees_with_flwr_datasets_in_distribution(alpha):
    """The oracle draws other numbers; mean skew and spread of volumes must be alike."""
    reason = "test-only oracle: pip install flwr-datasets"
    partitioner = pytest.importorskip("flwr_datasets.partitioner", reason=reason)
    datasets = pytest.importorskip("datasets", reason=reason)
    labels, clients, draws = labels_of(4000, 10), 10, 40
    columns = {"label": labels, "row": np.arange(len(labels))}
    table = datasets.table.InMemoryTable.from_pydict(columns)
    ours, theirs = [], []
    for seed in range(draws):
        oracle = partitioner.DirichletPartitioner(
            clients, "label", alpha, min_partition_size=0, self_balancing=False, seed=seed
        )
        oracle.dataset = datasets.Dataset(table, fingerprint="oracle")
        found = [np.asarray(oracle.load_partition(i)["row"], dtype=int) for i in range(clients)]
        theirs.append((label_skew(labels, found).mean(), np.std([len(rows) for rows in found])))
        parts = dirichlet(labels, clients, generator(seed), alpha=alpha)
        ours.append((label_skew(labels, parts).mean(), np.std([len(rows) for rows in parts])))
    np.testing.assert_allclose(np.mean(ours, axis=0), np.mean(theirs, axis=0), rtol=0.15)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.9])
def test_every_client_holds_rows_back_and_trains_on_some(share: float) -> None:
    parts = [np.arange(40), np.arange(40, 42), np.array([42])]
    learned, held = held_back(parts, share, seed=3)
    for rows, own, back in zip(parts, learned, held, strict=True):
        assert sorted([*own, *back]) == rows.tolist()
        assert len(own) and (len(back) or len(rows) == 1)
    assert abs(len(held[0]) - share * 40) <= 1
    again = held_back(parts, share, seed=3)[1]
    np.testing.assert_array_equal(held[0], again[0])
    assert not np.array_equal(held[0], held_back(parts, share, seed=4)[1][0])
