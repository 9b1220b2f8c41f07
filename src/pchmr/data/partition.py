"""Deals the rows of a data set to clients; every row lands in exactly one client.

Pure NumPy: `(labels, num_clients, rng) -> index arrays`. A partition is a function of labels and
generator only, so a seed reproduces it. No client stays empty and no row is dropped: where a draw
leaves a client without rows, the largest client gives one away.
"""

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int, Shaped

from pchmr import choices
from pchmr.config import FederateConfig, PartitionOptions, require
from pchmr.config.options import LARGEST_ALPHA
from pchmr.seeds import derive_seed

Labels = Shaped[np.ndarray, " rows"]
Rows = list[np.ndarray]


def iid(labels: Labels, num_clients: int, rng: np.random.Generator) -> Rows:
    """Deals rows at random; client sizes differ by at most one."""
    _require_enough(labels, num_clients)
    return _split(_even_owners(len(labels), num_clients, rng), num_clients, rng)


def dirichlet(
    labels: Labels,
    num_clients: int,
    rng: np.random.Generator,
    *,
    alpha: float = 1.0,
    equal_sizes: bool = False,
) -> Rows:
    """Splits each label over the clients by a Dirichlet draw; sizes fall as they do, or are equal.

    Source: Yurochkin et al. 2019, arXiv 1905.12022, section 4.1 (LDA in its classic form).
    """
    if equal_sizes:
        return equal_dirichlet(labels, num_clients, rng, alpha=alpha)
    _require_enough(labels, num_clients)
    _require_alpha(alpha)
    owner = np.empty(len(labels), dtype=np.int64)
    classes, codes = np.unique(labels, return_inverse=True)
    for code in range(len(classes)):
        rows = rng.permutation(np.flatnonzero(codes == code))
        shares = _dirichlet(np.full(num_clients, alpha), rng)
        cuts = np.round(np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
        counts = np.diff(cuts, prepend=0, append=len(rows))
        owner[rows] = np.repeat(np.arange(num_clients), counts)
    return _split(owner, num_clients, rng)


def equal_dirichlet(
    labels: Labels, num_clients: int, rng: np.random.Generator, *, alpha: float = 1.0
) -> Rows:
    """Gives every client its own label mixture and the same number of rows (within one).

    Works for many clients and small alpha, where the classic form leaves most clients empty. A
    client whose labels are used up goes on with what is left. Here alpha is the concentration of
    the whole mixture, drawn from Dir(alpha * label frequencies), so one alpha skews more than in
    the classic form.

    Source: Hsu et al. 2019, arXiv 1909.06335, section 3.
    """
    _require_enough(labels, num_clients)
    _require_alpha(alpha)
    classes, codes = np.unique(labels, return_inverse=True)
    piles = [rng.permutation(np.flatnonzero(codes == code)) for code in range(len(classes))]
    left = np.array([len(pile) for pile in piles])
    prior = left / left.sum()
    sizes = np.bincount(_even_owners(len(labels), num_clients, rng), minlength=num_clients)
    owner = np.empty(len(labels), dtype=np.int64)
    for client in rng.permutation(num_clients):
        mixture = _dirichlet(alpha * prior, rng)
        for code, count in enumerate(_draw(mixture, left, int(sizes[client]), rng)):
            owner[piles[code][left[code] : left[code] + count]] = client
    return _split(owner, num_clients, rng)


def natural(labels: Labels, num_clients: int, rng: np.random.Generator) -> Rows:
    """Keeps every scene, clip or subject whole; volumes differ as they do in the data.

    With as many clients as labels, each label is a client. With fewer clients, the labels beyond
    the first of each client go to random clients.

    Raises:
        SettingError: More clients than labels.
    """
    _require_enough(labels, num_clients)
    classes, codes = np.unique(labels, return_inverse=True)
    require(
        num_clients <= len(classes),
        f"--num-clients {num_clients} is more than the {len(classes)} natural clients of the "
        "data; lower it or choose another --partition-label",
    )
    owner_of_class = rng.integers(num_clients, size=len(classes))
    owner_of_class[rng.permutation(len(classes))[:num_clients]] = np.arange(num_clients)
    return _split(owner_of_class[codes], num_clients, rng)


def shards(
    labels: Labels, num_clients: int, rng: np.random.Generator, *, shards_per_client: int = 2
) -> Rows:
    """Sorts rows by label, cuts them into equal shards, deals each client a few.

    Source: McMahan et al. 2017, arXiv 1602.05629, section 3 (pathological non-IID).
    """
    _require_enough(labels, num_clients)
    num_shards = num_clients * shards_per_client
    order = np.lexsort((rng.random(len(labels)), np.unique(labels, return_inverse=True)[1]))
    owner_of_shard = rng.permutation(num_shards) // shards_per_client
    owner = np.empty(len(labels), dtype=np.int64)
    owner[order] = owner_of_shard[np.arange(len(labels)) * num_shards // len(labels)]
    return _split(owner, num_clients, rng)


PARTITIONS: Mapping[str, Callable[..., Rows]] = choices.Loaded(choices.PARTITIONS)
LABEL = "partition_label"


def label_of(partition: str, options: PartitionOptions) -> str | None:
    """The column that decides who gets which rows; None where none does."""
    return options.partition_label or choices.PARTITIONS[partition].label


def make_partition(
    config: FederateConfig, columns: Mapping[str, np.ndarray], num_samples: int
) -> Rows:
    """The rows of each client as the config asks, drawn from its seed.

    Args:
        config: Which partition, of how many clients.
        columns: Label columns of the data set, one value a row.
        num_samples: Rows to deal.

    Raises:
        SettingError: More clients than rows, or a label column that the data set lacks.
    """
    options = config.partition_options
    name = label_of(config.partition, options)
    require(
        name is None or name in columns,
        f"--partition-label {name}: the data set has no such column; known: "
        f"{', '.join(sorted(columns))}",
    )
    labels = np.arange(num_samples) if name is None else np.asarray(columns[name])
    rng = np.random.default_rng(derive_seed(config.seed, "partition", config.partition))
    reads = choices.PARTITIONS[config.partition].reads
    own = {name: getattr(options, name) for name in reads if name != LABEL}
    return PARTITIONS[config.partition](labels, config.num_clients, rng, **own)


def held_back(parts: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """What each client trains on, and the share of its rows that it is scored on.

    A client with two rows or more holds at least one of either; one with a single row trains on it.
    """
    learned, held = [], []
    for client, rows in enumerate(parts):
        rng = np.random.default_rng(derive_seed(seed, "held back", client))
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        mixed = rng.permutation(rows)
        learned.append(np.sort(mixed[count:]))
        held.append(np.sort(mixed[:count]))
    return learned, held


def partition_hash(parts: Rows) -> str:
    """SHA-256 over the rows of every client, in client order."""
    digest = hashlib.sha256()
    for rows in parts:
        digest.update(len(rows).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    return digest.hexdigest()


def label_table(labels: Labels, parts: Rows) -> tuple[np.ndarray, Int[np.ndarray, "client label"]]:
    """The labels that occur, and how many rows of each every client holds."""
    classes, codes = np.unique(labels, return_inverse=True)
    counts = [np.bincount(codes[rows], minlength=len(classes)) for rows in parts]
    return classes, np.stack(counts)


def label_skew(labels: Labels, parts: Rows) -> Float[np.ndarray, " client"]:
    """Total variation distance between each client's label mixture and the whole, 0 to 1."""
    _, counts = label_table(labels, parts)
    mixtures = counts / counts.sum(axis=1, keepdims=True)
    whole = counts.sum(axis=0) / counts.sum()
    return 0.5 * np.abs(mixtures - whole).sum(axis=1)


def _require_enough(labels: Labels, num_clients: int) -> None:
    require(num_clients >= 1, "--num-clients must be at least 1")
    require(
        num_clients <= len(labels),
        f"--num-clients {num_clients} is more than the {len(labels)} samples: every client needs "
        "one; lower it or raise --num-samples",
    )


def _require_alpha(alpha: float) -> None:
    require(
        0 < alpha <= LARGEST_ALPHA,
        f"--alpha {alpha} must be positive and at most {LARGEST_ALPHA:g}; small values skew more, "
        "100 is near iid",
    )


def _even_owners(
    num_rows: int, num_clients: int, rng: np.random.Generator
) -> Int[np.ndarray, " rows"]:
    return rng.permutation(num_rows) % num_clients


def _dirichlet(
    concentration: Float[np.ndarray, " k"], rng: np.random.Generator
) -> Float[np.ndarray, " k"]:
    """A Dirichlet draw; a concentration too small for floating point gives a one-hot draw."""
    shares = rng.dirichlet(concentration)
    if not np.isfinite(shares).all() or shares.sum() <= 0:
        shares = np.zeros(len(concentration))
        shares[rng.choice(len(concentration), p=concentration / concentration.sum())] = 1.0
    return shares


def _draw(
    mixture: Float[np.ndarray, " k"],
    left: Int[np.ndarray, " k"],
    size: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " k"]:
    """Draws `size` rows by label without replacement; lowers `left` by what was taken."""
    taken = np.zeros_like(left)
    while (missing := size - int(taken.sum())) > 0:
        weights = np.where(left > 0, mixture, 0.0)
        if weights.sum() <= 0:
            weights = left.astype(np.float64)
        wanted = rng.multinomial(missing, weights / weights.sum())
        given = np.minimum(wanted, left)
        taken += given
        left -= given
    return taken


def _split(owner: Int[np.ndarray, " rows"], num_clients: int, rng: np.random.Generator) -> Rows:
    """Ascending rows of each client, after empty clients were given a row of the largest."""
    counts = np.bincount(owner, minlength=num_clients)
    for client in np.flatnonzero(counts == 0):
        giver = int(counts.argmax())
        owner[rng.choice(np.flatnonzero(owner == giver))] = client
        counts[giver] -= 1
        counts[client] += 1
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.cumsum(counts)[:-1])
